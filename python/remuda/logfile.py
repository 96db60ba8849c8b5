"""The files of the logs: the arbiter opens them, and hands them to those who write.

Router and workers may have given up root, and then can open nothing in a directory of root's. And
nobody who writes may wait for whoever reads: a pipe to a program that is stopped stays full.
"""

# pathlib would cost the arbiter 0.9 MiB.
# ruff: noqa: PTH100, PTH115, PTH116, PTH118, PTH120

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import time

# gevent and eventlet put others into these places, which need their event loop.
from select import PIPE_BUF, POLLOUT, poll

from . import process
from .errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from .process import Owner

    class AccessLogOwner(Owner, Protocol):
        """What is read of a Config."""

        @property
        def accesslog(self) -> str | None: ...


# Seconds that one record waits at most for room in a pipe.
PATIENCE = 0.1
# How many symbolic links are followed, as path_resolution(7).
MOST_LINKS = 40
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
# For the hint: what names another file.
_FLAGS = {"accesslog": "--access-logfile", "errorlog": "--error-logfile"}


class LogFile:
    """A log's file, or a standard stream. Its descriptor stays the same for good."""

    def __init__(self, setting: str, path: str, stream: int, owner: Owner) -> None:
        """Open `path`; `-` is the standard stream of this number.

        `owner` says who will write to it. Raises ConfigError, which names the setting, when the
        file cannot be opened.
        """
        self.path = None if path == "-" else os.path.abspath(path)
        self._stream = stream
        self._owner = owner
        try:
            if self.path is None:
                os.fstat(stream)
            self._fd = stream if self.path is None else _open(self.path, owner)
        except OSError as error:
            raise _cannot_open(setting, path, owner, error) from None
        self._is_regular = _is_regular(self._fd)
        self._stuck = self._torn = False

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def reopen(self) -> None:
        """Open the file by its name again, as it was rotated. Raises OSError: the old one stays."""
        if self.path is not None:
            self.replace(_open(self.path, self._owner))

    def replace(self, fresh: int) -> None:
        """Go on with the file of another descriptor, which is closed."""
        os.dup2(fresh, self._fd, inheritable=False)
        os.close(fresh)
        self._is_regular = _is_regular(self._fd)

    def close(self) -> None:
        """Close it, if it is a file. The standard stream is left."""
        if self.path is not None:
            os.close(self._fd)
            self._fd = self._stream
            self.path = None

    def write(self, record: bytes) -> None:
        """Write all of it. Raises OSError, TimeoutError as well, when only a part was taken.

        O_NONBLOCK would reach every process that shares the stream. So whatever is no regular file
        is asked first, and given no more than a pipe that is writable takes whole (pipe(7)).
        """
        # A record that was cut short must not run into the next.
        rest = memoryview(b"\n" + record if self._torn else record)
        # Who was waited for in vain is asked once only, until it takes something again.
        deadline = time.monotonic() + (0 if self._stuck else PATIENCE)
        while rest:
            if not self._is_regular:
                self._stuck = not _is_writable(self._fd, deadline - time.monotonic())
                if self._stuck:
                    raise TimeoutError(errno.ETIMEDOUT, "nobody reads it")
            # Only a nearly full disk takes less.
            done = os.write(self._fd, rest if self._is_regular else rest[:PIPE_BUF])
            rest = rest[done:]
            self._torn = bool(rest)


class HandOver:
    """How the arbiter gives a worker the log that was opened anew: it may be root's alone."""

    def __init__(self) -> None:
        self._arbiter, self._worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._arbiter, self._worker):
            end.setblocking(False)

    def keep_arbiters_end(self) -> None:
        """After the fork."""
        self._worker.close()

    def keep_workers_end(self) -> None:
        """After the fork."""
        self._arbiter.close()

    def close(self) -> None:
        """Close what is open."""
        self._arbiter.close()
        self._worker.close()

    def give(self, fd: int) -> None:
        """Have the worker find a copy of `fd`. Raises OSError when it does not take them."""
        socket.send_fds(self._arbiter, [b"\0"], [fd])

    def take(self) -> int | None:
        """In the worker: the newest that was given since the last call."""
        newest: int | None = None
        while True:
            try:
                # socket.recv_fds loses the flag.
                message, ancillary, _, _ = self._worker.recvmsg(1, socket.CMSG_LEN(4), _CLOEXEC)
            except BlockingIOError:
                return newest
            if not message:  # the arbiter is dead
                return newest
            for _, _, data in ancillary:
                if newest is not None:
                    os.close(newest)
                newest = int.from_bytes(data, sys.byteorder)


def access_log(config: AccessLogOwner) -> LogFile | None:
    """Open the access log, if there is to be one. Raises ConfigError."""
    return None if config.accesslog is None else LogFile("accesslog", config.accesslog, 1, config)


def check(setting: str, path: str | None, owner: Owner) -> None:
    """Raise ConfigError when a log could not be opened. Makes no file."""
    if path in (None, "-"):
        return
    assert path is not None
    try:
        try:
            os.close(_open(path, owner, create=False))
        except FileNotFoundError:
            process.check_directory(os.path.dirname(path))
    except OSError as error:
        raise _cannot_open(setting, path, owner, error) from None


def _open(path: str, owner: Owner, *, create: bool = True) -> int:
    """Open a log to append to it. Raises OSError.

    What the user of the workers can open is opened with its rights. What is left is opened as root,
    unless that user could have put another file, or a link to one, in its place: it must not choose
    what root writes to.
    """
    # A FIFO that nobody reads would keep us waiting.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    flags |= os.O_CREAT if create else 0
    # Without a mask of the user's: whatever ours is, a log is not for others to write to.
    mode = 0o644 if owner.umask is None else 0o666
    before = None if owner.umask is None else os.umask(owner.umask)
    try:
        try:
            fd = process.as_user(owner, lambda: os.open(path, flags, mode))
        except PermissionError:
            if not process.is_another(owner) or _is_exposed(path, owner):
                raise
            fd = os.open(path, flags, mode)
    finally:
        if before is not None:
            os.umask(before)
    os.set_blocking(fd, True)
    return fd


def _is_exposed(path: str, owner: Owner) -> bool:
    """Whether the user of the workers can change what a path leads to."""
    # Where the sticky bit is set (/tmp), nobody can move what belongs to others.
    suspects = [
        directory
        for directory, entry in _lookups(path)
        if not (os.stat(directory).st_mode & stat.S_ISVTX and _is_of_others(entry, owner))
    ]

    if any(os.stat(one).st_uid == owner.user for one in suspects):
        return True

    def can_write() -> bool:
        effective = os.access in os.supports_effective_ids
        return any(os.access(one, os.W_OK, effective_ids=effective) for one in suspects)

    # What nobody can write to is left out: of /proc/self/fd, access(2) says that we could.
    suspects = [one for one in suspects if os.stat(one).st_mode & 0o222]
    return process.as_user(owner, can_write)


def _is_of_others(path: str, owner: Owner) -> bool:
    try:
        return os.lstat(path).st_uid != owner.user
    except FileNotFoundError:
        return False


def _lookups(path: str) -> list[tuple[str, str]]:
    """What path_resolution(7) looks up for a path: directories, and what is looked up in each."""
    found, at, links = [], "/", 0
    ahead = path.split("/")[::-1]
    while ahead:
        name = ahead.pop()
        if name in ("", "."):
            continue
        if name == "..":
            at = os.path.dirname(at)
            continue
        entry = os.path.join(at, name)
        found.append((at, entry))
        try:
            target = os.readlink(entry)
        except OSError:  # it is no link, or not there
            at = entry
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        at = "/" if target.startswith("/") else at
        ahead += target.split("/")[::-1]
    return found


def _cannot_open(setting: str, path: str, owner: Owner, error: OSError) -> ConfigError:
    hint = f"create its directory, or name another file ({_FLAGS[setting]})"
    if error.errno == errno.ENXIO:
        hint = "it is a FIFO that nobody reads, or a socket: start its reader first, or use -"
    elif isinstance(error, PermissionError) and process.is_another(owner):
        hint = f"let user {owner.user} write to it, or put it where only root can write"
    return ConfigError(f"{setting}: cannot open {path}: {error.strerror}", hint)


def _is_writable(fd: int, timeout: float) -> bool:
    """Whether a write of PIPE_BUF bytes does not wait, or fails at once."""
    watcher = poll()
    watcher.register(fd, POLLOUT)
    return bool(watcher.poll(max(0.0, timeout) * 1000))


def _is_regular(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode)
