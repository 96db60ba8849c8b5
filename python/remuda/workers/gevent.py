"""gevent: a request a greenlet, on gevent's hub."""

from __future__ import annotations

import gevent
import gevent.event
import gevent.hub
import gevent.monkey

from .green import GreenWorker, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from .. import _native
    from .green import Event

    T = TypeVar("T")


class GeventWorker(GreenWorker):
    """Calls the application in greenlets of gevent: for code that waits on other services."""

    def patch(self) -> None:
        """Make the standard library cooperate."""
        require("gevent", gevent.__version__, (23, 9))
        gevent.monkey.patch_all()
        self._hub = gevent.get_hub()

    def event(self) -> Event:
        """A fresh event."""
        event: Event = gevent.event.Event()
        return event

    def watch(self, fd: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back in the hub whenever the descriptor is readable."""
        watcher = self._hub.loop.io(fd, 1)
        watcher.start(callback)

        def unwatch() -> None:
            watcher.stop()
            watcher.close()

        return unwatch

    def fresh_hub(self) -> gevent.hub.Hub:
        """The hub as it is: gevent gives it an epoll instance of its own."""
        for unwatch in self._watches:
            unwatch()
        return self._hub

    def run_in_hub(self, callback: Callable[[], None]) -> None:
        """Call back in the hub, soon."""
        self._hub.loop.run_callback(callback)

    def begin(self, request: _native.Request) -> None:
        """Switch into a new greenlet."""
        gevent.Greenlet(self.serve, request).switch()

    def run_in_thread(self, function: Callable[[Any], T], argument: object) -> T:
        """Call it in the hub's pool of threads."""
        result: T = self._hub.threadpool.apply(function, (argument,))
        return result
