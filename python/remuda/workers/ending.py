"""The end of a worker's process: what the application has left running may not keep it for ever.

A process ends when its threads have, and its multiprocessing children, whoever of them was started
as no daemon; and when its `atexit` functions have returned.
"""

from __future__ import annotations

import os
import signal
import sys
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from types import FrameType
    from typing import NoReturn

    from ..log import Log

# Seconds between one means and the next.
STEP = 0.5


class Ending:
    """Bounds what is left of this process, by SIGALRM: a handler runs whatever is waited for."""

    def __init__(self, log: Log, code: int) -> None:
        """`code` is the exit code, if the process does not come to its end by itself."""
        self._log = log
        self._code = code

    def begin(self, children: float, all: float) -> None:
        """Children may take so many seconds, and the rest of the process so many."""
        now = monotonic()
        self._until = now + all
        self._next: Callable[[], object] = self._terminate
        # An exception from the handler would come out of whatever still ends the process.
        signal.signal(signal.SIGQUIT, self._on_quit)
        signal.signal(signal.SIGALRM, self._on_alarm)
        _wait(children)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        self._next()

    def _on_quit(self, number: int, frame: FrameType | None) -> NoReturn:
        for child in _children():
            child.kill()
        os._exit(0)

    def _terminate(self) -> None:
        self._next = self._kill
        _wait(STEP)
        if children := _children():
            names = ", ".join(f"{child.name} (pid:{child.pid})" for child in children)
            self._log.warning("Processes of the worker's have not ended: terminated: %s", names)
        for child in children:
            child.terminate()

    def _kill(self) -> None:
        self._next = self._cut
        _wait(max(STEP, self._until - monotonic()))
        for child in _children():
            child.kill()

    def _cut(self) -> NoReturn:
        for child in _children():
            child.kill()
        self._log.warning("The worker has not come to its end: cut")
        os._exit(self._code & 0xFF)


def _wait(seconds: float) -> None:
    # 0 would be no alarm.
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))


def _children() -> list[BaseProcess]:
    """The living children that were begun with multiprocessing."""
    if "multiprocessing" not in sys.modules:
        return []
    import multiprocessing

    return multiprocessing.active_children()
