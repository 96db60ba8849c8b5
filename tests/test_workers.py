"""The worker classes in processes of their own, against a router's end in this one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remuda import _native, config, workers
from remuda.errors import WorkerBootError

APPLICATION = """
import os, signal, sys, threading, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/exit":
        sys.exit(7)
    if path == "/text":
        sys.exit("no more")
    if path == "/fail":
        raise LookupError("what is missing")
    if path == "/errors":
        print("said by", path, file=environ["wsgi.errors"])
    if path == "/wait":
        open(environ["QUERY_STRING"] + ".begun", "w").close()
        while not os.path.exists(environ["QUERY_STRING"]):
            time.sleep(0.005)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{path} {environ['wsgi.multithread']} {threading.current_thread().name}".encode()]
"""

# What the arbiter does in the child that it forks.
CHILD = """
import os, sys
from remuda import config, log, workers
settings = config.load(sys.argv[2:], {}, os.getcwd())
files = [int(fd) for fd in sys.argv[1].split(",")]
os._exit(workers.main(settings, log.Log(settings), files, 1))
"""


class Process:
    """A worker process and the router's end of its channel."""

    def __init__(
        self, directory: Path, *arguments: str, slots: int = 4, app: str = "application:app"
    ) -> None:
        router_files, worker_files = _native.channel_files(slots)
        self.directory = directory
        self.log_path = directory / "error.log"
        self.router = _native.RouterEnd(router_files)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", CHILD, ",".join(map(str, worker_files))),
                *("--error-logfile", str(self.log_path), *arguments, app),
            ],
            cwd=directory,
            pass_fds=worker_files,
        )
        for fd in worker_files:
            os.close(fd)
        self.sequence = 0
        self.router.hello(1)

    @property
    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def frame(self) -> dict[str, Any]:
        frame = self.router.receive(20)
        assert frame is not None, self.log
        return frame

    def ready(self) -> Process:
        assert self.frame() == {"kind": "ready", "generation": 1, "busy": 0}
        return self

    def send(self, target: str, slot: int = 0, **request: Any) -> int:
        self.sequence += 1
        id = self.sequence << 16 | slot
        self.router.send(self.router.encode(id, target=target, **request))
        return id

    def ends(self) -> int:
        return self.process.wait(20)


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start workers; they are dead afterwards."""
    (tmp_path / "application.py").write_text(APPLICATION)
    started: list[Process] = []

    def run(*arguments: str, **options: Any) -> Process:
        process = Process(tmp_path, *arguments, **options)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.process.poll() is None:
            process.process.kill()
        process.process.wait()


CLASSES = [["-k", "sync"], ["-k", "gthread", "--threads", "3"]]


@pytest.mark.parametrize("arguments", CLASSES)
def test_a_worker_serves_until_it_is_told_to_stop(
    start: Callable[..., Process], arguments: list[str]
) -> None:
    worker = start(*arguments).ready()
    for number in range(20):
        id = worker.send(f"/{number}")
        frame = worker.frame()
        assert (frame["id"], frame["status"], frame["done"]) == (id, 200, True)
        assert frame["data"].startswith(f"/{number} {'gthread' in arguments}".encode())
    worker.router.stop()
    assert worker.ends() == 0
    assert f"Worker exiting (pid: {worker.process.pid})" in worker.log


def test_gthread_serves_as_many_requests_at_once_as_it_has_threads(
    start: Callable[..., Process],
) -> None:
    worker = start("--threads", "3").ready()
    for slot in range(4):
        worker.send(f"/wait?go{slot}", slot)
    begun = [worker.directory / f"go{slot}.begun" for slot in range(4)]
    wait_for(lambda: all(path.exists() for path in begun[:3]))
    (worker.directory / "go1").touch()
    assert worker.frame()["id"] & 0xFFFF == 1
    wait_for(begun[3].exists)
    for slot in (0, 2, 3):
        (worker.directory / f"go{slot}").touch()
    frames = [worker.frame() for _ in range(3)]
    assert {frame["id"] & 0xFFFF for frame in frames} == {0, 2, 3}
    assert len({frame["data"].split()[-1] for frame in frames}) == 3, "each in a thread of its own"


@pytest.mark.parametrize("arguments", CLASSES)
def test_term_finishes_what_was_begun_and_leaves_the_rest(
    start: Callable[..., Process], arguments: list[str]
) -> None:
    worker = start(*arguments).ready()
    worker.send("/wait?go")
    wait_for((worker.directory / "go.begun").exists)
    worker.process.send_signal(signal.SIGTERM)
    # The request that it is in the middle of keeps it alive, with and without more to do.
    (worker.directory / "go").touch()
    frame = worker.frame()
    assert (frame["status"], frame["done"]) == (200, True)
    assert worker.ends() == 0


@pytest.mark.parametrize("arguments", CLASSES)
def test_term_ends_an_idle_worker_at_once(
    start: Callable[..., Process], arguments: list[str]
) -> None:
    worker = start(*arguments).ready()
    began = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.ends() == 0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("arguments", CLASSES)
def test_quit_ends_a_worker_in_the_middle_of_a_request(
    start: Callable[..., Process], arguments: list[str]
) -> None:
    worker = start(*arguments).ready()
    worker.send("/wait?never")
    wait_for((worker.directory / "never.begun").exists)
    worker.process.send_signal(signal.SIGQUIT)
    assert worker.ends() == 0
    assert worker.router.receive(0) is None
    assert "Error handling" not in worker.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGWINCH])
def test_what_a_terminal_sends_is_not_for_the_workers(
    start: Callable[..., Process], number: signal.Signals
) -> None:
    worker = start().ready()
    worker.process.send_signal(number)
    worker.send("/still")
    assert worker.frame()["data"].startswith(b"/still")
    assert worker.process.poll() is None


@pytest.mark.parametrize("arguments", CLASSES)
def test_usr2_writes_every_stack_and_the_worker_goes_on(
    start: Callable[..., Process], arguments: list[str]
) -> None:
    worker = start(*arguments).ready()
    worker.send("/wait?go")
    wait_for((worker.directory / "go.begun").exists)
    worker.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: re.search(r'File ".*application\.py", line \d+ in app', worker.log))
    (worker.directory / "go").touch()
    assert worker.frame()["status"] == 200
    assert worker.process.poll() is None


def test_usr1_reopens_the_log(start: Callable[..., Process]) -> None:
    worker = start().ready()
    worker.log_path.rename(worker.directory / "old.log")
    worker.process.send_signal(signal.SIGUSR1)
    wait_for(worker.log_path.exists)
    worker.send("/fail")
    assert worker.frame()["status"] == 500
    assert "LookupError: what is missing" in worker.log


def test_abort_ends_the_worker_with_its_stacks_in_the_log(start: Callable[..., Process]) -> None:
    worker = start().ready()
    worker.send("/wait?never")
    wait_for((worker.directory / "never.begun").exists)
    worker.process.send_signal(signal.SIGABRT)
    assert worker.ends() != 0
    assert "in app" in worker.log


@pytest.mark.parametrize("arguments", CLASSES)
def test_the_death_of_router_and_arbiter_ends_the_worker(
    start: Callable[..., Process], arguments: list[str]
) -> None:
    worker = start(*arguments).ready()
    del worker.router
    assert worker.ends() == 0


@pytest.mark.parametrize("arguments", CLASSES)
@pytest.mark.parametrize(("path", "code"), [("/exit", 7), ("/text", 1)])
def test_an_application_that_exits_ends_its_worker_and_the_log_says_which_request(
    start: Callable[..., Process], arguments: list[str], path: str, code: int
) -> None:
    worker = start(*arguments).ready()
    worker.send(path)
    assert worker.ends() == code
    assert worker.router.receive(0) is None
    assert f"SystemExit in GET {path}: the worker exits" in worker.log


def test_gthread_lets_other_requests_end_when_one_exits(start: Callable[..., Process]) -> None:
    worker = start("--threads", "2").ready()
    worker.send("/wait?go", 0)
    wait_for((worker.directory / "go.begun").exists)
    worker.send("/exit", 1)
    wait_for(lambda: "SystemExit in GET /exit" in worker.log)
    (worker.directory / "go").touch()
    assert worker.frame()["id"] & 0xFFFF == 0
    assert worker.ends() == 7


def test_an_application_that_raises_is_logged_with_its_traceback(
    start: Callable[..., Process],
) -> None:
    worker = start().ready()
    worker.send("/fail?x=y")
    assert worker.frame()["status"] == 500
    log = worker.log
    assert "[ERROR] Error handling request GET /fail?x=y" in log
    assert 'application.py", line' in log
    assert "LookupError: what is missing" in log


def test_wsgi_errors_is_the_error_log(start: Callable[..., Process]) -> None:
    worker = start().ready()
    worker.send("/errors")
    assert worker.frame()["status"] == 200
    assert "said by /errors\n" in worker.log


def test_an_application_that_cannot_be_loaded_ends_with_4_and_its_traceback(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    (tmp_path / "application.py").write_text("def broken():\n    return 1 / 0\nbroken()\n")
    worker = start()
    assert worker.ends() == 4
    assert "module 'application' cannot be imported: ZeroDivisionError" in worker.log
    assert "return 1 / 0" in worker.log
    assert "remuda/workers" not in worker.log, "no traceback of ours"


def test_a_hook_that_fails_at_boot_ends_with_3(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    (tmp_path / "c.py").write_text("def post_worker_init(worker):\n    raise LookupError('hook')\n")
    worker = start("-c", "c.py")
    assert worker.ends() == 3
    assert "LookupError: hook" in worker.log


def test_hooks_are_called_with_the_worker(start: Callable[..., Process], tmp_path: Path) -> None:
    (tmp_path / "c.py").write_text(
        """
def post_worker_init(worker):
    worker.log.info("init %s %s", worker.age, worker.pid)

def pre_request(worker, req):
    worker.log.info("before %s %s", req.method, req.path)

def post_request(worker, req, environ, resp):
    worker.log.info("after %s %s", environ["PATH_INFO"], resp.status)

def worker_int(worker):
    worker.log.info("quit %s", worker.pid)

def worker_exit(server, worker):
    worker.log.info("exit %s", worker.pid)
"""
    )
    worker = start("-c", "c.py").ready()
    worker.send("/x")
    worker.frame()
    wait_for(lambda: "after" in worker.log)
    worker.process.send_signal(signal.SIGQUIT)
    assert worker.ends() == 0
    pid = worker.process.pid
    said = [line.rpartition("[INFO] ")[2] for line in worker.log.splitlines()]
    assert said == [
        f"init 1 {pid}",
        "before GET /x",
        "after /x 200 OK",
        f"quit {pid}",
        f"exit {pid}",
        f"Worker exiting (pid: {pid})",
    ]


def test_a_class_of_ones_own_is_a_dozen_lines(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        """
from remuda.workers import Worker

class Custom(Worker):
    def run(self):
        self.log.info("mine")
        while True:
            self.gateway.serve(self.channel.take())
"""
    )
    worker = start("-k", "mine.Custom", "--pythonpath", str(tmp_path)).ready()
    worker.send("/mine")
    assert worker.frame()["data"].startswith(b"/mine")
    assert "mine" in worker.log


def test_the_process_has_the_name_of_its_application(start: Callable[..., Process]) -> None:
    worker = start().ready()
    title = Path(f"/proc/{worker.process.pid}/cmdline").read_bytes().rstrip(b"\0")
    assert title == b"remuda: worker [application:app]"


# What the arbiter asks


def load(*arguments: str) -> config.Config:
    return config.load([*arguments, "demo:app"], {}, "/")


@pytest.mark.parametrize(
    ("arguments", "name", "slots"),
    [
        ([], "sync", 1),
        (["--threads", "4"], "gthread", 4),
        (["-k", "gthread"], "gthread", 1),
        (["-k", "gthread", "--threads", "8"], "gthread", 8),
    ],
)
def test_a_class_is_described_without_being_imported(
    arguments: list[str], name: str, slots: int
) -> None:
    described = workers.describe(load(*arguments))
    assert (described.name, described.slots, described.streams) == (name, slots, False)
    assert described.load().slots(load(*arguments)) == slots


@pytest.mark.parametrize("name", ["no.such.module.Class", "os.NoClass"])
def test_a_class_that_is_not_there_is_a_boot_error(name: str) -> None:
    with pytest.raises(WorkerBootError, match="cannot be imported"):
        workers.describe(load("-k", name))


@pytest.mark.parametrize("name", ["io.StringIO", "os.path.join"])
def test_a_class_that_is_no_worker_is_a_boot_error(name: str) -> None:
    with pytest.raises(WorkerBootError, match="no subclass"):
        workers.describe(load("-k", name))
