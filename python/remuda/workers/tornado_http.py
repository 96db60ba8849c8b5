"""Requests for a Tornado application, and its responses: `tornado.httputil`'s HTTPConnection.

Tornado's own HTTP server parses, frames and writes; here the router has done that. What is left is
what `HTTPServer` and `HTTP1Connection` are to an application: they call its HTTPMessageDelegate and
take its headers and pieces. It is written as an ASGI application, so that it has one way to the
router with all others.
"""

from __future__ import annotations

import asyncio
from asyncio import Future

from tornado import httputil, iostream
from tornado.log import gen_log

from .. import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    import tornado.web


class Server:
    """A Tornado application as an ASGI one."""

    def __init__(self, application: tornado.web.Application) -> None:
        self._application = application

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Any],
    ) -> None:
        """Serve one request. It is over when the handler has finished it or the client has left."""
        connection = Connection(scope, send)
        delegate = self._application.start_request(self, connection)
        try:
            read = await _read(scope, receive, connection, delegate)
        except httputil.HTTPInputError as error:
            gen_log.info("Malformed HTTP message from %s: %s", connection.context, error)
            if not connection.begun:
                connection.write_headers(
                    httputil.ResponseStartLine("", 400, "Bad Request"), httputil.HTTPHeaders()
                )
                connection.finish()
            return
        if not read and not connection.finished:
            delegate.on_connection_close()
        if not connection.finished:
            # Comes when the response is complete, and when the client leaves before that.
            while read and (await receive())["type"] != "http.disconnect":
                pass
            connection.close()


async def _read(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    connection: Connection,
    delegate: httputil.HTTPMessageDelegate,
) -> bool:
    """Give the request to the application. False: the client has left before its end."""
    target = scope["raw_path"].decode("latin-1")
    if scope["query_string"]:
        target += "?" + scope["query_string"].decode("latin-1")
    version = f"HTTP/{scope['http_version']}"
    headers = httputil.HTTPHeaders()
    for name, value in scope["headers"]:
        headers.add(name.decode("latin-1"), value.decode("latin-1"))
    prepared = delegate.headers_received(
        httputil.RequestStartLine(scope["method"], target, version), headers
    )
    if prepared is not None:
        await prepared
    more = True
    while more and not connection.finished:
        message = await receive()
        if message["type"] == "http.disconnect":
            return connection.finished
        more = message["more_body"]
        if message["body"] and not connection.finished:
            taken = delegate.data_received(message["body"])
            if taken is not None:
                await taken
    if not connection.finished:
        delegate.finish()
    return True


class Context:
    """What `HTTPServerRequest` asks its connection's context for."""

    def __init__(self, scope: dict[str, Any]) -> None:
        client = scope["client"]
        # As in Tornado's server, a client on a unix socket has an address that means nothing.
        self.remote_ip = client[0] if client else "0.0.0.0"
        self.address = client or ("0.0.0.0", 0)
        self.protocol = scope["scheme"]

    def __str__(self) -> str:
        return str(self.remote_ip)


class Connection(httputil.HTTPConnection):
    """Where a handler's response goes."""

    def __init__(self, scope: dict[str, Any], send: Callable[[dict[str, Any]], Any]) -> None:
        self.context = Context(scope)
        self.begun = False
        self.finished = False
        self.no_keep_alive = False
        self._send = send
        self._on_close: Callable[[], None] | None = None

    def write_headers(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
        chunk: bytes | None = None,
    ) -> Future[None]:
        """Begin the response. The future is done when there is room for more."""
        assert isinstance(start_line, httputil.ResponseStartLine)
        self.begun = True
        encoded = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.get_all()
        ]
        message = {
            "type": "http.response.start",
            "status": start_line.code,
            "reason": start_line.reason.encode("latin-1"),
            "headers": encoded,
        }
        try:
            self._send(message)
        except BrokenPipeError:
            return _closed()
        return self.write(chunk) if chunk else _done()

    def write(self, chunk: bytes) -> Future[None]:
        """Send a piece of the body. The future is done when there is room for more."""
        message = {"type": "http.response.body", "body": bytes(chunk), "more_body": True}
        try:
            sent = self._send(message)
        except BrokenPipeError:
            return _closed()
        return _done() if type(sent) is _native.Sent else asyncio.ensure_future(sent)

    def finish(self) -> None:
        """The response is complete."""
        self.finished = True
        self._on_close = None
        self._send({"type": "http.response.body"})

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """What to call when the client leaves before the end of the response."""
        self._on_close = callback

    def close(self) -> None:
        """The client has left."""
        callback, self._on_close = self._on_close, None
        if callback is not None and not self.finished:
            callback()

    def set_max_body_size(self, max_body_size: int) -> None:
        """The router has its own limit, limit_request_body: nothing happens."""

    def set_body_timeout(self, timeout: float) -> None:
        """The router has its own deadline, body_rate: nothing happens."""


def _done() -> Future[None]:
    future: Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


def _closed() -> Future[None]:
    future: Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(iostream.StreamClosedError())
    # Who does not look does not want to know.
    future.exception()
    return future
