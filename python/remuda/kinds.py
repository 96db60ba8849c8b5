"""The kinds of value that a setting can have: how each is read, checked and shown.

A kind turns what a user wrote into a value, whether it came as text (command line, environment) or
as an object (configuration file). It raises ValueError with the rest of a sentence that begins
with the setting's name: "must be a whole number from 1 to 4096, not 'many'".
"""

from __future__ import annotations

import os

from .values import (
    GIB,
    KIB,
    MIB,
    MOST,
    cpus,
    either,
    import_object,
    in_bytes,
    is_token,
    meant,
    parse_address,
    plain,
    quoted,
    takes_positional,
    whole_number,
    without_secret,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Generic, TypeAlias, TypeVar

    T = TypeVar("T", covariant=True)

    class Typed(Generic[T]):
        """Has a type parameter, for the type checker only."""

    Hook: TypeAlias = Callable[..., Any]
else:
    T = None

    class Typed:
        """Has a type parameter, for the type checker only: typing costs 0.7 MiB."""

        def __class_getitem__(cls, _item):
            return cls


_UNITS = {"k": KIB, "m": MIB, "g": GIB}
_SUFFIXES = {"": 1, "b": 1, **{u + b: n for u, n in _UNITS.items() for b in ("", "b", "ib")}}
_YES = ("true", "yes", "on", "1", "y")
_NO = ("false", "no", "off", "0", "n")


class Kind(Typed[T]):
    """How the value of a setting is read. `metavar` stands for it in the help."""

    metavar = "STRING"
    # A list grows with each use of its flag; any other value is replaced.
    is_list = False
    # The value that the flag itself stands for, where it takes none.
    switch: bool | None = None

    def convert(self, value: object) -> T:
        """The setting's value, from text or from a configuration file's object.

        Raises ValueError with the rest of a sentence that begins with the setting's name.
        """
        raise NotImplementedError

    def split(self, text: str) -> object:
        """What an environment variable's text means, where one text stands for several values."""
        return [part for part in text.split(",") if part.strip()] if self.is_list else text

    def takes(self) -> str:
        """What values there are, for the documentation."""
        raise NotImplementedError

    def show(self, value: object) -> str:
        """A value as text, for the documentation and --print-config."""
        return plain(value)


class Text(Kind[str]):
    """Any text without control characters."""

    def __init__(self, metavar: str = "STRING", *, empty: bool = True) -> None:
        self.metavar = metavar
        self.empty = empty

    def convert(self, value: object) -> str:
        if not isinstance(value, (str, os.PathLike)):
            raise ValueError(f"must be text, not {quoted(value)}")
        text = os.fspath(value)
        if not isinstance(text, str):
            raise ValueError(f"must be text, not {quoted(value)}")
        text = text.strip()
        if not (text or self.empty):
            raise ValueError("must not be empty")
        if any(ord(c) < 0x20 or ord(c) == 0x7F for c in text):
            raise ValueError(f"must not have control characters in it: {text!r}")
        return text

    def takes(self) -> str:
        return "a path" if self.metavar in ("FILE", "DIR") else "text"


class Maybe(Kind["T | None"]):
    """Another kind, or nothing: None in a Python file, "" elsewhere."""

    def __init__(self, kind: Kind[T]) -> None:
        self.kind = kind
        self.metavar = kind.metavar

    def convert(self, value: object) -> T | None:
        nothing = value is None or (isinstance(value, str) and not value.strip())
        return None if nothing else self.kind.convert(value)

    def takes(self) -> str:
        return self.kind.takes()

    def show(self, value: object) -> str:
        return plain(value) if value is None else self.kind.show(value)


class Choice(Kind[str]):
    """One of a few words."""

    def __init__(self, *words: str, metavar: str = "MODE") -> None:
        self.words = words
        self.metavar = metavar

    def convert(self, value: object) -> str:
        word = value.strip().lower() if isinstance(value, str) else None
        if word not in self.words:
            raise ValueError(
                f"must be {either(self.words)}, not {quoted(value)}{meant(word, self.words)}"
            )
        return word

    def takes(self) -> str:
        return ", ".join(f"`{word}`" for word in self.words)


class Switch(Kind[bool]):
    """True or false. Its flag takes no value: it stands for `flag_means`."""

    metavar = ""

    def __init__(self, flag_means: bool = True) -> None:
        self.switch = flag_means

    def convert(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        word = value.strip().lower() if isinstance(value, str) else None
        if word in _YES:
            return True
        if word in _NO:
            return False
        raise ValueError(f"must be true or false, not {quoted(value)}")

    def takes(self) -> str:
        return "true or false"


class Count(Kind[int]):
    """A whole number from `least` to `most`."""

    metavar = "INT"

    def __init__(self, least: int = 0, most: int = MOST) -> None:
        self.least = least
        self.most = most

    def convert(self, value: object) -> int:
        number = whole_number(value) if isinstance(value, str) else value
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError(f"must be {self.takes()}, not {quoted(value)}")
        if not self.least <= number <= self.most:
            raise ValueError(f"must be {self.takes()}, not {number}")
        return number

    def takes(self) -> str:
        if self.most == MOST:
            return f"a whole number, {self.least} or more"
        return f"a whole number from {self.least} to {self.most}"


class Workers(Count):
    """How many workers: a number, or `auto` for what the processors suggest."""

    def convert(self, value: object) -> int:
        if isinstance(value, str) and value.strip().lower() == "auto":
            return min(2 * cpus() + 1, self.most)
        return super().convert(value)

    def takes(self) -> str:
        return f"{super().takes()}, or auto"


class Seconds(Kind[float]):
    """A time in seconds; whole numbers stay whole."""

    metavar = "SECONDS"

    def __init__(self, least: float = 0) -> None:
        self.least = least

    def convert(self, value: object) -> float:
        number: object = value
        if isinstance(value, str):
            whole, point, part = value.strip().partition(".")
            number = whole_number(whole)
            if point:
                fraction = whole_number(part)
                number = None if number is None or fraction is None else float(f"{whole}.{part}")
        if not isinstance(number, (int, float)) or isinstance(number, bool):
            raise ValueError(f"must be {self.takes()}, not {quoted(value)}")
        if not self.least <= number <= MOST:  # false for a NaN, too
            raise ValueError(f"must be {self.takes()}, not {number}")
        return int(number) if number == int(number) else number

    def takes(self) -> str:
        return f"a number of seconds, {self.least:g} or more"

    def show(self, value: object) -> str:
        return f"{plain(value)} s"


class Size(Kind[int]):
    """A number of bytes; text may end with K, M or G (powers of 1024)."""

    metavar = "BYTES"

    def __init__(self, least: int = 0, most: int = 2**62, per: str = "") -> None:
        self.least = least
        self.most = most
        self.per = per

    def convert(self, value: object) -> int:
        number: object = value
        if isinstance(value, str):
            text = value.strip().lower()
            digits = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
            suffix = text[len(digits) :].strip()
            count = whole_number(digits)
            factor = _SUFFIXES.get(suffix)
            number = None if count is None or factor is None else count * factor
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError(f"must be {self.takes()}, not {quoted(value)}")
        if not self.least <= number <= self.most:
            raise ValueError(f"must be {self.takes()}, not {quoted(value)}")
        return number

    def takes(self) -> str:
        most = "" if self.most >= 2**62 else f" at most {in_bytes(self.most)}"
        least = f"{self.least} or more" if not most else f"at least {self.least},"
        return f"a number of bytes{self.per} such as 65536 or 64K, {least}{most}"

    def show(self, value: object) -> str:
        if isinstance(value, int) and value >= KIB and value % KIB == 0:
            return f"{value} ({in_bytes(value)})"
        return plain(value)


class Mask(Kind[int]):
    """A file mode mask; text that begins with 0 is octal, as in gunicorn."""

    metavar = "INT"

    def convert(self, value: object) -> int:
        number: object = value
        if isinstance(value, str):
            text = value.strip().lower()
            base = 8 if text.startswith("0") else 10
            digits = whole_number(text.removeprefix("0o"))
            try:
                number = None if digits is None else int(text, base)
            except ValueError:
                number = None
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 0o777:
            raise ValueError(f"must be {self.takes()}, not {quoted(value)}")
        return number

    def takes(self) -> str:
        return "a mask from 0 to 0777"

    def show(self, value: object) -> str:
        return f"{value:#o}" if isinstance(value, int) and value else plain(value)


class User(Kind["int | None"]):
    """A user's or a group's id, from its name or number."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.metavar = what.upper()

    def convert(self, value: object) -> int | None:
        if value is None or value == "":
            return None
        number = whole_number(value) if isinstance(value, str) else value
        if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**32 - 1:
            return number
        if not isinstance(value, str):
            raise ValueError(
                f"must be the name or the number of a {self.what}, not {quoted(value)}"
            )
        try:
            return self._number(value)
        except KeyError:
            raise ValueError(f"names no {self.what} of this machine: {value!r}") from None

    def _number(self, name: str) -> int:
        if self.what == "user":
            import pwd

            return pwd.getpwnam(name).pw_uid
        import grp

        return grp.getgrnam(name).gr_gid

    def takes(self) -> str:
        return f"the name or the number of a {self.what}"


class Texts(Kind["tuple[str, ...]"]):
    """Several texts: a list, or text with commas between them where `commas` says so."""

    is_list = True

    def __init__(self, metavar: str = "STRING", *, commas: bool = False) -> None:
        self.metavar = metavar
        self.commas = commas
        self.is_list = not commas

    def convert(self, value: object) -> tuple[str, ...]:
        if value is None:
            return ()
        if isinstance(value, str):
            parts: list[object] = [*value.split(",")] if self.commas else [value]
        elif isinstance(value, (list, tuple)):
            parts = [*value]
        else:
            raise ValueError(f"must be {self.takes()}, not {quoted(value)}")
        texts = []
        for part in parts:
            if not isinstance(part, str):
                raise ValueError(f"must be {self.takes()}; {quoted(part)} is in it")
            if part.strip():
                texts.append(self.one(part.strip()))
        return tuple(texts)

    def one(self, text: str) -> str:
        """One text of the list, checked."""
        return Text().convert(text)

    def takes(self) -> str:
        return "texts with commas between them" if self.commas else "a list of texts"

    def show(self, value: object) -> str:
        return ",".join(map(str, value)) if isinstance(value, tuple) else plain(value)


class Environment(Texts):
    """Environment variables, each KEY=VALUE; shown without what looks like a secret."""

    def __init__(self) -> None:
        super().__init__("KEY=VALUE")

    def one(self, text: str) -> str:
        key, equals, _ = text.partition("=")
        if not key or not equals:
            raise ValueError(f"must be KEY=VALUE, not {text!r}")
        if "\0" in text:
            raise ValueError(f"must not have NUL in it: {text!r}")
        return text

    def takes(self) -> str:
        return "a list of KEY=VALUE"

    def show(self, value: object) -> str:
        if not isinstance(value, tuple):
            return plain(value)
        return ",".join(without_secret(text) for text in value)


class Tokens(Texts):
    """Header names or such: letters, digits, hyphens, underscores; in upper case."""

    def __init__(self) -> None:
        super().__init__(commas=True)

    def one(self, text: str) -> str:
        if not is_token(text):
            raise ValueError(f"must be names of headers; {text!r} is none")
        return text.upper()

    def takes(self) -> str:
        return "names of headers with commas between them"


class Networks(Texts):
    """IP addresses and networks, or `*` for all."""

    def __init__(self) -> None:
        super().__init__("ADDRESSES", commas=True)

    def one(self, text: str) -> str:
        if text == "*":
            return text
        import ipaddress

        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            if "host bits" in str(error):
                right = ipaddress.ip_network(text, strict=False)
                raise ValueError(
                    f"has an address inside a network: {text} (the network is {right})"
                ) from None
            raise ValueError(
                f"must be IP addresses, networks such as 10.0.0.0/8, or *; {text!r} is none"
            ) from None
        return text

    def takes(self) -> str:
        return "IP addresses and networks with commas between them, or `*` for all"


class Bind(Texts):
    """Addresses to listen on; `parse_address` says what each means."""

    def __init__(self) -> None:
        super().__init__("ADDRESS")

    def convert(self, value: object) -> tuple[str, ...]:
        addresses = super().convert(value)
        if not addresses:
            raise ValueError("must have at least one address, such as 127.0.0.1:8000")
        seen = set()
        for text in addresses:
            address = parse_address(text)
            if address in seen and not (isinstance(address, tuple) and address[1] == 0):
                raise ValueError(f"names {text} twice")
            seen.add(address)
        return addresses

    def takes(self) -> str:
        return "HOST, HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N; several make a list"


class SchemeHeaders(Kind["dict[str, str]"]):
    """Header names and the value with which each says that the client came over TLS."""

    def convert(self, value: object) -> dict[str, str]:
        if not isinstance(value, dict):
            raise ValueError(f"must be {self.takes()}, not {quoted(value)}")
        for name, secure in value.items():
            if not isinstance(name, str) or not is_token(name):
                raise ValueError(f"must have names of headers as keys; {quoted(name)} is none")
            if not isinstance(secure, str):
                raise ValueError(f"must have text as values; {name} has {quoted(secure)}")
        return {name.upper(): secure for name, secure in value.items()}

    def takes(self) -> str:
        return "a table of header names and values"


class WorkerClass(Kind["str | type"]):
    """The name of a worker class, `package.module.Class`, or (Python file) a class."""

    NAMES = ("sync", "gthread", "gevent", "eventlet", "tornado", "asgi")
    # gunicorn's own paths to the same classes.
    ALIASES = {  # noqa: RUF012 (a constant)
        "gunicorn.workers.sync.SyncWorker": "sync",
        "gunicorn.workers.gthread.ThreadWorker": "gthread",
        "gunicorn.workers.ggevent.GeventWorker": "gevent",
        "gunicorn.workers.geventlet.EventletWorker": "eventlet",
        "gunicorn.workers.gtornado.TornadoWorker": "tornado",
        "gunicorn.workers.gasgi.ASGIWorker": "asgi",
    }

    def convert(self, value: object) -> str | type:
        if isinstance(value, type):
            return value
        if not isinstance(value, str):
            raise ValueError(f"must be {self.takes()}, not {quoted(value)}")
        name = value.strip().removeprefix("egg:gunicorn#")
        name = self.ALIASES.get(name, name)
        if name.lower() in self.NAMES:
            return name.lower()
        if name.startswith("uvicorn."):
            raise ValueError(f"cannot be {name}, which is made for gunicorn: use asgi")
        if name.startswith("gunicorn."):
            raise ValueError(f"cannot be {name}, which needs gunicorn: use {either(self.NAMES)}")
        module, _, cls = name.rpartition(".")
        if module and all(part.isidentifier() for part in (*module.split("."), cls)):
            return name
        raise ValueError(f"must be {self.takes()}, not {value!r}{meant(name, self.NAMES)}")

    def takes(self) -> str:
        return f"{', '.join(self.NAMES)}, or package.module.Class"

    def show(self, value: object) -> str:
        return f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else str(value)


class Callback(Kind["Hook | None"]):
    """A function of the configuration file, called with `parameters`.

    Text names one as package.module.function. `fewer` is how few arguments it may take instead.
    """

    metavar = "FUNCTION"

    def __init__(self, *parameters: str, fewer: int | None = None) -> None:
        self.parameters = parameters
        self.fewer = len(parameters) if fewer is None else fewer

    def convert(self, value: object) -> Hook | None:
        if value is None:
            return None
        function = import_object(value) if isinstance(value, str) else value
        if not callable(function):
            raise ValueError(f"must be a function, not {quoted(value)}")
        for count in range(len(self.parameters), self.fewer - 1, -1):
            if takes_positional(function, count):
                if count == len(self.parameters):
                    return function
                return _first_arguments(function, count)
        raise ValueError(f"must be a function that takes ({', '.join(self.parameters)})")

    def takes(self) -> str:
        return f"a function `({', '.join(self.parameters)})`"

    def show(self, value: object) -> str:
        if value is None:
            return "none"
        return f"<{getattr(value, '__qualname__', type(value).__qualname__)}()>"


def _first_arguments(function: Hook, count: int) -> Hook:
    def call(*args: object) -> object:
        return function(*args[:count])

    call.__qualname__ = getattr(function, "__qualname__", call.__qualname__)
    return call
