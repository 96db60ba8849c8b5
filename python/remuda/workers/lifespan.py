"""The lifespan protocol: an ASGI application is told of its start and of its end."""

from __future__ import annotations

import asyncio

from ..errors import WorkerBootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..log import Log

_SCOPE = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}


class Lifespan:
    """One application's life, in a task of its own on the running event loop.

    `state` is `scope["state"]`, which each request gets a copy of.
    """

    def __init__(self, app: Any, mode: str, log: Log) -> None:
        """`mode` is the setting asgi_lifespan: on, off, or auto, which takes an application that
        fails without an answer for one that does not know the protocol."""
        self.state: dict[str, Any] = {}
        self._app = app
        self._mode = mode
        self._log = log
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Tell the application that it starts, and wait until it has.

        Raises WorkerBootError when it fails, or when it must know the protocol and does not.
        """
        if self._mode == "off":
            return
        loop = asyncio.get_running_loop()
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        # None: it is done; a text: it failed, with this message.
        self._started: asyncio.Future[str | None] = loop.create_future()
        self._stopped: asyncio.Future[str | None] = loop.create_future()
        self._task = loop.create_task(self._run(), name="remuda-lifespan")
        self._messages.put_nowait({"type": "lifespan.startup"})
        await _first(self._started, self._task)
        if not self._started.done():
            self._not_supported(self._task)
        elif (failure := self._started.result()) is not None:
            await asyncio.wait({self._task}, timeout=1)
            self._task.cancel()
            self._task = None
            raise _failed(failure)

    async def stop(self, timeout: float) -> None:
        """Tell the application that it ends, and wait until it has, at most `timeout` seconds."""
        if self._task is None:
            return
        if not self._task.done():
            self._messages.put_nowait({"type": "lifespan.shutdown"})
            await _first(self._stopped, self._task, timeout)
        if self._stopped.done():
            if (failure := self._stopped.result()) is not None:
                self._log.error("The application failed at its end", detail=failure)
        elif self._task.done():
            if not self._task.cancelled() and (error := self._task.exception()) is not None:
                self._log.error("The application failed at its end", exc_info=error)
        else:
            self._log.warning("The application has not ended within %g s: it is cancelled", timeout)
        if not self._task.done():
            # What follows its last word may take a moment.
            await asyncio.wait({self._task}, timeout=min(1.0, timeout))
            self._task.cancel()

    async def _run(self) -> None:
        await self._app({**_SCOPE, "state": self.state}, self._messages.get, self._send)

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        event, _, answer = kind.rpartition(".")
        waiting = {"lifespan.startup": self._started, "lifespan.shutdown": self._stopped}.get(event)
        if waiting is None or answer not in ("complete", "failed"):
            raise ValueError(f"send(): there is no event {kind!r} in a lifespan scope")
        if waiting.done():
            raise RuntimeError(f"{kind} was sent after {event} had been answered")
        waiting.set_result(None if answer == "complete" else str(message.get("message", "")))

    def _not_supported(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if self._mode == "on":
            self._log.error("The application does not answer lifespan.startup", exc_info=error)
            raise WorkerBootError(
                "the application does not know the lifespan protocol",
                "use --asgi-lifespan auto or off",
            )
        self._log.debug("The application does not know the lifespan protocol", exc_info=error)


async def _first(
    answer: asyncio.Future[str | None], task: asyncio.Task[None], timeout: float | None = None
) -> None:
    futures: set[asyncio.Future[Any]] = {answer, task}
    await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


def _failed(message: str) -> WorkerBootError:
    # Frameworks give their whole traceback as the message.
    lines = message.strip().splitlines()
    last = lines[-1] if lines else "it gave no reason"
    return WorkerBootError(
        f"the application could not start: {last}", detail=message if len(lines) > 1 else None
    )
