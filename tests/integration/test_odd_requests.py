"""What should not be sent to a port of plain HTTP/1, and is: answered, and called by its name."""

from __future__ import annotations

import json

import pytest

from .conftest import Serve
from .server import Server

WSGI = """
import json

def app(environ, start_response):
    start_response("200 OK", [])
    names = ("PATH_INFO", "RAW_URI", "QUERY_STRING")
    return [json.dumps([environ[name] for name in names]).encode()]
"""

ASGI = """
import json

async def app(scope, receive, send):
    if scope["type"] == "http":
        path = scope["path"].encode().decode("latin-1")
        raw = scope["raw_path"].decode("ascii")
        query = scope["query_string"].decode("ascii")
        body = json.dumps([path, raw + "?" + query, query])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body.encode()})
"""

TORNADO = """
import json
import tornado.web
from urllib.parse import unquote

class Handler(tornado.web.RequestHandler):
    def get(self):
        request = self.request
        path = unquote(request.path, "latin-1")
        self.write(json.dumps([path, request.uri, request.query]))

app = tornado.web.Application([("/.*", Handler)])
"""

CLASSES = {
    "sync": (WSGI, "-k", "sync"),
    "gthread": (WSGI, "-k", "gthread", "--threads", "2"),
    "gevent": (WSGI, "-k", "gevent"),
    "eventlet": (WSGI, "-k", "eventlet"),
    "asgi": (ASGI, "-k", "asgi"),
    "tornado": (TORNADO, "-k", "tornado"),
}


@pytest.mark.parametrize("case", CLASSES)
def test_a_target_beyond_ascii_is_served_percent_encoded(serve: Serve, case: str) -> None:
    application, *arguments = CLASSES[case]
    server = serve("-w", "1", "--access-logfile", "access.log", *arguments, application=application)
    server.access_lines(1)
    target = "/caf\u00e9/%2f?q=\u20ac"
    with server.connect() as client:
        client.send(b"GET " + target.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        path, uri, query = client.response().json
        # The same as what should have been sent.
        client.send(b"GET /caf%C3%A9/%2f?q=%E2%82%AC HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.response().json == [path, uri, query]
    assert path == "/caf\u00e9//".encode().decode("latin-1")
    assert (uri, query) == ("/caf%C3%A9/%2f?q=%E2%82%AC", "q=%E2%82%AC")
    for line in server.access_lines(3)[1:]:
        assert '"GET /caf%C3%A9/%2f?q=%E2%82%AC HTTP/1.1"' in line


def test_a_target_in_another_encoding_is_served_byte_by_byte(serve: Serve) -> None:
    server = serve("-w", "1", application=WSGI)
    with server.connect() as client:
        client.send(b"GET http://a.example/caf\xe9?\x80\xff HTTP/1.1\r\nHost: x\r\n\r\n")
        assert json.loads(client.response().body) == [
            "/caf\u00e9",
            "http://a.example/caf%E9?%80%FF",
            "%80%FF",
        ]
        # The name of a host has no such bytes.
        client.send(b"GET http://caf\xe9.example/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.response().status == 400


def test_a_target_beyond_ascii_can_be_refused(serve: Serve) -> None:
    server = serve("-w", "1", "--non-ascii-target", "refuse")
    with server.connect() as client:
        client.send("GET /caf\u00e9 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.response().status == 400
        assert client.is_closed()
    server.says("byte beyond ASCII in the request target (non_ascii_target)")
    assert server.get("/caf%C3%A9").status == 200


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Server:
    """One server for what is refused."""
    return serve_module("-w", "1")


FOREIGN = {
    "TLS": (
        b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(range(193)),
        400,
        "a TLS handshake on a plain HTTP port",
    ),
    "PROXY 1": (
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        400,
        "a PROXY protocol header, version 1",
    ),
    "PROXY 1, health check": (b"PROXY UNKNOWN\r\n", 400, "a PROXY protocol header, version 1"),
    "PROXY 2": (
        b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        400,
        "a PROXY protocol header, version 2",
    ),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/2 without TLS"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_another_protocol_is_called_by_its_name(server: Server, case: str) -> None:
    data, status, name = FOREIGN[case]
    with server.connect() as client:
        client.send(data)
        assert client.response().status == status
        assert client.is_closed()
    server.says(f"Invalid request from ip=127.0.0.1: {name}")


def test_only_the_beginning_of_a_connection_is_another_protocol(serve: Serve) -> None:
    server = serve("-w", "1")
    with server.connect() as client:
        assert client.get().status == 200
        client.send(b"\x16\x03\x01\x00\xc8")
        assert client.response().status == 400
    server.says("method is not a token")
    assert "TLS" not in server.log


BEYOND = {
    "a line": ([], "/" + "a" * 5000, 414, "request line longer than limit_request_line"),
    "a line without a limit of its own": (
        ["--limit-request-line", "0"],
        "/" + "a" * 66_000,
        414,
        "request line longer than limit_request_head",
    ),
    "a line beyond what is possible": (
        ["--limit-request-line", "0", "--limit-request-head", "96K"],
        "/" + "a" * 120_000,
        414,
        "request line longer than limit_request_head",
    ),
    "an expanding line": (
        ["--limit-request-line", "0", "--limit-request-head", "96K"],
        "/" + "\u00e9" * 45_000,
        431,
        "larger than what can be handed to a worker",
    ),
}


@pytest.mark.parametrize("case", BEYOND)
def test_a_request_line_that_is_too_long_names_the_setting(serve: Serve, case: str) -> None:
    arguments, target, status, said = BEYOND[case]
    server = serve("-w", "1", *arguments)
    with server.connect() as client:
        client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.response().status == status
    server.says(said)


def test_a_line_of_almost_all_the_head_is_served(serve: Serve) -> None:
    arguments = ("--limit-request-line", "0", "--limit-request-head", "96K")
    server = serve("-w", "1", *arguments, application=WSGI)
    target = "/" + "a" * 90_000
    assert server.get(target).json[0] == target
