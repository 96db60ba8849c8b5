"""The error log: one line a record, one write a line, in gunicorn's format.

The standard library's logging costs a process 1.2 MiB, measured, and takes locks that a fork can
leave held. This writes each record with a single `os.write` to a descriptor opened with O_APPEND,
so that threads and processes that share a file never mix their lines, and no lock exists.
"""

from __future__ import annotations

import os
import sys
import time

from . import process
from .logfile import HandOver, LogFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol, TypeAlias

    from .process import Owner

    class LogSettings(Owner, Protocol):
        """What the log reads of a Config."""

        @property
        def errorlog(self) -> str: ...
        @property
        def loglevel(self) -> str: ...
        @property
        def capture_output(self) -> bool: ...

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
        self.level = LEVELS[config.loglevel]
        self._lost = 0
        self._config = config
        self._file = LogFile("errorlog", config.errorlog, 2, config)
        self._hand_over: HandOver | None = None
        # As in gunicorn, what the application prints can only be captured by a file.
        self._captures = config.capture_output and self._file.path is not None
        if self._captures:
            self._capture()

    def fileno(self) -> int:
        """The descriptor that records are written to; reopening the log does not change it."""
        return self._file.fileno()

    def reopen(self) -> None:
        """Open the file by its name again, as it was rotated. Keeps the old one if it cannot.

        In a worker that is handed the file, go on with what was handed over, if anything was.
        """
        try:
            if self._hand_over is None:
                self._file.reopen()
            elif (fresh := self._hand_over.take()) is not None:
                self._file.replace(fresh)
        except OSError as error:
            self.error("Cannot reopen the error log %s: %s", self._file.path, error.strerror)
            return
        if self._captures:
            self._capture()

    def hand_over(self) -> HandOver | None:
        """A way to hand the file to a worker, which cannot open it; None where it can."""
        is_another = self._file.path is not None and process.is_another(self._config)
        return HandOver() if is_another else None

    def give(self, hand_over: HandOver) -> None:
        """Hand the file to a worker. Raises OSError when it does not take it."""
        if self._file.path is not None:
            hand_over.give(self._file.fileno())

    def be_handed(self, hand_over: HandOver | None) -> None:
        """In a worker: that is how it comes."""
        self._hand_over = hand_over

    def close(self) -> None:
        """Close the file, if it is one."""
        self._file.close()

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
            self._file.write(record)
        except OSError:
            # There is nowhere to say so, and neither a full disk nor a pipe that nobody reads may
            # stop the server: the next record that fits says it.
            self._lost += 1
        else:
            self._lost = 0

    def _capture(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os.dup2(self._file.fileno(), 1)
        os.dup2(self._file.fileno(), 2)


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
