"""Slow clients cost memory in the router, not workers; and each wait has an end."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import pytest

from .client import Client, Lost
from .conftest import Serve, WorkerClass
from .processes import descriptors, eventually, memory
from .server import Server

# A request's head, but for its end.
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def impatient(serve_module: Serve) -> Iterator[Server]:
    """One sync worker, and short deadlines."""
    yield serve_module(
        "-w", "1", "--header-timeout", "1.5", "--keep-alive", "1.5",
    )  # fmt: skip


def drip(client: Client, data: bytes, pause: float) -> bytes:
    """Send byte after byte until the server answers: what it says until it closes."""
    client.socket.settimeout(pause)
    got = b""
    for index in range(len(data)):
        try:
            client.send(data[index : index + 1])
            got = client.socket.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            pass
        break
    client.socket.settimeout(20)
    return got + client.rest()


def test_the_deadline_of_a_head_is_absolute(impatient: Server) -> None:
    with impatient.connect() as client:
        started = time.monotonic()
        client.send(HEAD)
        # A byte now and then does not begin it anew.
        answer = drip(client, b"X-Slow: " + b"x" * 1000, pause=0.2)
        took = time.monotonic() - started
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"onnection: close\r\n" in answer
    assert 1.3 <= took < 4


def test_half_a_head_and_then_silence_is_408(impatient: Server) -> None:
    assert impatient.exchange(HEAD).startswith(b"HTTP/1.1 408 ")


def test_a_connection_without_a_byte_is_closed_without_a_word(impatient: Server) -> None:
    with impatient.connect() as client:
        started = time.monotonic()
        assert client.rest() == b""
        assert 1.3 <= time.monotonic() - started < 4


def test_an_idle_connection_is_closed_after_keepalive(impatient: Server) -> None:
    with impatient.connect() as client:
        assert client.get().status == 200
        started = time.monotonic()
        assert client.rest() == b""
        assert 1.3 <= time.monotonic() - started < 4


def test_two_hundred_slow_heads_take_nothing_from_others(impatient: Server) -> None:
    slow = [impatient.connect() for _ in range(200)]
    for client in slow:
        client.send(HEAD)
    started = time.monotonic()
    assert [impatient.get().status for _ in range(10)] == [200] * 10
    assert time.monotonic() - started < 1.5
    for client in slow:
        assert client.rest().startswith(b"HTTP/1.1 408 ")
        client.close()


def test_a_slow_body_holds_no_worker(impatient: Server) -> None:
    with impatient.connect() as slow:
        slow.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf ")
        assert impatient.get().text == "hello"
        slow.send(b"of it")
        assert slow.response().text == "half of it"


def test_a_body_below_its_minimum_rate_is_408(serve: Serve) -> None:
    server = serve("-w", "1", "--body-rate", "1000")
    with server.connect() as client:
        started = time.monotonic()
        client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        answer = drip(client, b"x" * 100, pause=0.5)
        # Ten seconds of grace.
        assert 9 <= time.monotonic() - started < 16
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_ends_early_reaches_no_worker(serve: Serve) -> None:
    server = serve("-w", "1")
    with server.connect() as client:
        client.send(b"POST /mark?reached HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    assert server.get("/mark?other").status == 200
    assert not (server.directory / "reached").exists()


def test_a_slow_reader_of_20_mb_holds_no_sync_worker(
    serve: Serve, worker_class: WorkerClass
) -> None:
    size = 20_000_000
    # However long the test takes to come back to them.
    server = serve("-w", "1", "--send-rate", "0", worker_class=worker_class)
    slow = [server.connect(buffer=4096) for _ in range(2 + worker_class.slots)]
    for client in slow:
        client.request(f"/big?{size}")
    # They read nothing at all, and the workers are free.
    started = time.monotonic()
    for _ in range(20):
        assert server.get().text == "hello"
    assert time.monotonic() - started < 5
    # What they were sent waits, most of it on disk.
    eventually("the router's memory is bounded", lambda: memory(server.router) < 40 << 20)
    for client in slow:
        response = client.response()
        assert len(response.body) == size
        assert hashlib.sha256(response.body).digest() == hashlib.sha256(b"x" * size).digest()


def test_a_slow_reader_who_leaves_costs_nothing(serve: Serve) -> None:
    server = serve("-w", "1")
    for _ in range(5):
        client = server.connect(buffer=4096)
        client.request("/big?20000000")
        assert client.head().status == 200
        client.close()
    with server.connect() as client:
        assert client.get().status == 200
    assert "Traceback" not in server.log
    eventually("the memory is given back", lambda: memory(server.router) < 30 << 20)


def test_a_reader_below_the_minimum_rate_is_cut_off(serve: Serve) -> None:
    server = serve("-w", "1", "--send-rate", "1000000")
    client = server.connect(buffer=4096)
    started = time.monotonic()
    client.request("/big?20000000")
    assert client.head().status == 200
    server.eventually("the rest waits in a file", lambda: spools(server.router))
    # Ten seconds of grace.
    server.eventually("it is cut off", lambda: not spools(server.router))
    assert time.monotonic() - started > 9
    # What the kernel has still comes, and then nothing.
    with pytest.raises(Lost):
        client.exactly(20_000_000)


def spools(pid: int) -> bool:
    """Whether a process has a file without a name that is on disk."""
    return any(
        link.endswith("(deleted)") and not link.startswith("/memfd:") for link in descriptors(pid)
    )


def test_a_stream_waits_for_its_reader_when_disk_is_not_wanted(serve: Serve) -> None:
    server = serve(
        "-w", "1", "--response-buffer", "64K", "--response-spool-limit", "0", application=(
        "import os\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    if environ['PATH_INFO'] != '/much':\n"
        "        return [b'hello']\n"
        "    def pieces():\n"
        "        for index in range(1000):\n"
        "            with open('progress', 'w') as progress:\n"
        "                progress.write(str(index))\n"
        "            yield b'x' * 65536\n"
        "    return pieces()\n"
    ),
    )  # fmt: skip
    client = server.connect(buffer=65536)
    client.request("/much")
    assert client.head().status == 200
    progress = server.directory / "progress"

    def rests() -> bool:
        before = progress.read_text()
        time.sleep(0.3)
        return before == progress.read_text() != "999"

    eventually("the application waits", rests)
    assert memory(server.router) < 20 << 20
    total = 0
    while piece := client.chunk():
        total += len(piece)
    assert total == 1000 * 65536
