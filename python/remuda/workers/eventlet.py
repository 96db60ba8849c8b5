"""eventlet: a request a green thread, on eventlet's hub."""

from __future__ import annotations

import sys
import threading
import warnings

import greenlet

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

    def fresh_hub(self) -> greenlet.greenlet:
        """Another hub. This one shares its epoll instance with the worker."""
        # The end of the child must not wait for green threads that do not go on. The standard
        # library forgets threads in a fork. eventlet takes that out of it, because its own do go
        # on, and has the end in a copy of the module. (Up to Python 3.12 that waits for locks.)
        for names in (vars(threading), vars(threading)["_shutdown"].__globals__):
            names.get("_shutdown_locks", set()).clear()
        eventlet.hubs.use_hub(sys.modules[type(self._hub).__module__])
        if "asyncio" in sys.modules:
            # The hub on an asyncio loop has put its loop back into place.
            sys.modules["asyncio"]._set_running_loop(None)
        own: greenlet.greenlet = eventlet.hubs.get_hub().greenlet
        return own

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
