"""What can go wrong before a request is served, and the exit code that says so."""

from __future__ import annotations


class RemudaError(Exception):
    """A fault with a name: one line for the user, a likely fix, an exit code.

    `message` is one line that names the fault. `hint` is one line that names the likely fix.
    `detail` is text of several lines that belongs to the user: the traceback of their code.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        exit_code: int | None = None,
        *,
        detail: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail
        if exit_code is not None:
            self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message


class ConfigError(RemudaError):
    """A setting has a value that it cannot have."""


class UsageError(RemudaError):
    """The command line itself is wrong."""

    exit_code = 2


class BindError(RemudaError):
    """An address cannot be bound."""


class WorkerBootError(RemudaError):
    """A worker cannot start, for another reason than its application."""

    exit_code = 3


class AppLoadError(RemudaError):
    """The application cannot be imported, or is none."""

    exit_code = 4
