"""The pid file: who is the arbiter."""

# pathlib would cost the arbiter 0.9 MiB.
# ruff: noqa: PTH100, PTH104, PTH108, PTH112, PTH120, PTH123

from __future__ import annotations

import errno
import os

from . import process
from .errors import ConfigError


class PidFile:
    """A file that holds the arbiter's process id while it lives."""

    def __init__(self, path: str) -> None:
        """Write our process id to `path`.

        A file that a dead process left behind is replaced. Raises ConfigError when a living process
        is named there, or when it cannot be written.
        """
        self.path = os.path.abspath(path)
        self.pid = os.getpid()
        other = _living(self.path)
        if other is not None and other != self.pid:
            raise ConfigError(
                f"pidfile: {self.path} says that the server already runs as pid {other}",
                "stop that one, or remove the file when that process is something else",
            )
        # Renaming puts it there whole: a reader never finds half a number.
        temporary = f"{self.path}.{self.pid}.tmp"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                os.write(fd, b"%d\n" % self.pid)
            finally:
                os.close(fd)
            os.rename(temporary, self.path)
        except OSError as error:
            raise _cannot_write(self.path, error) from None

    def unlink(self) -> None:
        """Remove the file, if it is still ours."""
        if _content(self.path) == self.pid:
            os.unlink(self.path)


def check(path: str | None) -> None:
    """Raise ConfigError when the file could not be written. That a server runs is no fault."""
    if path is None:
        return
    try:
        process.check_directory(os.path.dirname(os.path.abspath(path)))
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"pidfile: cannot write {path}: {error.strerror}",
        "create its directory, or name another file (--pid)",
    )


def _content(path: str) -> int | None:
    """The number in the file; None when there is no such file, or no number in it."""
    try:
        with open(path, "rb") as file:
            text = file.read(32).strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"pidfile: cannot read {path}: {error.strerror}") from None
    return int(text) if text.isdigit() else None


def _living(path: str) -> int | None:
    """The living process that the file names, if any."""
    pid = _content(path)
    if not pid:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except (PermissionError, OverflowError):
        pass  # it lives, but is someone else's; or the number is no pid
    return pid
