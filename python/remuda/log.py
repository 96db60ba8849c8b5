"""The error log: one line a record, one write a line, in gunicorn's format.

The standard library's logging costs a process 1.2 MiB, measured, and takes locks that a fork can
leave held. This writes each record with a single `os.write` to a descriptor opened with O_APPEND,
so that threads and processes that share a file never mix their lines, and no lock exists.
"""

# pathlib would cost the arbiter 0.9 MiB.
# ruff: noqa: PTH100

from __future__ import annotations

import os
import sys
import time

from .errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol, TypeAlias

    class LogSettings(Protocol):
        """What the log reads of a Config."""

        @property
        def errorlog(self) -> str: ...
        @property
        def loglevel(self) -> str: ...
        @property
        def capture_output(self) -> bool: ...
        @property
        def user(self) -> int | None: ...
        @property
        def group(self) -> int | None: ...

    ExcInfo: TypeAlias = (
        BaseException
        | tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None]
        | bool
        | None
    )

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

# C0, DEL, C1 and the two Unicode line ends: whatever could start a line or talk to a terminal.
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029]
_NAMED = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}
_ESCAPES = {c: _NAMED.get(c, f"\\x{c:02x}" if c < 0x100 else f"\\u{c:04x}") for c in _CONTROLS}
# A detail is text of several lines: tracebacks, stacks.
_DETAIL_ESCAPES = {c: text for c, text in _ESCAPES.items() if c not in (0x09, 0x0A)}


class Log:
    """The error log of one process, and of the children that it forks.

    `level` is the least that is written, as a number of the standard library's logging.
    """

    def __init__(self, config: LogSettings) -> None:
        """Open the log that `config` names.

        Raises ConfigError when the file cannot be opened.
        """
        self._path = None if config.errorlog == "-" else os.path.abspath(config.errorlog)
        self.level = LEVELS[config.loglevel]
        self._owner = (config.user, config.group)
        self._lost = 0
        self._fd = 2
        if self._path is not None:
            try:
                self._fd = self._open(self._path)
            except OSError as error:
                raise ConfigError(
                    f"errorlog: cannot open {self._path}: {error.strerror}",
                    "create its directory, or name another file (--error-logfile)",
                ) from None
        # As in gunicorn, what the application prints can only be captured by a file.
        self._captures = config.capture_output and self._path is not None
        if self._captures:
            self._capture()

    def fileno(self) -> int:
        """The descriptor that records are written to; reopening the log does not change it."""
        return self._fd

    def reopen(self) -> None:
        """Open the file by its name again, as it was rotated. Keeps the old one if it cannot."""
        if self._path is None:
            return
        try:
            fresh = self._open(self._path)
        except OSError as error:
            self.error("Cannot reopen the error log %s: %s", self._path, error.strerror)
            return
        os.dup2(fresh, self._fd, inheritable=False)
        os.close(fresh)
        if self._captures:
            self._capture()

    def close(self) -> None:
        """Close the file, if it is one."""
        if self._fd != 2:
            os.close(self._fd)
            self._fd = 2
            self._path = None

    def enabled(self, level: str) -> bool:
        """Whether records of `level` are written."""
        return LEVELS[level] >= self.level

    def debug(
        self, message: str, *args: object, exc_info: ExcInfo = None, detail: str | None = None
    ) -> None:
        """Write a record. `args` are put into `message` by `%`.

        `exc_info` as in the standard library's logging: its traceback follows the record. `detail`
        is text of several lines that follows it.
        """
        self.log("debug", message, *args, exc_info=exc_info, detail=detail)

    def info(
        self, message: str, *args: object, exc_info: ExcInfo = None, detail: str | None = None
    ) -> None:
        """Write a record; see `debug`."""
        self.log("info", message, *args, exc_info=exc_info, detail=detail)

    def warning(
        self, message: str, *args: object, exc_info: ExcInfo = None, detail: str | None = None
    ) -> None:
        """Write a record; see `debug`."""
        self.log("warning", message, *args, exc_info=exc_info, detail=detail)

    def error(
        self, message: str, *args: object, exc_info: ExcInfo = None, detail: str | None = None
    ) -> None:
        """Write a record; see `debug`."""
        self.log("error", message, *args, exc_info=exc_info, detail=detail)

    def critical(
        self, message: str, *args: object, exc_info: ExcInfo = None, detail: str | None = None
    ) -> None:
        """Write a record; see `debug`."""
        self.log("critical", message, *args, exc_info=exc_info, detail=detail)

    def exception(self, message: str, *args: object, exc_info: ExcInfo = True) -> None:
        """Write an error with the traceback of the exception being handled, or of `exc_info`."""
        self.log("error", message, *args, exc_info=exc_info)

    def log(
        self,
        level: str,
        message: str,
        *args: object,
        exc_info: ExcInfo = None,
        detail: str | None = None,
    ) -> None:
        """Write a record of `level`; see `debug`."""
        if LEVELS[level] < self.level:
            return
        text = _format(message, args).translate(_ESCAPES)
        stamp = time.strftime("[%Y-%m-%d %H:%M:%S %z]")
        lines = [f"{stamp} [{os.getpid()}] [{level.upper()}] {text}"]
        for more in (_traceback(exc_info) if exc_info else None, detail):
            if more:
                lines.append(more.rstrip("\n").translate(_DETAIL_ESCAPES))
        self._write(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))

    def write(self, record: str) -> None:
        """Write a record that is complete: lines of text, the last one ended."""
        self._write(record.translate(_DETAIL_ESCAPES).encode("utf-8", "backslashreplace"))

    def _write(self, record: bytes) -> None:
        if self._lost:
            record = b"(%d log records could not be written)\n" % self._lost + record
        try:
            done = os.write(self._fd, record)
            while done < len(record):  # only a nearly full disk or pipe takes less than all
                record = record[done:]
                done = os.write(self._fd, record)
        except OSError:
            # There is nowhere to say so, and a full disk must not stop the server: the next record
            # that fits says it.
            self._lost += 1
        else:
            self._lost = 0

    def _open(self, path: str) -> int:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        user, group = self._owner
        if os.geteuid() == 0 and (user or group):
            # The workers reopen the file after they have become `user`.
            os.fchown(fd, -1 if user is None else user, -1 if group is None else group)
        return fd

    def _capture(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os.dup2(self._fd, 1)
        os.dup2(self._fd, 2)


def _format(message: str, args: tuple[object, ...]) -> str:
    if not args:
        return message
    try:
        # As in the standard library's logging, a lone mapping serves %(name)s.
        return message % (args[0] if len(args) == 1 and isinstance(args[0], dict) else args)
    except (TypeError, ValueError, KeyError):
        return f"{message} {args!r}"


def _traceback(exc_info: ExcInfo) -> str:
    import traceback

    if isinstance(exc_info, tuple):
        error = exc_info[1]
    elif isinstance(exc_info, BaseException):
        error = exc_info
    else:
        error = sys.exc_info()[1]
    return "" if error is None else "".join(traceback.format_exception(error))
