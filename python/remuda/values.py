"""Reading what users write: numbers, addresses, names; and what they may have meant.

The arbiter imports this, and its memory counts: what is seldom needed (inspect 1.4 MiB, difflib
0.2 MiB, measured) is imported where it is needed.
"""

# pathlib would cost the arbiter 0.9 MiB.
# ruff: noqa: PTH123

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    # A host and port, the path of a unix socket, or the number of an open descriptor.
    Address: TypeAlias = tuple[str, int] | str | int

# Seconds and counts are handed to 32-bit fields; nobody waits or counts that far.
MOST = 2**31 - 1
KIB, MIB, GIB = 2**10, 2**20, 2**30


def parse_address(text: str) -> Address:
    """What an address of `bind` means: (host, port), the path of a unix socket, or a descriptor.

    Raises ValueError with the rest of a sentence that begins with the setting's name.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = path.removeprefix("//")
        if not path:
            raise ValueError(f"must name a path after unix:, not {text!r}")
        # sun_path has 108 bytes, with a NUL at the end (unix(7)); macOS has 104.
        if len(os.fsencode(path)) > 103:
            raise ValueError(f"has a unix socket path of more than 103 bytes: {path}")
        return path
    if text.startswith("fd://"):
        number = whole_number(text.removeprefix("fd://"))
        if number is None or number > MOST:
            raise ValueError(f"must be fd:// and the number of an open descriptor, not {text!r}")
        return number
    rest = text.removeprefix("tcp://")
    if rest.startswith("["):
        host, bracket, rest = rest[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise ValueError(f"must have IPv6 addresses as [::1]:8000, not {text!r}")
        port = rest[1:]
    elif rest.count(":") > 1:
        raise ValueError(f"must have IPv6 addresses in brackets, as [::1]:8000, not {text!r}")
    elif rest.isascii() and rest.isdigit():
        raise ValueError(f"must be HOST:PORT, not {text!r}: did you mean :{rest}?")
    else:
        host, _, port = rest.partition(":")
    if "/" in host or " " in host:
        raise ValueError(f"must be HOST:PORT or unix:PATH, not {text!r}")
    number = whole_number(port) if port else 8000
    if number is None or number > 65535:
        raise ValueError(f"must have a port from 0 to 65535, not {port!r} (in {text!r})")
    return (host or "0.0.0.0").lower(), number


def is_token(text: str) -> bool:
    """Whether `text` can be the name of a header (RFC 9110 section 5.6.2)."""
    return bool(text) and all(c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~") for c in text)


def cpus() -> int:
    """How many processors this process can use, a container's share included; at least 1."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        count = os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return count  # no cgroup v2, or not limited by one
    if quota != "max" and int(period) > 0:
        count = min(count, max(1, -(-int(quota) // int(period))))
    return count


def takes_positional(function: Callable[..., object], count: int) -> bool:
    """Whether `function` can be called with `count` positional arguments."""
    import inspect

    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return True  # a builtin that does not say: the call will
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def did_you_mean(word: str, words: Iterable[str], cutoff: float = 0.7) -> str | None:
    """The one of `words` that `word` is most like, if one is; `cutoff` 1 is the same word."""
    import difflib

    close = difflib.get_close_matches(word, [*words], n=1, cutoff=cutoff)
    return close[0] if close else None


def import_object(path: str) -> object:
    """What package.module.name names. Raises ValueError as `parse_address` does."""
    import importlib

    module, _, name = path.strip().rpartition(".")
    if not module:
        raise ValueError(
            f"must be a function, or the name of one as package.module.function, not {path!r}"
        )
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot be imported: {error}") from None


def whole_number(text: str) -> int | None:
    """The number that decimal digits spell; None when there is anything else."""
    # int() would take "+5", "1_0" and other alphabets' digits as well.
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def meant(word: str | None, words: tuple[str, ...]) -> str:
    """The end of a message that suggests one of `words`, or nothing."""
    close = did_you_mean(word, words) if word else None
    return f": did you mean {close}?" if close else ""


def either(words: tuple[str, ...]) -> str:
    """The words as "a, b or c"."""
    return " or ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]


def quoted(value: object) -> str:
    """A wrong value for a message: itself if it is short, else its type."""
    if isinstance(value, (str, int, float, type(None))):
        text = repr(value)
        return text if len(text) <= 80 else text[:77] + "..."
    return f"a {type(value).__name__}"


def plain(value: object) -> str:
    """A value for the documentation and --print-config."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return str(value) if value != "" else '""'


# Parts of names of variables that hold secrets.
_SECRET = ("KEY", "SECRET", "TOKEN", "PASS", "PWD", "CREDENTIAL", "DSN")


def without_secret(text: str) -> str:
    """KEY=VALUE with stars for what looks like a secret: by its name, or a password in a URL.

    Rather one too many than one too few.
    """
    key, equals, value = text.partition("=")
    if any(part in key.upper() for part in _SECRET):
        return f"{key}{equals}***"
    scheme, separator, rest = value.partition("://")
    # RFC 3986 section 3.2.1: user:password@host. A password may have an @ in it as it is.
    user, at, host = rest.rpartition("@")
    if separator and at and ":" in user:
        name = user.partition(":")[0]
        return f"{key}{equals}{scheme}{separator}{name}:***@{host}"
    return text


def in_bytes(number: int) -> str:
    """A size in the largest unit that leaves nothing over."""
    for size, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if number >= size and number % size == 0:
            return f"{number // size} {unit}"
    return f"{number} bytes"
