"""The asgi class on the real server."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .client import Lost
from .conftest import Serve
from .processes import memory
from .server import Server

APPLICATION = r"""
import asyncio, contextvars, hashlib, json, os, sys, threading, time

started = []
variable = contextvars.ContextVar("variable", default="unset")

def note(name, text=""):
    with open(name, "a") as file:
        file.write(text + "\n")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    assert scope["type"] == "http", scope["type"]
    name = scope["path"].strip("/").replace("/", "_")
    handler = globals().get("do_" + name, do_)
    await handler(scope, receive, send, scope["query_string"].decode())

async def lifespan(scope, receive, send):
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"]["started"] = os.getpid()
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    note("shutdown", str(os.getpid()))
    await send({"type": "lifespan.shutdown.complete"})

async def start(send, status=200, *headers, **more):
    headers = [(b"content-type", b"text/plain"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})

async def piece(send, data, more=True):
    await send({"type": "http.response.body", "body": data, "more_body": more})

async def ok(send, data):
    if isinstance(data, str):
        data = data.encode()
    await start(send, 200, (b"content-length", str(len(data)).encode()))
    await piece(send, data, False)

async def do_(scope, receive, send, query):
    await ok(send, "hello")

async def do_pid(scope, receive, send, query):
    await ok(send, str(os.getpid()))

async def do_state(scope, receive, send, query):
    await ok(send, str(scope["state"]["started"]))

async def do_scope(scope, receive, send, query):
    await ok(send, json.dumps(scope, default=lambda b: b.decode("latin-1")))

async def do_sleep(scope, receive, send, query):
    note("begun")
    await asyncio.sleep(float(query))
    await ok(send, "slept")

async def do_block(scope, receive, send, query):
    note("begun")
    time.sleep(float(query))
    await ok(send, "blocked")

async def do_digest(scope, receive, send, query):
    digest, length, pieces = hashlib.sha256(), 0, 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            note("disconnected")
            return
        digest.update(message["body"])
        length += len(message["body"])
        pieces += 1
        if query:
            await asyncio.sleep(float(query))
        if not message["more_body"]:
            break
    await ok(send, json.dumps([length, digest.hexdigest(), pieces]))

async def do_echo_stream(scope, receive, send, query):
    await start(send)
    while True:
        message = await receive()
        await piece(send, message["body"], message["more_body"])
        if not message["more_body"]:
            break

async def do_early(scope, receive, send, query):
    await ok(send, "I did not read your body")

async def do_big(scope, receive, send, query):
    await start(send)
    size, block = int(query), b"x" * 65536
    while size > 0:
        await piece(send, block[:size])
        size -= len(block)
    await piece(send, b"", False)
    note("sent")

async def do_ticks(scope, receive, send, query):
    note("begun")
    await start(send)
    try:
        while True:
            await piece(send, b"tick\n")
            await asyncio.sleep(0.02)
    finally:
        note("ended")

async def do_sse(scope, receive, send, query):
    await start(send)
    note("begun")
    await receive()
    message = await receive()
    note("told", message["type"])

async def do_background(scope, receive, send, query):
    await ok(send, "answered")
    await asyncio.sleep(float(query))
    note("background")

async def do_raise(scope, receive, send, query):
    raise LookupError("nothing there")

async def do_late(scope, receive, send, query):
    await start(send)
    await piece(send, b"begun")
    raise LookupError("too late")

async def do_too_much(scope, receive, send, query):
    await start(send, 200, (b"content-length", b"3"))
    await piece(send, b"toomuch", False)

async def do_too_little(scope, receive, send, query):
    await start(send, 200, (b"content-length", b"30"))
    await piece(send, b"little", False)

async def do_exit(scope, receive, send, query):
    sys.exit(int(query))

async def do_file(scope, receive, send, query):
    await start(send)
    await send({"type": "http.response.pathsend", "path": os.path.abspath(query)})

async def do_hints(scope, receive, send, query):
    await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
    await ok(send, "hinted")

async def do_trailers(scope, receive, send, query):
    await start(send, 200, trailers=True)
    await piece(send, b"body", False)
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"42")]})

async def do_libraries(scope, receive, send, query):
    import anyio, sniffio
    got = [sniffio.current_async_library(), asyncio.current_task() is not None, variable.get()]
    variable.set("set")
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)
    with anyio.move_on_after(0.01):
        await receive()
        await receive()
    got.append(await anyio.to_thread.run_sync(variable.get))
    await ok(send, json.dumps(got))
"""


def asgi(*arguments: str) -> tuple[str, ...]:
    return ("-k", "asgi", *arguments)


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest, serve_module: Serve) -> Iterator[Server]:
    """One server for the tests that leave it as it was, on each event loop."""
    yield serve_module(*asgi("--asgi-loop", request.param), application=APPLICATION)


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
            response = client.get("/")
            assert (response.status, response.text) == (200, "hello")


def test_the_scope_comes_from_the_real_connection(server: Server) -> None:
    with server.connect() as client:
        scope = client.get("/scope?a=%20b", Host="example.org").json
        port = client.socket.getsockname()[1]
    assert scope["client"] == ["127.0.0.1", port]
    assert scope["server"] == ["127.0.0.1", server.port]
    assert ["host", "example.org"] in scope["headers"]
    assert (scope["path"], scope["query_string"]) == ("/scope", "a=%20b")


def test_the_state_of_the_lifespan_reaches_the_requests(server: Server) -> None:
    assert server.get("/state").text == str(server.workers[0])


def test_current_task_contextvars_task_groups_and_threads_work(server: Server) -> None:
    for _ in range(2):
        assert server.get("/libraries").json == ["asyncio", True, "unset", "set"]


def test_an_upload_of_fifty_megabytes_arrives_whole_in_pieces(server: Server) -> None:
    data = os.urandom(1 << 20) * 50
    with server.connect() as client:
        client.send(b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data))
        client.send(data)
        length, digest, pieces = client.response().json
    assert (length, digest) == (len(data), hashlib.sha256(data).hexdigest())
    assert pieces > 100


def test_a_chunked_upload_is_answered_while_it_comes(server: Server) -> None:
    with server.connect() as client:
        client.send(b"POST /echo/stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        got = b""
        for number in range(3):
            client.send(b"5\r\nhell%d\r\n" % number)
            while b"hell%d" % number not in got:
                got += client.socket.recv(65536)
        client.send(b"0\r\n\r\n")
        while not got.endswith(b"0\r\n\r\n"):
            got += client.socket.recv(65536)
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_slow_application_holds_a_fast_upload_back(server: Server) -> None:
    data = b"x" * (4 << 20)
    with server.connect() as client:
        client.send(
            b"POST /digest?0.001 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data)
        )
        client.send(data)
        length, digest, _ = client.response().json
    assert (length, digest) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_body_that_nobody_reads_does_not_disturb_the_next_request(server: Server) -> None:
    with server.connect() as client:
        client.send(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789")
        assert client.response().text == "I did not read your body"
        assert client.get("/").text == "hello"


def test_a_client_that_leaves_during_its_upload_is_told(server: Server) -> None:
    with server.connect() as client:
        client.send(b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n0123456789")
        time.sleep(0.1)
    lines(server, "disconnected")


def test_a_large_streamed_response_waits_for_a_slow_reader_in_little_memory(server: Server) -> None:
    size = 200 << 20
    (server.directory / "sent").unlink(missing_ok=True)
    pids = [server.router, *server.workers]
    before = sum(map(memory, pids))
    with server.connect(buffer=65536) as client:
        client.send(b"GET /big?%d HTTP/1.1\r\nHost: x\r\n\r\n" % size)
        time.sleep(0.5)
        assert not (server.directory / "sent").exists()
        assert sum(map(memory, pids)) - before < 64 << 20
        assert len(client.response().body) == size
    lines(server, "sent")


def test_a_stream_ends_when_its_client_leaves(server: Server) -> None:
    (server.directory / "ended").unlink(missing_ok=True)
    with server.connect() as client:
        client.send(b"GET /ticks HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        while got.count(b"tick") < 3:
            got += client.socket.recv(65536)
    lines(server, "ended")


def test_the_head_of_an_event_stream_comes_before_its_first_event(server: Server) -> None:
    (server.directory / "told").unlink(missing_ok=True)
    with server.connect() as client:
        client.send(b"GET /sse HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        while b"\r\n\r\n" not in got:
            got += client.socket.recv(65536)
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert lines(server, "told") == ["http.disconnect"]


def test_the_client_does_not_wait_for_what_runs_after_the_response(server: Server) -> None:
    (server.directory / "background").unlink(missing_ok=True)
    with server.connect() as client:
        assert client.get("/background?0.2").text == "answered"
        assert not (server.directory / "background").exists()
        assert client.get("/").text == "hello"
    lines(server, "background")


def test_a_hundred_requests_wait_at_the_same_time(server: Server) -> None:
    clients = [server.connect() for _ in range(100)]
    began = time.monotonic()
    for client in clients:
        client.send(b"GET /sleep?0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [client.response().text for client in clients] == ["slept"] * 100
    assert time.monotonic() - began < 5


def test_an_error_is_answered_500_and_logged_with_its_traceback(server: Server) -> None:
    with server.connect() as client:
        assert client.get("/raise?x").status == 500
        assert client.get("/").status == 200
    server.says("Error handling request GET /raise?x\nTraceback (most recent call last):\n")
    server.says("LookupError: nothing there\n")


@pytest.mark.parametrize("path", ["/late", "/too/little"])
def test_a_response_that_cannot_be_finished_is_cut(server: Server, path: str) -> None:
    with server.connect() as client, pytest.raises(Lost):
        client.get(path)
    server.says(f"GET {path}")


def test_more_than_the_content_length_is_cut_off_and_logged(server: Server) -> None:
    with server.connect() as client:
        assert client.get("/too/much").text == "too"
    server.says("GET /too/much: ")


def test_head_has_no_body(server: Server) -> None:
    assert b"\r\n\r\n" in (
        got := server.exchange(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    )
    assert got.endswith(b"\r\n\r\n")
    assert b"Content-Length: 5" in got


def test_a_file_is_sent_by_its_path(server: Server) -> None:
    data = os.urandom(3_000_000)
    (server.directory / "file").write_bytes(data)
    response = server.get("/file?file")
    assert response["Content-Length"] == "3000000"
    assert response.body == data


def test_early_hints_come_before_the_response(server: Server) -> None:
    response = server.get("/hints")
    assert response.text == "hinted"
    (hint,) = response.interim
    assert (hint.status, hint["link"]) == (103, "</a.css>; rel=preload")


def test_trailers_come_after_the_body(server: Server) -> None:
    response = server.get("/trailers")
    assert response.text == "body"
    assert response.trailers == [("x-sum", "42")]


def test_an_upgrade_to_websocket_is_answered_501_without_the_application(server: Server) -> None:
    got = server.exchange(
        b"GET /raise HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert got.startswith(b"HTTP/1.1 501 ")


def test_an_idle_worker_uses_no_processor_time(server: Server) -> None:
    assert server.get("/").status == 200

    def ticks() -> int:
        fields = Path(f"/proc/{server.workers[0]}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(1)
    assert ticks() - before <= 5


# ---- start and end ----------------------------------------------------------------------------


def test_term_lets_requests_finish_and_tells_the_application(serve: Serve) -> None:
    server = serve(*asgi(), application=APPLICATION)
    (worker,) = server.workers
    with server.connect() as client:
        client.send(b"GET /sleep?0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
        lines(server, "begun")
        server.signal(signal.SIGTERM)
        assert client.response().text == "slept"
    assert server.wait_exit() == 0
    assert lines(server, "shutdown") == [str(worker)]


def test_term_to_a_worker_lets_its_requests_finish_and_starts_another(serve: Serve) -> None:
    server = serve(*asgi(), application=APPLICATION)
    (worker,) = server.workers
    with server.connect() as client:
        client.send(b"GET /sleep?0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
        lines(server, "begun")
        server.signal(signal.SIGTERM, worker)
        assert client.response().text == "slept"
        assert int(client.get("/pid").text) != worker
    assert lines(server, "shutdown") == [str(worker)]


def test_term_to_a_worker_lets_its_uploads_finish(serve: Serve) -> None:
    server = serve(*asgi(), application=APPLICATION)
    (worker,) = server.workers
    data = os.urandom(1 << 20)
    with server.connect() as client:
        client.send(b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data))
        client.send(data[:1000])
        server.get("/")
        server.signal(signal.SIGTERM, worker)
        client.send(data[1000:])
        length, digest, _ = client.response().json
    assert (length, digest) == (len(data), hashlib.sha256(data).hexdigest())
    server.wait_gone(worker)


def test_quit_ends_at_once(serve: Serve) -> None:
    server = serve(*asgi(), application=APPLICATION)
    with server.connect() as client:
        client.send(b"GET /sleep?60 HTTP/1.1\r\nHost: x\r\n\r\n")
        lines(server, "begun")
        server.signal(signal.SIGQUIT)
        assert server.wait_exit(within=10) == 0


def test_hup_under_load_loses_no_request(serve: Serve) -> None:
    server = serve(*asgi("-w", "2"), application=APPLICATION)
    before = server.wait_workers(2)
    load = server.load(8, "/sleep?0.01")
    server.signal(signal.SIGHUP)
    server.wait_gone(*before)
    load.more(50)
    outcomes = load.finish()
    assert set(outcomes) == {"200"}, outcomes


def test_max_requests_replaces_workers_and_loses_no_request(serve: Serve) -> None:
    server = serve(*asgi("--max-requests", "50"), application=APPLICATION)
    (first,) = server.workers
    load = server.load(4, "/pid")
    server.wait_gone(first)
    load.more(100)
    outcomes = load.finish()
    assert set(outcomes) == {"200"}, outcomes


def test_a_blocked_loop_is_found_its_stacks_are_logged_and_the_worker_is_replaced(
    serve: Serve,
) -> None:
    server = serve(*asgi("--timeout", "1"), application=APPLICATION)
    (worker,) = server.workers
    with server.connect() as waiting, server.connect() as client:
        waiting.send(b"GET /sleep?60 HTTP/1.1\r\nHost: x\r\n\r\n")
        lines(server, "begun")
        client.send(b"GET /block?60 HTTP/1.1\r\nHost: x\r\n\r\n")
        lines(server, "begun", 2)
        server.says("WORKER TIMEOUT")
        # faulthandler's, and then those of the tasks.
        server.says("in do_block\n")
        server.says("Task of GET /sleep?60 (most recent call last):")
        server.wait_gone(worker)
    assert server.get("/").text == "hello"


def test_request_timeout_cancels_the_task_and_the_worker_lives_on(serve: Serve) -> None:
    server = serve(*asgi("--request-timeout", "0.5"), application=APPLICATION)
    workers = server.workers
    assert server.get("/sleep?60").status == 504
    server.says("GET /sleep?60 took longer than request_timeout: it is cancelled")
    assert server.get("/").text == "hello"
    assert server.workers == workers


def test_an_exit_in_the_application_ends_the_worker_and_names_the_request(serve: Serve) -> None:
    server = serve(*asgi(), application=APPLICATION)
    (worker,) = server.workers
    assert server.get("/exit?7").status == 502
    server.says("SystemExit in GET /exit?7: the worker exits")
    server.says(f"Worker (pid:{worker}) exited with code 7")
    assert server.get("/").text == "hello"


FAILING = """
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


@pytest.mark.parametrize("mode", ["on", "auto"])
def test_a_start_that_fails_ends_the_server_with_its_message_and_code_3(
    serve: Serve, mode: str
) -> None:
    server = serve(*asgi("--asgi-lifespan", mode), application=FAILING, ready=False)
    assert server.wait_exit() == 3
    assert "the application could not start: no database" in server.log
    assert "Traceback" not in server.log


NO_LIFESPAN = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"no lifespan"})
"""


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_an_application_without_lifespan_is_served(serve: Serve, mode: str) -> None:
    server = serve(*asgi("--asgi-lifespan", mode), application=NO_LIFESPAN)
    assert server.get("/").text == "no lifespan"
    assert "AssertionError" not in server.log


def test_an_application_without_lifespan_is_refused_where_it_must_have_it(serve: Serve) -> None:
    server = serve(*asgi("--asgi-lifespan", "on"), application=NO_LIFESPAN, ready=False)
    assert server.wait_exit() == 3
    assert "the application does not know the lifespan protocol" in server.log
    assert "use --asgi-lifespan auto or off" in server.log


def test_a_wsgi_application_is_refused_with_the_fix(serve: Serve) -> None:
    server = serve(*asgi(), ready=False)
    assert server.wait_exit() == 4
    assert "app:app is a WSGI application, which worker class asgi cannot run" in server.log
    assert "use -k sync, gthread or gevent" in server.log


def test_an_asgi_application_under_sync_is_refused_with_the_fix(serve: Serve) -> None:
    server = serve("-k", "sync", application=APPLICATION, ready=False)
    assert server.wait_exit() == 4
    assert "use -k asgi" in server.log


def test_a_new_router_finds_the_workers_as_they_are(serve: Serve) -> None:
    server = serve(*asgi(), application=APPLICATION)
    (worker,) = server.workers
    with server.connect() as client:
        client.send(b"GET /sse HTTP/1.1\r\nHost: x\r\n\r\n")
        lines(server, "begun")
        router = server.router
        server.signal(signal.SIGKILL, router)
        server.wait_gone(router)
        # Its client is gone with the router, and it is told.
        assert lines(server, "told") == ["http.disconnect"]
    server.eventually("a new router", lambda: _answers(server))
    assert server.get("/pid").text == str(worker)


def _answers(server: Server) -> bool:
    try:
        return server.get("/").status == 200
    except (OSError, Lost):
        return False
