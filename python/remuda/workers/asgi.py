"""asgi: a request a task, on an asyncio event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from _thread import get_ident

from .. import _native, forks
from ..errors import WorkerBootError
from .base import Worker
from .forked_loop import ForkedLoop, epolls
from .lifespan import Lifespan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from types import FrameType
    from typing import Any

    from ..config import Config
    from ..log import Log

# One turn of the loop takes at most so many frames: tasks that have become ready meanwhile want to
# run, too.
BATCH = 64
# Arbiter and router may die without a word: how often to look, in seconds.
LOOK = 1.0
# How often to look whether the last requests are done, in seconds.
DRAIN = 0.02
# How many different stacks a dump shows.
STACKS = 100


class LoopWorker(Worker):
    """A worker whose requests share one asyncio event loop.

    The loop watches the channel; nothing here blocks it.
    """

    streams = True
    evented = True
    gateway: Any

    @classmethod
    def slots(cls, config: Config) -> int:
        """One a task."""
        return config.worker_connections

    def init_process(self) -> None:
        """Make the event loop before the application is imported, which may ask for it."""
        super().init_process()
        others = epolls()
        self.loop = (self.scouted and self._loop_of_application()) or self.make_loop()
        self._epolls = epolls() - others
        self._thread = get_ident()
        asyncio.set_event_loop(self.loop)

    def make_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop. Raises WorkerBootError."""
        return asyncio.new_event_loop()

    def _loop_of_application(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that the application asked for while it was imported, before ours was
        made: what it has bound to it must find it running."""
        if sys.version_info >= (3, 14):
            try:
                loop = asyncio.get_event_loop()
            except RuntimeError:
                return None
        else:
            # Asking in public would make one.
            local = getattr(asyncio.get_event_loop_policy(), "_local", None)
            loop = getattr(local, "_loop", None)
        if not isinstance(loop, asyncio.AbstractEventLoop) or loop.is_closed():
            return None
        self.log.info(
            "The event loop is the one that the application made when it was imported"
            " (with -k there is one before)"
        )
        return loop

    def take(self) -> bool:
        """Take some of what has come from the channel, without blocking; whether there may be more.

        Raises Retired.
        """
        more: bool = self.gateway.take(BATCH)
        return more

    def take_rest(self) -> None:
        """When no more requests are taken: pass on what has come for those that run."""
        self.gateway.take_rest()

    def on_room(self) -> None:
        """Go on with what waited for room to send."""
        self.gateway.on_room()

    def busy(self) -> int:
        """How many requests are not done."""
        return self.channel.busy

    async def finish(self, timeout: float) -> None:
        """The last request is done; `timeout` seconds are left."""

    def report_left(self, message: str, error: BaseException | None) -> None:
        """What comes of a client that has left is no fault of the application, as a rule."""
        if not self._quitting:
            self.log.debug(message, exc_info=error)

    def run(self) -> None:
        """Serve until there will be no more requests and what was begun is done."""
        loop, channel = self.loop, self.channel
        self._ending: asyncio.Future[None] = loop.create_future()
        self._goes_on = False
        loop.add_reader(channel.fileno(), self._on_frames)
        loop.add_reader(channel.room_fileno(), self._on_room)
        # What has come before; and again and again.
        loop.call_soon(self._look)
        try:
            with forks.SameProcess():
                loop.run_until_complete(self._ending)
                loop.run_until_complete(self._drain())
        finally:
            loop.remove_reader(channel.fileno())
            loop.remove_reader(channel.room_fileno())
            self._close_loop()

    def stop(self) -> None:
        """Take no more requests; `run` ends when what was begun is done."""
        super().stop()
        self.loop.call_soon_threadsafe(self._on_frames)

    def let_go(self) -> None:
        """Give up the loop."""
        super().let_go()
        ForkedLoop(self.loop, self._epolls, self._thread)

    def _on_frames(self) -> None:
        if self._ending.done() or self._goes_on:
            return
        try:
            # The descriptor says nothing of what is left.
            if self.take():
                self._goes_on = True
                self.loop.call_soon(self._go_on)
        except _native.Retired:
            self.loop.remove_reader(self.channel.fileno())
            self._ending.set_result(None)
        except Exception as error:  # noqa: BLE001  (raised again in `run`)
            self._ending.set_exception(error)

    def _go_on(self) -> None:
        self._goes_on = False
        self._on_frames()

    def _on_room(self) -> None:
        try:
            self.on_room()
        except Exception as error:
            if self._ending.done():
                raise
            self._ending.set_exception(error)

    def _look(self) -> None:
        self._on_frames()
        if not self._ending.done():
            self.loop.call_later(LOOK, self._look)

    async def _drain(self) -> None:
        until = self.loop.time() + self.config.graceful_timeout
        while (busy := self.busy()) and self.loop.time() < until:
            self.take_rest()
            await asyncio.sleep(DRAIN)
        if busy:
            self.log.warning("%d requests are not done: cut", busy)
        await self.finish(max(1.0, until - self.loop.time()))

    def _close_loop(self) -> None:
        """End what still runs, so that its `finally` blocks are run."""
        loop = self.loop
        try:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=0 if self._quitting else 1.0))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            if not loop.is_running():
                loop.close()

    def _handle_dump(self, number: int, frame: FrameType | None) -> None:
        self.log.error("Stacks of the tasks", detail=stacks(self.loop))


class AsgiWorker(LoopWorker):
    """Calls an ASGI application in at most `worker_connections` tasks at a time."""

    def make_loop(self) -> asyncio.AbstractEventLoop:
        """uvloop's loop or asyncio's own, as the setting asgi_loop says."""
        wanted = self.config.asgi_loop
        if wanted != "asyncio":
            try:
                import uvloop
            except ImportError:
                if wanted == "uvloop":
                    raise WorkerBootError(
                        "asgi_loop is uvloop, which is not installed",
                        "pip install 'remuda[uvloop]'",
                    ) from None
            else:
                return uvloop.new_event_loop()
        return asyncio.new_event_loop()

    def load(self) -> None:
        """Load the application and have it start."""
        super().load()
        self.loop.run_until_complete(self.lifespan.start())

    def make_gateway(self) -> Any:
        """The calling convention for the application."""
        application = self.application.callable
        self.lifespan = Lifespan(application, self.config.asgi_lifespan, self.log)
        return _native.Asgi(
            self.channel,
            serve=serving(application, self.log),
            create_task=self.loop.create_task,
            create_future=self.loop.create_future,
            call_soon=self.loop.call_soon,
            on_error=self.report,
            on_left=self.report_left,
            on_notice=self.notice,
            root_path=self.config.root_path or os.environ.get("SCRIPT_NAME", ""),
            state=self.lifespan.state,
        )

    async def finish(self, timeout: float) -> None:
        """Have the application end."""
        await self.lifespan.stop(timeout)


def serving(
    application: Callable[[dict[str, Any], Any, Any], Awaitable[None]], log: Log
) -> Callable[[dict[str, Any], _native.Exchange], Coroutine[Any, Any, None]]:
    """What makes the coroutine of a request: calls the application, and says how it ended."""

    pid = os.getpid()

    async def serve(scope: dict[str, Any], exchange: _native.Exchange) -> None:
        try:
            await application(scope, exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001  (logged there)
            exchange.failed(error)
        except asyncio.CancelledError:
            exchange.cancelled()
            raise
        except (SystemExit, KeyboardInterrupt) as error:
            if os.getpid() != pid:
                forks.leave(error)
            what = type(error).__name__
            log.error("%s in %s: the worker exits", what, exchange.name, exc_info=error)
            raise
        else:
            exchange.returned()

    return serve


def stacks(loop: asyncio.AbstractEventLoop) -> str:
    """The stacks of all tasks of the loop, equal ones together, as text for a log."""
    groups: dict[str, list[str]] = {}
    for task in asyncio.all_tasks(loop):
        frames = [*_frames(task.get_coro())]
        stack = "".join(
            line
            for frame in frames
            for line in traceback.format_list(
                traceback.StackSummary.extract([(frame, frame.f_lineno)])
            )
        )
        exchange = frames[0].f_locals.get("exchange") if frames else None
        name = exchange.name if isinstance(exchange, _native.Exchange) else task.get_name()
        groups.setdefault(stack or "  (no frames)\n", []).append(name)
    parts = []
    for stack, members in [*groups.items()][:STACKS]:
        shown = ", ".join(members[:3]) + (f" and {len(members) - 3} more" * (len(members) > 3))
        parts.append(f"Task of {shown} (most recent call last):\n{stack}")
    if len(groups) > STACKS:
        parts.append(f"... and {len(groups) - STACKS} more stacks\n")
    return "".join(parts) or "no task\n"


def _frames(awaited: Any) -> Iterator[FrameType]:
    """The frames of a coroutine, and of what it waits for, outermost first."""
    for _ in range(1000):
        for prefix in ("cr", "gi", "ag"):
            if hasattr(awaited, f"{prefix}_frame"):
                frame = getattr(awaited, f"{prefix}_frame")
                if frame is None:
                    return
                yield frame
                awaited = getattr(awaited, f"{prefix}_await", None) or getattr(
                    awaited, f"{prefix}_yieldfrom", None
                )
                break
        else:
            return
