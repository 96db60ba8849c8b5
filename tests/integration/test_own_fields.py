"""Fields that are the server's to set, and applications that set them: in every class."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Serve
from .server import Server

# What a path answers with: status, fields, pieces of the body.
ANSWERS = """
STREAM = [("Content-Type", "text/event-stream"), ("Connection", "keep-alive"),
    ("Keep-Alive", "timeout=5"), ("Cache-Control", "no-cache")]
ANSWERS = {
    "/": ("200 OK", [], [b"hello"]),
    "/stream": ("200 OK", STREAM, [b"data: 1\\n\\n", b"data: 2\\n\\n"]),
    "/proxied": ("200 OK", [("Content-Length", "7"), ("Transfer-Encoding", "chunked"),
        ("Connection", "X-Hop, Keep-Alive"), ("X-Hop", "1"), ("X-End", "2")], [b"decoded"]),
    "/unframed": ("200 OK", [("Transfer-Encoding", "chunked")], [b"de", b"coded"]),
    "/close": ("200 OK", [("Connection", "close"), ("Content-Length", "3")], [b"bye"]),
    "/close/stream": ("200 OK", [("Connection", "close")], [b"b", b"ye"]),
    "/407": ("407 Proxy Authentication Required", [("Proxy-Authenticate", "Basic")], [b"who?"]),
}
"""

WSGI = (
    ANSWERS
    + """
def app(environ, start_response):
    status, headers, pieces = ANSWERS[environ["PATH_INFO"]]
    start_response(status, headers)
    return iter(pieces)
"""
)

ASGI = (
    ANSWERS
    + """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    status, headers, pieces = ANSWERS[scope["path"]]
    await send({"type": "http.response.start", "status": int(status[:3]),
        "headers": [(n.encode(), v.encode()) for n, v in headers]})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})
"""
)

TORNADO = (
    ANSWERS
    + """
import tornado.web

class Handler(tornado.web.RequestHandler):
    async def get(self):
        status, headers, pieces = ANSWERS[self.request.path]
        self.set_status(int(status[:3]))
        for name, value in headers:
            self.set_header(name, value)
        for piece in pieces:
            self.write(piece)
            await self.flush()

app = tornado.web.Application([("/.*", Handler)])
"""
)

CLASSES = {
    "sync": (WSGI, "-k", "sync"),
    "gthread": (WSGI, "-k", "gthread", "--threads", "4"),
    "gevent": (WSGI, "-k", "gevent"),
    "eventlet": (WSGI, "-k", "eventlet"),
    "tornado with WSGI": (WSGI, "-k", "tornado"),
    "tornado": (TORNADO, "-k", "tornado"),
    "asgi": (ASGI, "-k", "asgi"),
}


@pytest.fixture(scope="module", params=CLASSES.values(), ids=CLASSES.keys())
def server(request: pytest.FixtureRequest, serve_module: Serve) -> Iterator[Server]:
    """A server of each class."""
    application, *arguments = request.param
    running = serve_module("-w", "1", *arguments, application=application, ready=False)
    running.wait_listening()
    yield running


def test_fields_of_the_connection_are_left_out_with_one_line_each(server: Server) -> None:
    for _ in range(3):
        with server.connect() as client:
            response = client.get("/stream")
            assert (response.status, response.body) == (200, b"data: 1\n\ndata: 2\n\n")
            assert response["Connection"] == "keep-alive"
            assert "Keep-Alive" not in response
            assert response["Cache-Control"] == "no-cache"
            # The connection is as good as before.
            assert client.get("/").text == "hello"
    for name in ("Connection", "Keep-Alive"):
        server.eventually("the log says so", lambda n=name: f"sets {n}," in server.log)
        (line,) = (line for line in server.log.splitlines() if f"sets {name}," in line)
        assert "[WARNING]" in line


def test_framing_of_the_application_is_not_believed(server: Server) -> None:
    with server.connect() as client:
        response = client.get("/proxied")
        assert response.body == b"decoded"
        assert response["Content-Length"] == "7"
        assert "Transfer-Encoding" not in response
        # RFC 9110 7.6.1: what Connection names is for this hop alone.
        assert "X-Hop" not in response
        assert response["X-End"] == "2"
        response = client.get("/unframed")
        assert response.body == b"decoded"
        assert response.all("Transfer-Encoding") == ["chunked"]
        assert client.get("/").text == "hello"


@pytest.mark.parametrize("path", ["/close", "/close/stream"])
def test_connection_close_of_the_application_closes_it(server: Server, path: str) -> None:
    with server.connect() as client:
        assert client.get("/").text == "hello"
        response = client.get(path)
        assert response.body == b"bye"
        assert response["Connection"] == "close"
        assert client.rest() == b""


def test_a_proxy_may_ask_for_authentication(server: Server) -> None:
    response = server.get("/407")
    assert (response.status, response.text) == (407, "who?")
    assert response["Proxy-Authenticate"] == "Basic"
