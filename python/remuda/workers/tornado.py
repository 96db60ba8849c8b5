"""tornado: Tornado's own applications, or a WSGI one, on Tornado's event loop."""

from __future__ import annotations

import asyncio
from time import monotonic

from .. import _native
from .asgi import LoopWorker, serving

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# One turn of the loop begins no WSGI call after so many seconds: handlers and timers want to run,
# too. What was not begun can be given to another worker.
TURN = 0.005


class TornadoWorker(LoopWorker):
    """Runs a `tornado.web.Application` natively, and a WSGI application call by call.

    A Tornado application has as many requests at a time as `worker_connections` says. A WSGI
    application is called on the thread of the loop, one request after the other: a call that waits
    makes all others wait, and so does a response larger than `response_buffer` whose client reads
    slowly.
    """

    def make_loop(self) -> asyncio.AbstractEventLoop:
        """An asyncio loop, which is the IOLoop of its thread."""
        import tornado.ioloop

        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        tornado.ioloop.IOLoop.current()
        return loop

    def make_gateway(self) -> Any:
        """The calling convention for the application."""
        if self.application.kind != "tornado":
            self._bodies = _native.Gather(self.channel, self.config.upload_dir, self.report)
            return super().make_gateway()
        from .tornado_http import Server

        return _native.Asgi(
            self.channel,
            serve=serving(Server(self.application.callable), self.log),
            create_task=self.loop.create_task,
            create_future=self.loop.create_future,
            call_soon=self.loop.call_soon,
            on_error=self.report,
            on_left=self.report_left,
            on_notice=self.notice,
        )

    def take(self) -> bool:
        """Begin requests, pass on what comes for those that were begun; whether there is more."""
        if self.application.kind == "tornado":
            return super().take()
        until = monotonic() + TURN
        while (request := self._bodies.take()) is not None:
            self.gateway.serve(request)
            if monotonic() >= until:
                return True
        return False

    def take_rest(self) -> None:
        """When no more requests are taken: pass on what has come for those that run."""
        if self.application.kind == "tornado":
            super().take_rest()

    def on_room(self) -> None:
        """Go on with what waited for room to send."""
        if self.application.kind == "tornado":
            super().on_room()
        else:
            self.channel.clear_room()
