"""What an application forks is no worker: neither the worker nor the child is disturbed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from . import forking
from .conftest import Serve, WorkerClass
from .processes import alive
from .server import Server

CLASSES = {
    "sync": WorkerClass(("-k", "sync"), forking.WSGI),
    "gthread": WorkerClass(("-k", "gthread", "--threads", "4"), forking.WSGI, 4),
    "gevent": WorkerClass(("-k", "gevent", "--worker-connections", "4"), forking.WSGI, 4),
    "eventlet": WorkerClass(("-k", "eventlet", "--worker-connections", "4"), forking.WSGI, 4),
    "tornado-wsgi": WorkerClass(("-k", "tornado"), forking.WSGI),
    "tornado": WorkerClass(("-k", "tornado", "--worker-connections", "4"), forking.TORNADO, 4),
    "asgi": WorkerClass(
        ("-k", "asgi", "--asgi-loop", "asyncio", "--worker-connections", "4"), forking.ASGI, 4
    ),
    "uvloop": WorkerClass(
        ("-k", "asgi", "--asgi-loop", "uvloop", "--worker-connections", "4"), forking.ASGI, 4
    ),
}
LOOPS = ("tornado", "asgi", "uvloop")

# How a child comes back to the application's caller, and the exit code that it then has.
WAYS = {"return": 0, "raise": 1, "exit": 7, "text": 1, "_exit": 9, "sleep": 11}


class Busy:
    """A server with one worker of a class, which has requests in flight beside those of a test."""

    def __init__(self, server: Server, one: WorkerClass) -> None:
        self.server = server
        self.name = "busy"
        self.clients = [server.connect() for _ in range(one.slots - 1)]
        for client in self.clients:
            client.send(f"GET /wait?{self.name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        (self.worker,) = server.workers
        if self.clients:
            begun = server.directory / f"{self.name}.begun"
            count = len(self.clients)
            server.eventually(
                "all of them have begun",
                lambda: begun.exists() and len(begun.read_text().split()) == count,
            )

    def finish(self) -> None:
        """The requests in flight are answered once each, by the worker, which is the same."""
        (self.server.directory / self.name).touch()
        for client in self.clients:
            assert client.response().text == str(self.worker)
        log = self.server.directory / f"{self.name}.log"
        if self.clients:
            assert log.read_text().split() == [str(self.worker)] * len(self.clients)
        assert self.server.get("/").text == "hello"
        assert self.server.workers == [self.worker]
        for what in ("violation", "Error handling", "CRITICAL", "Worker exiting", "broke its"):
            assert what not in self.server.log


@pytest.fixture(params=CLASSES)
def name(request: pytest.FixtureRequest) -> str:
    """Each worker class in turn."""
    return request.param


@pytest.fixture
def busy(serve: Serve, name: str, request: pytest.FixtureRequest) -> Iterator[Busy]:
    """A busy worker, which must be well at the end."""
    one = CLASSES[name]
    hook = "def worker_exit(server, worker):\n    open('exited', 'a').write(f'{worker.pid}\\n')\n"
    (request.getfixturevalue("tmp_path") / "gunicorn.conf.py").write_text(hook)
    server = serve("-w", "1", worker_class=one)
    found = Busy(server, one)
    yield found
    found.finish()
    assert not (server.directory / "exited").exists()


@pytest.mark.parametrize("how", WAYS)
def test_a_forked_child_ends_where_it_comes_back_and_sends_nothing(busy: Busy, how: str) -> None:
    assert busy.server.get(f"/fork?{how}").text == str(WAYS[how])


def test_a_child_of_the_c_librarys_fork_ends_where_it_comes_back(busy: Busy) -> None:
    assert busy.server.get("/raw?return").text == "0"


@pytest.mark.parametrize("name", [one for one in CLASSES if one not in LOOPS], indirect=True)
@pytest.mark.parametrize("how", WAYS)
def test_a_child_forked_while_the_response_is_iterated_ends_there(busy: Busy, how: str) -> None:
    assert busy.server.get(f"/late/fork?{how}").text == str(WAYS[how])


@pytest.mark.parametrize("name", LOOPS, indirect=True)
@pytest.mark.parametrize("how", WAYS)
def test_a_child_forked_in_another_thread_or_task_ends_where_it_comes_back(
    busy: Busy, how: str
) -> None:
    assert busy.server.get(f"/thread/fork?{how}").text == str(WAYS[how])
    assert busy.server.get(f"/task?{how}").text == str(WAYS[how])


@pytest.mark.parametrize("name", LOOPS, indirect=True)
def test_a_child_has_no_part_in_its_parents_loop_and_may_have_its_own(busy: Busy) -> None:
    assert busy.server.get("/await").text == "1"
    assert busy.server.get("/own").text == "12"


def test_a_child_has_the_default_handlers_of_signals(busy: Busy) -> None:
    assert busy.server.get("/fork?signals").text == str(-signal.SIGTERM)


def methods(*without: tuple[str, str]) -> pytest.MarkDecorator:
    """Each class with each way to start a process, except those that a library does not have."""
    every = [(one, method) for one in CLASSES for method in ("fork", "spawn", "forkserver")]
    return pytest.mark.parametrize(
        ("name", "method"), [pair for pair in every if pair not in without], indirect=["name"]
    )


@methods(("eventlet", "forkserver"))
def test_processes_of_multiprocessing_and_their_executors_work(busy: Busy, method: str) -> None:
    assert busy.server.get(f"/process?{method}").text == "49 0"
    assert busy.server.get(f"/executor?{method}").text == "30"


# The threads of a Pool share descriptors in a way that neither gevent nor eventlet can do with.
@pytest.mark.parametrize(
    "name", [one for one in CLASSES if one not in ("gevent", "eventlet")], indirect=True
)
def test_pools_of_multiprocessing_work(busy: Busy) -> None:
    assert busy.server.get("/pool?fork").text == "30"
    assert busy.server.get("/pool?fork").text == "30"


@methods(("eventlet", "forkserver"))
def test_a_multiprocessing_child_can_be_terminated(busy: Busy, method: str) -> None:
    assert busy.server.get(f"/terminate?{method}").text == str(-signal.SIGTERM)


def test_other_requests_do_not_go_on_in_a_child_that_waits(busy: Busy) -> None:
    child = int(busy.server.get(f"/linger?{busy.name}").text)
    (busy.server.directory / busy.name).touch()
    busy.server.eventually("it has waited", (busy.server.directory / "lingered").exists)
    busy.server.wait_gone(child)


def test_programs_and_terminals_and_daemons_work(busy: Busy) -> None:
    assert busy.server.get("/run").text == "from a program!!!"
    assert busy.server.get("/pty").text == "from a terminal"
    assert busy.server.get("/daemon?daemon").text == "0"
    written = busy.server.directory / "daemon"
    busy.server.eventually("the daemon runs", written.exists)
    daemon = int(busy.server.eventually("the daemon has said its pid", written.read_text))
    assert alive(daemon)
    (busy.server.directory / "daemon.end").touch()
    busy.server.wait_gone(daemon)


# The end of a worker


class Stop(NamedTuple):
    """A way in which a worker comes to its end."""

    arguments: tuple[str, ...] = ()
    # What is sent, and whether to the arbiter; 0: some requests.
    signal: int = signal.SIGTERM
    to_arbiter: bool = True
    # Whether the server goes on.
    goes_on: bool = False


STOPS = {
    "term": Stop(),
    "int": Stop(signal=signal.SIGINT),
    "hup": Stop(signal=signal.SIGHUP, goes_on=True),
    "ttou": Stop(("-w", "2"), signal.SIGTTOU, goes_on=True),
    "max-requests": Stop(("--max-requests", "2"), 0, goes_on=True),
    "term-worker": Stop(to_arbiter=False, goes_on=True),
    "kill-arbiter": Stop(signal=signal.SIGKILL),
}


def end_with_child(serve: Serve, name: str, way: str, *arguments: str, is_daemon: bool) -> Server:
    """Have a worker start a child, and end; wait until both are gone."""
    one, stop = CLASSES[name], STOPS[way]
    application = f"{one.application}\nstart(f'child-{{PID}}', {is_daemon})\n"
    server = serve(*arguments, *stop.arguments, worker_class=one, application=application)
    worker = server.workers[0]
    mark = server.directory / f"child-{worker}"
    server.eventually("a child runs", mark.exists)
    child = int(server.eventually("it has said its pid", mark.read_text))
    if stop.signal:
        server.signal(stop.signal, None if stop.to_arbiter else worker)
    else:
        server.get("/")
        server.get("/")
    server.wait_gone(worker, child)
    assert "Traceback" not in server.log
    if not stop.goes_on:
        server.wait_exit()
        server.assert_nothing_left()
    return server


# Each class, and each way.
ENDS = [*((name, "term") for name in CLASSES), *(("sync", way) for way in STOPS if way != "term")]


@pytest.mark.parametrize(("name", "way"), ENDS)
def test_a_daemon_child_ends_with_its_worker_at_once(serve: Serve, name: str, way: str) -> None:
    # A worker that waited for its grace would wait longer than this test.
    server = end_with_child(serve, name, way, "--graceful-timeout", "90", is_daemon=True)
    assert "terminated" not in server.log
    assert "killed" not in server.log


@pytest.mark.parametrize(("name", "way"), ENDS)
def test_a_child_that_is_no_daemon_ends_with_its_workers_grace(
    serve: Serve, name: str, way: str
) -> None:
    server = end_with_child(serve, name, way, "--graceful-timeout", "3", is_daemon=False)
    assert "have not ended: terminated: Process-1" in server.log
    assert "killed" not in server.log


# The arbiter's own

CONFIG = """
import multiprocessing, os, time

def wait(name):
    with open(name, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)

def on_starting(server):
    multiprocessing.Process(target=wait, args=("early",), daemon=True).start()

def when_ready(server):
    global late
    late = multiprocessing.Process(target=wait, args=("late",))
    late.start()
    ended = multiprocessing.Process(target=wait, args=("ended",))
    ended.start()
    while not os.path.exists("ended"):
        time.sleep(0.01)
    ended.terminate()
    ended.join()
    server.log.info("ended with %s", ended.exitcode)
    if os.fork() == 0:
        return
    os.wait()

def on_exit(server):
    late.terminate()
"""


def test_processes_of_the_arbiters_hooks_outlive_its_workers(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(CONFIG)
    server = serve("-c", "conf.py", application=forking.WSGI)
    early, late = (
        int(server.eventually("it runs", lambda name=name: name.exists() and name.read_text()))
        for name in (tmp_path / "early", tmp_path / "late")
    )
    for _ in range(2):
        (worker,) = server.wait_workers(1)
        server.signal(signal.SIGTERM, worker)
        server.wait_gone(worker)
        assert server.get("/").text == "hello"
    assert alive(early)
    assert alive(late)
    assert f"ended with {-signal.SIGTERM}" in server.log
    assert server.log.count("Listening at") == 1
    server.stop()
    assert "Traceback" not in server.log
