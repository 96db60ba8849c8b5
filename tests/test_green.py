"""Greenlets that switch wherever they can, against a router's end in this process."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from green_driver import CLASSES
from remuda import _native
from remuda.workers.green import LARGE, FileInput, stacks

APPLICATION = """
import random, time

def pause():
    # Greenlets switch here, and come back in another order.
    time.sleep(random.choice((0, 0, 0.0005, 0.001, 0.003)))

class Body:
    def __init__(self, pieces):
        self.pieces = iter(pieces)
        self.open = True
    def __iter__(self):
        return self
    def __next__(self):
        pause()
        assert self.open
        return next(self.pieces)
    def close(self):
        pause()
        assert self.open
        self.open = False

def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/").encode()
    how = int(environ["QUERY_STRING"])
    pause()
    got = []
    while piece := environ["wsgi.input"].read(70_000):
        got.append(piece)
        pause()
    got = b"".join(got)
    # Others have had the gateway since.
    assert environ["PATH_INFO"].strip("/").encode() == name
    assert got == name * (len(got) // len(name))
    pieces = [name * 50, name * 2000, b"", name * 10_000, name]
    write = start_response("200 OK", [("X-Name", name.decode())])
    if how == 0:
        return pieces
    if how == 1:
        for piece in pieces:
            write(piece)
            pause()
        return []
    if how == 2:
        return Body(pieces)
    if how == 3:
        def late():
            for piece in pieces:
                pause()
                yield piece
        return late()
    write(pieces[0])
    pause()
    raise LookupError(name.decode())
"""

CHILD = """
import os, sys
from remuda import config, log, workers
settings = config.load(sys.argv[2:], {}, os.getcwd())
files = [int(fd) for fd in sys.argv[1].split(",")]
os._exit(workers.main(settings, log.Log(settings), files, 1))
"""

SLOTS = 200


class Worker:
    """A worker process and the router's end of its channel."""

    def __init__(self, directory: Path, name: str, application: str, *arguments: str) -> None:
        (directory / "application.py").write_text(application)
        self.log = directory / "log"
        self.log.touch()
        self.stderr = directory / "stderr"
        router_files, files = _native.channel_files(SLOTS)
        self.router = _native.RouterEnd(router_files)
        self.router.hello(1)
        with self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", CHILD, ",".join(map(str, files)), "-k", name),
                    *("--error-logfile", str(self.log), *arguments, "application:app"),
                ],
                cwd=directory,
                pass_fds=files,
                stderr=stderr,
            )
        for fd in files:
            os.close(fd)
        self.sequence = 0
        ready = self.router.receive(20)
        assert ready is not None and ready["kind"] == "ready", self.log.read_text()

    def send(self, slot: int, **request: Any) -> int:
        self.sequence += 1
        id = self.sequence << 16 | slot
        file = request.pop("file", None)
        message = self.router.encode(id, **request)
        while True:
            try:
                self.router.send(message, file=file)
                return id
            except BlockingIOError:
                time.sleep(0.001)

    def frame(self) -> dict[str, Any]:
        frame = self.router.receive(20)
        assert frame is not None, self.log.read_text()
        return frame


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Start a worker."""
    workers: list[Worker] = []

    def begin(name: str, application: str = APPLICATION, *arguments: str) -> Worker:
        workers.append(Worker(tmp_path, name, application, *arguments))
        return workers[-1]

    yield begin
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.kill()
        worker.process.wait()


@pytest.mark.parametrize("name", CLASSES)
def test_thousands_of_greenlets_that_switch_everywhere_keep_their_requests_apart(
    start: Any, name: str, tmp_path: Path
) -> None:
    worker = start(name, APPLICATION, "--worker-connections", str(SLOTS))
    chance = random.Random(7)
    total, begun, done = 3000, 0, 0
    free = list(range(SLOTS))
    bodies: dict[int, bytearray] = {}
    expected: dict[int, tuple[bytes, int]] = {}
    heads: dict[int, int] = {}
    kinds: dict[str, int] = defaultdict(int)
    cancelled: set[int] = set()
    spool = tmp_path / "spool"

    while done < total:
        while free and begun < total:
            slot = free.pop()
            key, how = b"r%06d." % begun, chance.randrange(5)
            body = key * chance.choice((0, 3, 2000))
            request: dict[str, Any] = {
                "target": f"/{key.decode()}?{how}",
                "method": "POST",
                "content_length": len(body),
            }
            if chance.random() < 0.05:
                body = key * 80_000  # larger than what is read on the hub
                spool.write_bytes(body)
                with spool.open("rb") as file:
                    request |= {"content_length": len(body), "file_length": len(body)}
                    worker.router.flow(slot, 0)
                    id = worker.send(slot, file=file.fileno(), **request)
                spool.unlink()
            else:
                worker.router.flow(slot, 0)
                id = worker.send(slot, body=body, **request)
            expected[id], bodies[id] = (key, how), bytearray()
            begun += 1
            if chance.random() < 0.03:
                # As the router does: first the flow word, then the frame.
                cancelled.add(id)
                worker.router.flow(slot, 2)
                while True:
                    try:
                        worker.router.cancel(id, timeout=chance.random() < 0.5)
                        break
                    except BlockingIOError:
                        worker_frame = worker.frame()
                        done += _account(
                            worker_frame, bodies, heads, expected, cancelled, kinds, free
                        )
        done += _account(worker.frame(), bodies, heads, expected, cancelled, kinds, free)

    assert kinds["complete"] > total * 0.6
    assert kinds["aborted"] > total * 0.1
    assert worker.router.receive(0.05) is None
    worker.router.stop()
    assert worker.process.wait(20) == 0
    log = worker.log.read_text()
    assert "AssertionError" not in log
    assert "Exception in worker process" not in log


def _account(
    frame: dict[str, Any],
    bodies: dict[int, bytearray],
    heads: dict[int, int],
    expected: dict[int, tuple[bytes, int]],
    cancelled: set[int],
    kinds: dict[str, int],
    free: list[int],
) -> int:
    """Check a frame against what its request must get; returns 1 for the last of a request."""
    id = frame["id"]
    key, how = expected[id]
    if frame["kind"] == "head":
        assert id not in heads
        heads[id] = frame["status"]
        if id not in cancelled:
            assert dict(frame["fields"])[b"X-Name"] == key
    bodies[id] += frame["data"]
    if not frame["done"]:
        return 0
    del expected[id]
    body = bytes(bodies.pop(id))
    if id in cancelled:
        kinds["cancelled"] += 1
        assert body == (key * (len(body) // len(key) + 1))[: len(body)] or heads[id] == 500
    elif how == 4:
        kinds["aborted"] += 1
        assert frame["kind"] == "abort" and body == key * 50
    else:
        kinds["complete"] += 1
        assert body == key * 12051
    free.append(id & 0xFFFF)
    return 1


WAITS = """
import gevent

def app(environ, start_response):
    # They fire while the gateway waits for room: with the response, with the error page that is to
    # take its place, and with the frame that frees the slot.
    for seconds in (0.3, 0.6, 0.9):
        gevent.Timeout.start_new(seconds)
    start_response("200 OK", [])
    return [b"x" * 60_000]
"""


def test_a_timeout_that_an_application_leaves_running_costs_no_slot(start: Any) -> None:
    # Nobody reads the responses, so that the ring is full and the gateways wait for room when the
    # timeouts fire. What frees a slot goes all the same, once there is room.
    worker = start("gevent", WAITS, "--worker-connections", str(SLOTS))
    ids = {worker.send(slot) for slot in range(SLOTS)}
    deadline = time.monotonic() + 20
    while "Timeout: 0.9 seconds" not in worker.stderr.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    done = set()
    while done != ids:
        frame = worker.frame()
        if frame["done"]:
            assert frame["id"] not in done
            done.add(frame["id"])
    # The worker lives, and serves.
    worker.send(0)
    assert worker.frame()["status"] == 200
    assert worker.process.poll() is None


@pytest.mark.parametrize("name", CLASSES)
def test_no_wake_up_stays_owed_when_the_hub_is_idle(start: Any, name: str) -> None:
    hello = "def app(environ, start_response):\n start_response('200 OK', [])\n return [b'x']\n"
    worker = start(name, hello)
    for _ in range(50):
        # A router that sleeps until it is woken: `receive` blocks on the wake-up.
        for slot in range(7):
            worker.send(slot)
        begun = time.monotonic()
        for _ in range(7):
            assert worker.frame()["done"]
        assert time.monotonic() - begun < 0.5  # the hub looks around once a second by itself


@pytest.mark.parametrize("name", CLASSES)
def test_a_worker_whose_router_and_arbiter_died_ends(start: Any, name: str) -> None:
    worker = start(name)
    del worker.router
    assert worker.process.wait(20) == 0


@pytest.mark.parametrize("name", CLASSES)
def test_a_new_router_is_served_while_requests_of_the_old_one_run(start: Any, name: str) -> None:
    slow = (
        "import time\nfrom pathlib import Path\n"
        "def app(environ, start_response):\n"
        " while environ['PATH_INFO'] == '/hold' and not Path('go').exists(): time.sleep(0.005)\n"
        " start_response('200 OK', [])\n return [b'x']\n"
    )
    worker = start(name, slow)
    worker.send(0, target="/hold")
    worker.send(1, target="/quick")
    assert worker.frame()["done"]
    worker.router.hello(2)
    ready = worker.frame()
    assert (ready["kind"], ready["generation"], ready["busy"]) == ("ready", 2, 1)
    id = worker.send(1, target="/quick")
    frame = worker.frame()
    assert frame["done"] and frame["id"] == id
    (worker.log.parent / "go").touch()
    # The new router, which counts the old request, is told that it is done.
    assert worker.frame()["done"]
    worker.router.stop()
    assert worker.process.wait(20) == 0


class Threads:
    """Notes what was read in a thread."""

    def __init__(self) -> None:
        self.sizes: list[object] = []

    def __call__(self, function: Any, argument: object) -> Any:
        self.sizes.append(argument)
        return function(argument)


def spooled(data: bytes, tmp_path: Path) -> tuple[Any, Threads]:
    """The `wsgi.input` of a body that is a file."""
    bodies: list[Any] = []
    threads = Threads()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        bodies.append(environ["wsgi.input"])
        start_response("200 OK", [])
        return []

    router_files, files = _native.channel_files(1)
    router, channel = _native.RouterEnd(router_files), _native.Channel(files)
    gateway = _native.Wsgi(
        app,
        channel,
        errors=sys.stderr,
        on_error=lambda message, error: pytest.fail(message),
        wrap_input=lambda body: FileInput(body, threads),
    )
    router.hello(1)
    (tmp_path / "body").write_bytes(data)
    with (tmp_path / "body").open("rb") as file:
        message = router.encode(1 << 16, method="POST", file_length=len(data))
        router.send(message, file=file.fileno())
    gateway.serve(channel.take())
    return bodies[0], threads


def test_small_reads_of_a_spooled_body_stay_on_the_hub_and_large_ones_go_to_a_thread(
    tmp_path: Path,
) -> None:
    data = b"a" * 3 * LARGE
    body, threads = spooled(data, tmp_path)
    assert body.read(LARGE) == b"a" * LARGE
    assert threads.sizes == []
    assert body.read(LARGE + 1) == b"a" * (LARGE + 1)
    assert threads.sizes == [LARGE + 1]
    assert body.read() == b"a" * (LARGE - 1)
    assert body.read() == b""
    assert threads.sizes == [LARGE + 1, None, None]


def test_a_long_line_of_a_spooled_body_is_read_in_a_thread(tmp_path: Path) -> None:
    long = b"b" * (2 * LARGE) + b"\n"
    body, threads = spooled(b"short\n" + long + b"end", tmp_path)
    assert body.readline() == b"short\n"
    assert threads.sizes == []
    assert body.readline() == long
    assert threads.sizes == [None]
    assert body.readline(2) == b"en"
    assert body.readline(-1) == b"d"
    assert body.readline() == b""


def test_a_spooled_body_gives_its_lines_by_iteration_and_readlines(tmp_path: Path) -> None:
    lines = [b"one\n", b"two\n", b"three"]
    body, _ = spooled(b"".join(lines), tmp_path)
    assert list(body) == lines
    body, threads = spooled(b"".join(lines), tmp_path)
    assert body.readlines(0) == lines
    assert threads.sizes == [None]


def test_equal_stacks_are_shown_once() -> None:
    import greenlet

    def wait() -> None:
        greenlet.getcurrent().parent.switch()

    waiting = [greenlet.greenlet(wait) for _ in range(5)]
    for one in waiting:
        one.switch()
    text = stacks({one: f"GET /{number}" for number, one in enumerate(waiting)})
    assert text.count("in wait") == 1
    assert "and 2 more" in text
