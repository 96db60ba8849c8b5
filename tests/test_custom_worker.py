"""Worker classes of one's own, as the examples show them, on the real server."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arbiter_driver import eventually
from green_driver import Server

EXAMPLES = Path(__file__).parent.parent / "examples"

APPLICATION = """
import gc, os, sys, time
from pathlib import Path
inside = 0

class Cycle:
    def __init__(self):
        self.me = self
    def __del__(self):
        Path("collected").touch()

def app(environ, start_response):
    global inside
    path = environ["PATH_INFO"]
    if path == "/meet":
        inside += 1
        while inside < 4:
            time.sleep(0.005)
    elif path == "/garbage":
        Cycle()
    elif path == "/hold":
        Path("begun").touch()
        while not Path("go").exists():
            time.sleep(0.005)
    elif path == "/exit":
        sys.exit(7)
    start_response("200 OK", [])
    return [f"{os.getpid()} {gc.isenabled()} {environ['wsgi.multithread']}".encode()]
"""

Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    servers: list[Server] = []
    (tmp_path / "mypkg").mkdir()
    (tmp_path / "mypkg" / "__init__.py").touch()
    shutil.copy(EXAMPLES / "custom_worker.py", tmp_path / "mypkg" / "workers.py")

    def begin(*arguments: str) -> Server:
        servers.append(Server(tmp_path, APPLICATION, *arguments))
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


def test_a_class_of_ones_own_takes_requests_from_the_channel(start: Start) -> None:
    server = start("-k", "mypkg.workers.Tidy")
    assert server.get("/").text.split()[1:] == ["False", "False"]
    server.says("Using worker: mypkg.workers.Tidy")
    assert server.terminate() == 0


def test_tidy_collects_garbage_when_no_request_is_there(start: Start) -> None:
    server = start("-k", "mypkg.workers.Tidy")
    assert server.get("/garbage").status == 200
    server.begun("collected")


def test_a_class_of_ones_own_says_how_many_requests_it_holds(start: Start) -> None:
    server = start("-k", "mypkg.workers.Pool", "--threads", "4")
    calls = server.calls("/meet", 4)
    assert {call.result().text.split()[2] for call in calls} == {"True"}


def test_a_class_of_ones_own_finishes_what_was_begun(start: Start) -> None:
    server = start("-k", "mypkg.workers.Pool", "--threads", "4")
    call = server.call("/hold")
    server.begun("begun")
    server.process.send_signal(signal.SIGTERM)
    server.says("Handling signal: term")
    (server.directory / "go").touch()
    assert call.result().status == 200
    assert server.process.wait(20) == 0


def test_an_application_that_exits_under_a_class_of_ones_own_is_replaced(start: Start) -> None:
    server = start("-k", "mypkg.workers.Pool", "--threads", "4")
    first = server.get("/").text.split()[0]
    assert server.get("/exit").status == 502
    server.says("exited with code 7")
    eventually("another worker", lambda: server.get("/").text.split()[0] != first)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mypkg.workers.Missing", "worker class mypkg.workers.Missing cannot be imported"),
        ("mypkg.nowhere.Custom", "worker class mypkg.nowhere.Custom cannot be imported"),
        ("mypkg.workers.Config", "worker class mypkg.workers.Config is no subclass"),
    ],
)
def test_a_class_that_is_none_ends_the_start_with_one_clear_line(
    start: Start, tmp_path: Path, name: str, said: str
) -> None:
    with pytest.raises(AssertionError):
        start("-k", name)
    log = (tmp_path / "log").read_text()
    assert said in log
    assert "Traceback" not in log
