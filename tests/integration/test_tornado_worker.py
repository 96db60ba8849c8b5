"""The tornado class on the real server."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("tornado")

from .conftest import Serve
from .server import Server

APPLICATION = r"""
import asyncio, hashlib, json, os, time
import tornado.gen, tornado.ioloop, tornado.iostream, tornado.web

def note(name, text=""):
    with open(name, "a") as file:
        file.write(text + "\n")

class Hello(tornado.web.RequestHandler):
    def get(self):
        self.write("hello")

class Request(tornado.web.RequestHandler):
    def prepare(self):
        request = self.request
        self.finish({
            "method": request.method, "uri": request.uri, "path": request.path,
            "version": request.version, "remote_ip": request.remote_ip,
            "protocol": request.protocol, "host": request.host,
            "twice": request.headers.get_list("x-twice"),
            "arguments": [a.decode() for a in request.query_arguments.get("a", [])],
        })

class Sleep(tornado.web.RequestHandler):
    async def get(self):
        note("begun")
        await asyncio.sleep(float(self.get_argument("s")))
        self.write("slept")

class Old(tornado.web.RequestHandler):
    @tornado.gen.coroutine
    def get(self):
        yield tornado.gen.sleep(0.01)
        self.write("old style")

class Stream(tornado.web.RequestHandler):
    async def get(self):
        for number in range(3):
            self.write("piece %d\n" % number)
            await self.flush()
            await asyncio.sleep(0.01)

class Endless(tornado.web.RequestHandler):
    def on_connection_close(self):
        note("closed")
    async def get(self):
        try:
            while True:
                self.write("tick\n")
                await self.flush()
                await asyncio.sleep(0.02)
        except tornado.iostream.StreamClosedError:
            note("stream closed")

class Big(tornado.web.RequestHandler):
    async def get(self):
        for _ in range(int(self.get_argument("n"))):
            self.write(b"x" * 65536)
            await self.flush()
        note("sent")

class Form(tornado.web.RequestHandler):
    def post(self):
        files = {name: [f.filename, len(f.body)] for name, (f,) in self.request.files.items()}
        fields = {name: self.get_body_argument(name) for name in self.request.body_arguments}
        self.write({"fields": fields, "files": files})

@tornado.web.stream_request_body
class Upload(tornado.web.RequestHandler):
    def initialize(self):
        self.digest, self.length, self.pieces = hashlib.sha256(), 0, 0
    async def prepare(self):
        await asyncio.sleep(0)
        if self.request.headers.get("X-Refuse"):
            self.send_error(413)
    async def data_received(self, chunk):
        await asyncio.sleep(0)
        self.digest.update(chunk)
        self.length += len(chunk)
        self.pieces += 1
        if self.pieces == 1:
            note("first piece")
    def on_connection_close(self):
        note("upload cut")
    def post(self):
        self.write(json.dumps([self.length, self.digest.hexdigest(), self.pieces]))

class Raises(tornado.web.RequestHandler):
    def get(self):
        raise LookupError("nothing there")

class Late(tornado.web.RequestHandler):
    async def get(self):
        self.write("begun")
        await self.flush()
        raise LookupError("too late")

class Teapot(tornado.web.RequestHandler):
    def get(self):
        self.set_status(418, "Short and Stout")
        self.set_cookie("a", "1")
        self.set_cookie("b", "2")

class Away(tornado.web.RequestHandler):
    def get(self):
        self.redirect("/hello")

class Etag(tornado.web.RequestHandler):
    def get(self):
        self.write("x" * 100)

class Loop(tornado.web.RequestHandler):
    def get(self):
        loop = tornado.ioloop.IOLoop.current()
        loop.add_callback(self.finish, str(loop.asyncio_loop is asyncio.get_event_loop()))
        self._auto_finish = False

class Pid(tornado.web.RequestHandler):
    def get(self):
        self.write(str(os.getpid()))

app = tornado.web.Application([
    ("/ready", Hello), ("/hello", Hello), ("/request.*", Request), ("/sleep", Sleep),
    ("/old", Old), ("/stream", Stream), ("/endless", Endless), ("/big", Big), ("/form", Form),
    ("/upload", Upload), ("/raises", Raises), ("/late", Late), ("/teapot", Teapot),
    ("/away", Away), ("/etag", Etag), ("/loop", Loop), ("/pid", Pid),
    ("/static/(.*)", tornado.web.StaticFileHandler, {"path": "."}),
])
"""


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Iterator[Server]:
    yield serve_module("-k", "tornado", application=APPLICATION)


def lines(server: Server, name: str, count: int = 1) -> list[str]:
    """Wait until the application has written so many lines."""
    path = server.directory / name

    def read() -> list[str]:
        return path.read_text().splitlines() if path.exists() else []

    server.eventually(f"{name} has {count} lines", lambda: len(read()) >= count)
    return read()


def test_requests_are_answered_over_one_connection(server: Server) -> None:
    with server.connect() as client:
        for _ in range(3):
            response = client.get("/hello")
            assert (response.status, response.text) == (200, "hello")
            assert response["Content-Length"] == "5"


def test_a_handler_sees_the_request_as_it_came(server: Server) -> None:
    with server.connect() as client:
        client.send(
            b"PUT /request%20x?a=1&a=2 HTTP/1.1\r\nHost: example.org\r\n"
            b"X-Twice: 1\r\nX-Twice: 2\r\n\r\n"
        )
        seen = client.response().json
    assert seen == {
        "method": "PUT",
        "uri": "/request%20x?a=1&a=2",
        "path": "/request%20x",
        "version": "HTTP/1.1",
        "remote_ip": "127.0.0.1",
        "protocol": "http",
        "host": "example.org",
        "twice": ["1", "2"],
        "arguments": ["1", "2"],
    }


def test_handlers_that_await_run_at_the_same_time(server: Server) -> None:
    clients = [server.connect() for _ in range(50)]
    began = time.monotonic()
    for client in clients:
        client.request("/sleep?s=0.5")
    assert [client.response().text for client in clients] == ["slept"] * 50
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("path", "text"), [("/old", "old style"), ("/loop", "True")])
def test_coroutines_and_callbacks_of_tornado_work(server: Server, path: str, text: str) -> None:
    assert server.get(path).text == text


def test_what_is_flushed_goes_out_at_once(server: Server) -> None:
    response = server.get("/stream")
    assert response.chunks == [b"piece 0\n", b"piece 1\n", b"piece 2\n"]


def test_flush_waits_for_a_slow_reader(server: Server) -> None:
    with server.connect(buffer=65536) as client:
        client.request("/big?n=1600")
        time.sleep(0.3)
        assert not (server.directory / "sent").exists()
        assert len(client.response().body) == 1600 * 65536
    lines(server, "sent")


def test_a_handler_is_told_when_its_client_leaves(server: Server) -> None:
    with server.connect() as client:
        client.request("/endless")
        client.head()
        client.chunk()
    lines(server, "closed")
    lines(server, "stream closed")


def test_a_form_with_a_file_is_parsed(server: Server) -> None:
    data = os.urandom(100_000)
    part = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    body = part % (b"a", b"", b"1") + part % (b"f", b'; filename="f.bin"', data) + b"--x--\r\n"
    with server.connect() as client:
        response = client.post("/form", body, Content_Type="multipart/form-data; boundary=x")
        assert response.json == {"fields": {"a": "1"}, "files": {"f": ["f.bin", len(data)]}}


def test_an_upload_of_fifty_megabytes_streams_into_the_handler(server: Server) -> None:
    data = os.urandom(1 << 20) * 50
    (server.directory / "first piece").unlink(missing_ok=True)
    with server.connect() as client:
        client.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data))
        client.send(data[:1000])
        lines(server, "first piece")
        client.send(data[1000:])
        length, digest, pieces = client.response().json
    assert (length, digest) == (len(data), hashlib.sha256(data).hexdigest())
    assert pieces > 100


def test_an_upload_can_be_refused_before_its_body(server: Server) -> None:
    with server.connect() as client:
        client.request("/upload", "POST", X_Refuse="1", Content_Length="1000000")
        assert client.response().status == 413


def test_a_client_that_leaves_during_its_upload_is_told(server: Server) -> None:
    (server.directory / "first piece").unlink(missing_ok=True)
    with server.connect() as client:
        client.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n0123456789")
        lines(server, "first piece")
    lines(server, "upload cut")


def test_an_error_is_answered_by_tornado(server: Server) -> None:
    with server.connect() as client:
        assert client.get("/raises").status == 500
        assert client.get("/nowhere").status == 404
        assert client.get("/hello").status == 200


def test_reasons_cookies_and_redirects_arrive(server: Server) -> None:
    with server.connect() as client:
        response = client.get("/teapot")
        assert (response.status, response.reason) == (418, "Short and Stout")
        assert [value.split(";")[0] for value in response.all("Set-Cookie")] == ["a=1", "b=2"]
        response = client.get("/away")
        assert (response.status, response["Location"]) == (302, "/hello")


def test_conditional_and_head_requests_have_no_body(server: Server) -> None:
    with server.connect() as client:
        etag = client.get("/etag")["Etag"]
        response = client.get("/etag", If_None_Match=etag)
        assert (response.status, response.body) == (304, b"")
        assert client.get("/static/app.py").status == 200
        client.request("/static/app.py", "HEAD")
        assert client.response("HEAD").status == 200
        assert client.get("/hello").text == "hello"


def test_term_lets_requests_finish(serve: Serve) -> None:
    server = serve("-k", "tornado", application=APPLICATION)
    with server.connect() as client:
        client.request("/sleep?s=0.5")
        lines(server, "begun")
        server.signal(signal.SIGTERM)
        assert client.response().text == "slept"
    assert server.wait_exit() == 0


def test_hup_under_load_loses_no_request(serve: Serve) -> None:
    server = serve("-k", "tornado", "-w", "2", application=APPLICATION)
    before = server.wait_workers(2)
    load = server.load(8, "/sleep?s=0.01")
    server.signal(signal.SIGHUP)
    server.wait_gone(*before)
    load.more(50)
    outcomes = load.finish()
    assert set(outcomes) == {"200"}, outcomes


# ---- WSGI -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wsgi(serve_module: Serve) -> Iterator[Server]:
    yield serve_module("-k", "tornado")


def test_a_wsgi_application_is_served(wsgi: Server) -> None:
    with wsgi.connect() as client:
        assert client.get("/").status == 200
        assert client.post("/echo", b"some body").body == b"some body"
        assert client.get("/raise").status == 500
        assert client.get("/").status == 200


@pytest.mark.parametrize("size", [0, 10, 1 << 20, 50 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_wsgi_application_gets_whole_bodies(wsgi: Server, size: int, chunked: bool) -> None:
    data = os.urandom(1024) * (size // 1024) + os.urandom(size % 1024)
    with wsgi.connect() as client:
        if chunked:
            client.send(b"POST /digest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, size, 1 << 20):
                piece = data[at : at + (1 << 20)]
                client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            client.send(b"0\r\n\r\n")
            response = client.response()
        else:
            response = client.post("/digest", data)
    assert response.json == {"length": size, "sha256": hashlib.sha256(data).hexdigest()}


def test_a_client_that_leaves_during_its_upload_leaves_no_slot_taken(serve: Serve) -> None:
    server = serve("-k", "tornado", "--worker-connections", "2")
    for _ in range(5):
        with server.connect() as client:
            client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n0123456789")
    with server.connect() as client:
        assert client.post("/echo", b"body").body == b"body"


def test_wsgi_under_load_loses_no_request_over_hup(serve: Serve) -> None:
    server = serve("-k", "tornado", "-w", "2")
    before = server.wait_workers(2)
    load = server.load(8, "/pid")
    server.signal(signal.SIGHUP)
    server.wait_gone(*before)
    load.more(50)
    outcomes = load.finish()
    assert set(outcomes) == {"200"}, outcomes


def test_an_asgi_application_is_refused_with_the_fix(serve: Serve) -> None:
    application = "async def app(scope, receive, send): ..."
    server = serve("-k", "tornado", application=application, ready=False)
    assert server.wait_exit() == 4
    assert "use -k asgi" in server.log
