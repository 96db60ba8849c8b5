"""More at once than one turn of a worker takes: whoever goes back to its loop with frames unread
comes back by itself, and does not wait until it looks around anyway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from test_workers import Process, wait_for

# Whoever waits for the next look, waits beyond the end of the test.
APPLICATION = """
import asyncio, os, sys, time

for name in ("asgi", "green"):
    if module := sys.modules.get("remuda.workers." + name):
        module.LOOK = module.SLICE = 3600.0

def work(target):
    if target == "/block":
        # Not sleep, which would let other greenlets run.
        open("begun", "w").close()
        while not os.path.exists("go"):
            os.stat("."), sum(range(1000))
    else:
        until = time.perf_counter() + 0.0002
        while time.perf_counter() < until:
            pass

def wsgi(environ, start_response):
    work(environ["PATH_INFO"])
    start_response("200 OK", [])
    return [b"x"]

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    work(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})

def tornado():
    import tornado.web

    class Handler(tornado.web.RequestHandler):
        def get(self):
            work(self.request.path)
            self.write("x")

    return tornado.web.Application([("/.*", Handler)])
"""
CLASSES = [
    ("sync", "wsgi"),
    ("gthread", "wsgi"),
    ("gevent", "wsgi"),
    ("eventlet", "wsgi"),
    ("tornado", "wsgi"),
    ("tornado", "tornado()"),
    ("asgi", "asgi"),
]
# Beyond all bounds of a turn: 64 frames, 32 frames, 5 ms.
MANY = 300


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a worker of a class."""
    (tmp_path / "application.py").write_text(APPLICATION)
    started: list[Process] = []

    def run(name: str, app: str) -> Process:
        threads = ["--threads", "4"] if name == "gthread" else []
        process = Process(tmp_path, "-k", name, *threads, app=f"application:{app}", slots=MANY)
        started.append(process)
        return process

    yield run
    for process in started:
        process.process.kill()
        process.process.wait()


def send(worker: Process, target: str, slot: int) -> None:
    worker.send(target, slot, fields=[(b"host", b"test")])


def answered(worker: Process, expected: int) -> None:
    """Exactly so many requests are answered, each once."""
    done: Counter[int] = Counter()
    while len(done) < expected:
        frame = worker.frame()
        assert frame.get("status", 200) == 200, worker.log
        if frame.get("done"):
            done[frame["id"]] += 1
    assert set(done.values()) == {1}


@pytest.mark.parametrize(("name", "app"), CLASSES)
def test_what_came_before_the_first_turn_is_served_by_the_turns_that_follow(
    start: Callable[..., Process], name: str, app: str
) -> None:
    worker = start(name, app)
    # Nobody sleeps yet, so that none of these gives a signal.
    for slot in range(MANY):
        send(worker, "/", slot)
    worker.ready()
    answered(worker, MANY)


@pytest.mark.parametrize(("name", "app"), CLASSES)
def test_what_came_while_the_loop_was_blocked_is_served_when_it_goes_on(
    start: Callable[..., Process], name: str, app: str
) -> None:
    worker = start(name, app).ready()
    send(worker, "/block", 0)
    wait_for((worker.directory / "begun").exists)
    for slot in range(1, MANY):
        send(worker, "/", slot)
    (worker.directory / "go").touch()
    answered(worker, MANY)


@pytest.mark.parametrize(("name", "app"), CLASSES)
def test_a_worker_that_is_never_idle_loses_no_wake_up(
    start: Callable[..., Process], name: str, app: str
) -> None:
    # Frames come while it looks for more: the moment in which a signal can be lost is there again
    # and again.
    worker = start(name, app).ready()
    free, left = list(range(MANY)), 3000
    done = 0
    while done < 3000:
        while free and left:
            send(worker, "/", free.pop())
            left -= 1
        frame = worker.frame()
        if frame.get("done"):
            free.append(frame["id"] & 0xFFFF)
            done += 1
