"""Processes that others fork off ours: the application's children, and those of hooks.

A child has copies of everything, and none of it is its own. When the code that forked it comes back
to us there, we must not go on, nor unwind what lies below: `finally` blocks and hooks are the
parent's.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn


def flush() -> None:
    """Write out what was printed: else a fork would print it twice."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def leave(error: BaseException | None = None) -> NoReturn:
    """End this process as the interpreter would, but unwind nothing and run no `atexit`.

    The exit code is 0; with an `error` it is 1, and the traceback is on stderr, but for SystemExit
    it is what that says.
    """
    code = 0
    try:
        if isinstance(error, SystemExit):
            if error.code is None or isinstance(error.code, int):
                code = error.code or 0
            else:
                code = 1
                print(error.code, file=sys.stderr)
        elif error is not None:
            code = 1
            sys.excepthook(type(error), error, error.__traceback__)
        flush()
    finally:
        os._exit(code & 0xFF)


class SameProcess:
    """`with SameProcess(): ...`: what comes out of it in another process leaves there."""

    __slots__ = ("_pid",)

    def __enter__(self) -> None:
        self._pid = os.getpid()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if os.getpid() != self._pid:
            leave(error)
