"""eventlet: a request a green thread, on eventlet's hub."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # It says at each import that it is deprecated. Who chose this class has read docs/workers.md.
    warnings.simplefilter("ignore")
    import eventlet
    import eventlet.event
    import eventlet.greenthread
    import eventlet.hubs
    import eventlet.tpool

from .green import GreenWorker, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from .. import _native

    T = TypeVar("T")


class EventletWorker(GreenWorker):
    """Calls the application in green threads: for code that is written for eventlet."""

    def patch(self) -> None:
        """Make the standard library cooperate."""
        require("eventlet", eventlet.__version__, (0, 36))
        eventlet.monkey_patch()
        self._hub = eventlet.hubs.get_hub()

    def event(self) -> _Event:
        """A fresh event."""
        return _Event()

    def watch(self, fd: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back in the hub whenever the descriptor is readable."""
        hub = self._hub
        listener = hub.add(hub.READ, fd, lambda _: callback(), _closed, None)

        def unwatch() -> None:
            if hub.listeners[hub.READ].get(fd) is listener:
                hub.remove(listener)

        return unwatch

    def run_in_hub(self, callback: Callable[[], None]) -> None:
        """Call back in the hub, soon."""
        self._hub.schedule_call_global(0, callback)

    def begin(self, request: _native.Request) -> None:
        """Switch into a new green thread."""
        eventlet.greenthread.GreenThread(self._hub.greenlet).switch(self.serve, (request,), {})

    def run_in_thread(self, function: Callable[[Any], T], argument: object) -> T:
        """Call it in eventlet's pool of threads."""
        result: T = eventlet.tpool.execute(function, argument)
        return result


class _Event:
    """eventlet's event, which may be set twice."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = eventlet.event.Event()

    def set(self) -> None:
        if not self._event.ready():
            self._event.send()

    def wait(self, timeout: float) -> object:
        return self._event.wait(timeout)


def _closed(_error: object) -> None:
    """Nothing waits for the descriptor but the callback."""
