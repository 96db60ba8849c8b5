"""The listening sockets: bound here, accepted from in the router.

They live in the arbiter, so that connects wait in the backlog while a router is replaced.
"""

# pathlib would cost the arbiter 0.9 MiB.
# ruff: noqa: PTH108, PTH116, PTH118

from __future__ import annotations

import errno
import os
import socket
import stat
import time

from .errors import BindError
from .values import parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping, Sequence
    from typing import Protocol

    from .values import Address

    class Settings(Protocol):
        """What is read of a Config."""

        @property
        def bind(self) -> tuple[str, ...]: ...
        @property
        def chdir(self) -> str: ...
        @property
        def backlog(self) -> int: ...
        @property
        def reuse_port(self) -> bool: ...
        @property
        def umask(self) -> int | None: ...
        @property
        def user(self) -> int | None: ...
        @property
        def group(self) -> int | None: ...

    class Reporter(Protocol):
        """What is used of a Log."""

        def error(self, message: str, *args: object) -> None: ...
        def warning(self, message: str, *args: object) -> None: ...


# As gunicorn: how often an address in use is tried, and how many seconds apart.
TRIES = 5
PAUSE = 1.0

# sd_listen_fds(3): the first descriptor that is passed.
SD_LISTEN_FDS_START = 3

# SCM_MAX_FD: as many descriptors fit beside one message of the control socket (unix(7)).
MOST = 253


class Listener:
    """A bound socket that listens."""

    def __init__(
        self, bind: str, sock: socket.socket, *, inherited: bool, v6only: bool = False
    ) -> None:
        """`bind` is the address as the user wrote it.

        `v6only`: it leaves IPv4 to another listener on the same port.
        """
        self.bind = bind
        self.socket = sock
        self.inherited = inherited
        self.v6only = v6only
        name = sock.getsockname()
        self.path: str | None = None
        if sock.family == socket.AF_UNIX:
            path = os.fsdecode(name)
            self.address, self.port = path.replace("\0", "@", 1), 0
            if path and not path.startswith("\0"):
                self.path = path
        else:
            self.address, self.port = name[0], name[1]
        self._file = None if inherited or self.path is None else _identity(self.path)

    def fileno(self) -> int:
        """The descriptor."""
        return self.socket.fileno()

    def describe(self) -> dict[str, object]:
        """What the router is told."""
        return {"address": self.address, "port": self.port}

    def close(self) -> None:
        """Close our descriptor. The socket listens on as long as the router has its own."""
        self.socket.close()

    def unlink(self) -> None:
        """Remove the file of a unix socket, if it is still the one that was bound here."""
        if self.path is not None and self._file is not None and _identity(self.path) == self._file:
            os.unlink(self.path)
        self._file = None

    def __str__(self) -> str:
        """As in "Listening at: "."""
        if self.socket.family == socket.AF_UNIX:
            return f"unix:{self.address}"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"


class Listeners:
    """All of them, in the order of `bind`."""

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self._all = list(listeners)

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __str__(self) -> str:
        return ",".join(str(listener) for listener in self._all)

    def describe(self) -> list[dict[str, object]]:
        """What the router is told; the descriptors go beside it, in this order."""
        return [listener.describe() for listener in self._all]

    def filenos(self) -> list[int]:
        """The descriptors."""
        return [listener.fileno() for listener in self._all]

    def close(self, *, but: Listeners | None = None) -> None:
        """Close our descriptors, except of those that are in `but`, too."""
        for listener in self._without(but):
            listener.close()

    def unlink(self, *, but: Listeners | None = None) -> None:
        """Remove the files of unix sockets, except of those that are in `but`, too."""
        for listener in self._without(but):
            listener.unlink()

    def _without(self, but: Listeners | None) -> list[Listener]:
        return [one for one in self._all if but is None or one not in but._all]


def listen(
    config: Settings,
    log: Reporter,
    *,
    pause: Callable[[float], object] = time.sleep,
    environ: MutableMapping[str, str] | None = None,
    tries: int = TRIES,
    keep: Listeners | None = None,
) -> Listeners:
    """Bind every address of `config.bind`; those that `keep` has already are taken from there.

    An address in use is tried again, `tries` times in all, with `pause` in between (which may raise
    to give up). When `environ` is given and systemd passed sockets (LISTEN_FDS), these are used
    instead of `bind`. Raises BindError; what was bound before is closed again then.
    """
    kept = list(keep or ())
    passed = _passed_by_systemd(environ) if environ is not None else []
    binds = [f"fd://{fd}" for fd in passed] or config.bind
    if len(binds) > MOST:
        raise BindError(
            f"bind: {len(binds)} addresses are too many", f"at most {MOST} are possible"
        )
    stay = [one for one in kept if one.bind in binds]
    listeners: list[Listener] = []
    try:
        for bind in binds:
            same = next((one for one in kept if one.bind == bind), None)
            v6only = _names_ipv4_beside(bind, binds)
            if same is not None:
                kept.remove(same)
                listeners.append(same)
                if same.v6only and not v6only:
                    log.warning("%s serves IPv6 alone, as before, until a restart", bind)
            elif both := next((one for one in stay if _serves_both(one, bind)), None):
                log.warning("%s is served by %s already, which takes IPv4 too", bind, both.bind)
            else:
                listeners.append(_listen(bind, config, log, pause, tries, v6only=v6only))
    except BaseException:
        for listener in listeners:
            if keep is None or listener not in list(keep):
                listener.close()
                listener.unlink()
        raise
    return Listeners(listeners)


def _names_ipv4_beside(bind: str, binds: Sequence[str]) -> bool:
    """Whether `bind` is all of IPv6 and some IPv4 address of the same port is bound, too.

    Alone such a socket takes IPv4 as well, where the system is set so (ipv6(7), IPV6_V6ONLY).
    """
    address = _parsed(bind)
    if not isinstance(address, tuple) or not address[1] or not _is_any_ipv6(address[0]):
        return False
    others = (_parsed(other) for other in binds)
    return any(
        isinstance(other, tuple) and other[1] == address[1] and ":" not in other[0]
        for other in others
    )


def _serves_both(listener: Listener, bind: str) -> bool:
    """Whether a listener takes the IPv4 connections of `bind` already.

    IPV6_V6ONLY cannot be set any more once a socket is bound.
    """
    address = _parsed(bind)
    return (
        isinstance(address, tuple)
        and ":" not in address[0]
        and listener.socket.family == socket.AF_INET6
        and listener.port == address[1]
        and _is_any_ipv6(listener.address)
        and not listener.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    )


def _is_any_ipv6(host: str) -> bool:
    try:
        return not any(socket.inet_pton(socket.AF_INET6, host))
    except OSError:
        return False


def _parsed(bind: str) -> Address:
    try:
        return parse_address(bind)
    except ValueError as error:
        raise BindError(f"bind: {error}") from None


def _listen(
    bind: str,
    config: Settings,
    log: Reporter,
    pause: Callable[[float], object],
    tries: int,
    *,
    v6only: bool,
) -> Listener:
    address = _parsed(bind)
    if isinstance(address, int):
        return _inherit(bind, address, config)
    if isinstance(address, str) and not address.startswith("@"):
        address = os.path.join(config.chdir, address)
    for attempt in range(tries):
        if attempt:
            pause(PAUSE)
        try:
            return _bind(bind, address, config, v6only=v6only)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                log.error("Connection in use: %s", address)
            elif error.errno == errno.EADDRNOTAVAIL:
                log.error("Invalid address: %s", address)
            else:
                raise BindError(
                    f"Can't connect to {address}: {error.strerror}", _hint(error, address)
                ) from None
            last = error
    raise BindError(f"Can't connect to {address}: {last.strerror}", _hint(last, address))


def _bind(bind: str, address: tuple[str, int] | str, config: Settings, *, v6only: bool) -> Listener:
    if isinstance(address, str):
        return _bind_unix(bind, address, config)
    family, target = _resolve(*address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if config.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if v6only:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(target)
        sock.listen(config.backlog)
        sock.setblocking(False)
        return Listener(bind, sock, inherited=False, v6only=v6only)
    except BaseException:
        sock.close()
        raise


def _resolve(host: str, port: int) -> tuple[int, tuple[str, int]]:
    """The family and address of a host. Of several the IPv4 address counts, as in gunicorn."""
    if ":" in host:
        return socket.AF_INET6, (host, port)
    try:
        # As bytes: a str would load the idna codec, which costs a megabyte.
        name = host.encode("ascii") if host.isascii() else host.encode("idna")
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise BindError(
            f"Can't connect to {(host, port)}: the host is not known",
            "bind an address of this machine, 0.0.0.0 for all of them",
        ) from None
    found.sort(key=lambda info: info[0] != socket.AF_INET)
    family, _, _, _, target = found[0]
    return family, (str(target[0]), port)


def _bind_unix(bind: str, path: str, config: Settings) -> Listener:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.startswith("@"):  # abstract: unix(7), a name without a file
            sock.bind("\0" + path[1:])
        else:
            _remove_stale(path)
            # As gunicorn's: whoever is to keep others out sets a mask, or a directory around it.
            umask = os.umask(config.umask or 0)
            try:
                sock.bind(path)
            finally:
                os.umask(umask)
            if os.geteuid() == 0 and (config.user is not None or config.group is not None):
                os.chown(path, _or_same(config.user), _or_same(config.group))
        sock.listen(config.backlog)
        sock.setblocking(False)
        return Listener(bind, sock, inherited=False)
    except BaseException:
        sock.close()
        raise


def _remove_stale(path: str) -> None:
    """Remove the socket that a dead server left at `path`.

    Raises OSError(EADDRINUSE) when a living server listens there, BindError when it is no socket.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BindError(
            f"bind: {path} exists and is not a socket", "remove the file, or bind another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # it lives, and its backlog is full
    raise OSError(errno.EADDRINUSE, "a living server listens there")


def _inherit(bind: str, fd: int, config: Settings) -> Listener:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise BindError(
            f"Can't listen on {bind}: descriptor {fd} is no socket ({error.strerror})",
            "whatever starts remuda must leave the socket open under this number",
        ) from None
    if sock.type != socket.SOCK_STREAM or sock.family not in (
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_UNIX,
    ):
        sock.detach()
        raise BindError(f"Can't listen on {bind}: it is no TCP or unix stream socket")
    try:
        sock.set_inheritable(False)
        sock.setblocking(False)
        # Calling listen() again can be denied (SELinux).
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sock.listen(config.backlog)
    except OSError as error:
        sock.detach()
        raise BindError(
            f"Can't listen on {bind}: {error.strerror}", "pass a socket that is bound"
        ) from None
    return Listener(bind, sock, inherited=True)


def _passed_by_systemd(environ: MutableMapping[str, str]) -> list[int]:
    """The descriptors of sd_listen_fds(3). The variables are removed: they are for us alone."""
    count, pid = environ.get("LISTEN_FDS", ""), environ.get("LISTEN_PID", "")
    if not (count.isdigit() and pid.isdigit() and int(pid) == os.getpid()):
        return []
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    return list(range(SD_LISTEN_FDS_START, SD_LISTEN_FDS_START + int(count)))


def _identity(path: str) -> tuple[int, int] | None:
    """Which file it is: device and inode."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _or_same(number: int | None) -> int:
    """The owner for chown(2), where -1 means: as it was."""
    return -1 if number is None else number


def _hint(error: OSError, address: tuple[str, int] | str) -> str | None:
    if error.errno == errno.EADDRINUSE:
        if isinstance(address, str):
            return "stop the other server, or bind another path (-b unix:PATH)"
        return "stop the other server, or bind another port (-b HOST:PORT)"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; 0.0.0.0 stands for all it has"
    if error.errno in (errno.EACCES, errno.EPERM):
        if isinstance(address, str):
            return "make its directory writable for this user, or bind another path"
        return "ports below 1024 need root or CAP_NET_BIND_SERVICE: bind a higher one"
    if error.errno == errno.ENOENT:
        return "create its directory first"
    return None
