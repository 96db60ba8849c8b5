"""An asyncio event loop in a process that was forked from its own.

The loop is of no use there: asyncio lets no process run the loop of another. Yet the child holds a
copy of it, with tasks that are the parent's, and an epoll instance that is no copy: what the
child takes out of that, the parent no longer hears.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
from _thread import get_ident
from concurrent.futures import Future
from pathlib import Path
from typing import cast

from .. import forks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from types import FrameType
    from typing import Any

# Packages whose frames, when there are no others left on a thread, only wait for the next job.
THREADS = ("threading", "concurrent", "asyncio", "anyio", "asgiref", "tornado")


def epolls() -> set[int]:
    """The descriptors of this process that are epoll instances.

    None where there is no epoll: a kqueue is not inherited by a child.
    """
    found = set()
    if Path("/proc/self/fd").is_dir():
        for link in Path("/proc/self/fd").iterdir():
            try:
                target = link.readlink()
            except FileNotFoundError:
                continue  # the listing's own
            if str(target) == "anon_inode:[eventpoll]":
                found.add(int(link.name))
    return found


class ForkedLoop:
    """Takes a loop out of service, in the child."""

    def __init__(self, loop: asyncio.AbstractEventLoop, epolls: set[int], thread: int) -> None:
        """`epolls` are the loop's descriptors of that kind, `thread` is the one that runs it."""
        self._loop = loop
        # What forked, if it was a task.
        self._task = asyncio.current_task(loop) if get_ident() == thread else None
        for fd in epolls:
            with select.epoll() as empty:
                os.dup2(empty.fileno(), fd, inheritable=False)
        # Set on the loop itself, so that they are found before the methods of its class.
        vars(loop).update(
            call_exception_handler=self._on_exception,
            call_soon_threadsafe=self._on_call_from_thread,
        )
        self._occupy()

    def _occupy(self) -> None:
        """Have asyncio believe that a task of the loop is being run: then it runs no other."""
        try:
            if self._task is not None:
                asyncio.tasks._leave_task(self._loop, self._task)
            asyncio.tasks._enter_task(self._loop, cast("asyncio.Task[Any]", self))
        except RuntimeError:
            # Since Python 3.14 it knows by itself that the loop does not run in this process.
            return

    def _on_exception(self, context: dict[str, Any]) -> None:
        """The loop has called something that raised: so the code that forked is over, or waits."""
        if "handle" not in context:
            return  # said by an object as it is collected
        task = self._task
        if task is None:
            forks.leave(context.get("exception"))
        elif not task.done():
            forks.leave(
                RuntimeError("a forked process cannot wait on the event loop of its parent")
            )
        forks.leave(None if task.cancelled() else task.exception())

    def _on_call_from_thread(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.Handle:
        """What is put into the loop is not run. Its thread's job may be over with that."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if str(frame.f_globals.get("__name__")).partition(".")[0] not in THREADS:
                return asyncio.Handle(callback, args, self._loop, context)
            frame = frame.f_back
        return forks.leave(next(filter(None, map(_error_of, args)), None))


def _error_of(argument: object) -> BaseException | None:
    """What a job has raised: anyio hands over the exception, concurrent.futures its future."""
    if isinstance(argument, Future) and argument.done() and not argument.cancelled():
        return argument.exception()
    return argument if isinstance(argument, BaseException) else None
