"""The real server under load: whatever the arbiter does, no request that a client sent is lost."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arbiter_driver import alive, eventually

APPLICATION = """
import os, time
def app(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/sleep":
        time.sleep(float(query))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getpid()]
"""


class Served:
    """A real server, and clients that never stop."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.application(APPLICATION)
        self.path = directory / "log"
        with self.path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "remuda", "-b", "127.0.0.1:0", *arguments, "demo:app"],
                cwd=directory,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        self.says("Listening at: http://127.0.0.1:")
        self.port = int(self.log().split("Listening at: http://127.0.0.1:")[1].split()[0])
        self.outcomes: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.ending = threading.Event()
        self.clients: list[threading.Thread] = []

    def application(self, text: str) -> None:
        (self.directory / "demo.new").write_text(text)
        (self.directory / "demo.new").rename(self.directory / "demo.py")

    def log(self) -> str:
        return self.path.read_text()

    def says(self, text: str, times: int = 1) -> None:
        eventually(f"the log says {text!r}", lambda: self.log().count(text) >= times)

    def get(self, path: str = "/") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def load(self, clients: int, path: str = "/", *, keep: bool = True) -> None:
        """Begin to request `path` from so many clients, over connections that are kept or not."""
        for _ in range(clients):
            client = threading.Thread(target=self._client, args=(path, keep), daemon=True)
            client.start()
            self.clients.append(client)
        self.more(clients)

    def more(self, requests: int) -> None:
        """Wait until so many more requests were answered."""
        before = sum(self.outcomes.values())
        eventually("answers", lambda: sum(self.outcomes.values()) >= before + requests)

    def finish(self) -> dict[str, int]:
        """Let the clients come to their end: how many requests had which outcome."""
        self.ending.set()
        for client in self.clients:
            client.join(20)
            assert not client.is_alive()
        return dict(self.outcomes)

    def _client(self, path: str, keep: bool) -> None:
        connection = None
        while not self.ending.is_set():
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
            try:
                if connection.sock is None:
                    connection.connect()
            except OSError:
                # Refused: there is no server any more. Nothing was sent.
                return
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                outcome = str(response.status)
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
            with self.lock:
                self.outcomes[outcome] += 1
            if not keep:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def workers(self) -> list[int]:
        """The process ids of the living workers."""
        return self._children("remuda: worker")

    def router(self) -> int:
        return self._children("remuda: router")[0]

    def _children(self, title: str) -> list[int]:
        found = []
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in path.read_text().split():
            try:
                if Path(f"/proc/{pid}/cmdline").read_text().startswith(title) and alive(int(pid)):
                    found.append(int(pid))
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        self.ending.set()
        if self.process.poll() is None:
            family = [self.process.pid, *self._children("remuda:")]
            for pid in family:
                os.kill(pid, signal.SIGKILL)
            self.process.wait(5)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    servers: list[Served] = []

    def start(*arguments: str) -> Served:
        servers.append(Served(tmp_path, *arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def test_reloads_lose_no_request(serve):
    server = serve("-w", "2")
    server.load(4)
    for number in range(1, 4):
        server.signal(signal.SIGHUP)
        server.says("Reloaded: 2 new workers", times=number)
        server.more(50)
    outcomes = server.finish()
    assert set(outcomes) == {"200"}


def test_a_reload_onto_broken_code_loses_no_request(serve):
    server = serve("-w", "2")
    server.load(4)
    before = server.workers()
    server.application("import nowhere")
    server.signal(signal.SIGHUP)
    server.says("Reload failed: a new worker")
    server.more(100)
    assert set(server.finish()) == {"200"}
    eventually("only the old ones are left", lambda: server.workers() == before)
    assert "No module named 'nowhere'" in server.log()


def test_more_and_fewer_workers_lose_no_request(serve):
    server = serve("-w", "1")
    server.load(4)
    for number in (signal.SIGTTIN, signal.SIGTTIN, signal.SIGTTOU, signal.SIGTTIN, signal.SIGTTOU):
        before = len(server.workers())
        server.signal(number)
        after = before + (1 if number == signal.SIGTTIN else -1)
        eventually(f"{after} workers", lambda after=after: len(server.workers()) == after)
        server.more(50)
    assert set(server.finish()) == {"200"}


def test_max_requests_loses_no_request(serve):
    server = serve("-w", "2", "--max-requests", "40", "--max-requests-jitter", "20")
    server.load(4)
    server.says("Autorestarting worker after current request.", times=6)
    server.more(100)
    assert set(server.finish()) == {"200"}


def test_an_idle_worker_that_is_killed_loses_no_request(serve):
    server = serve("-w", "3")
    server.load(2, "/sleep?0.05")
    for _ in range(3):
        before = server.workers()
        os.kill(before[0], signal.SIGKILL)
        eventually(
            "three other workers",
            lambda before=before: len(server.workers()) == 3 and before[0] not in server.workers(),
        )
        server.more(10)
    outcomes = server.finish()
    # Of each worker killed, the one request that it had begun fails.
    assert set(outcomes) <= {"200", "502"}
    assert outcomes.get("502", 0) <= 3


def test_a_router_that_is_killed_is_back_and_the_workers_stay(serve):
    server = serve("-w", "2")
    server.load(4, keep=False)
    workers = server.workers()
    os.kill(server.router(), signal.SIGKILL)
    server.says("was killed by SIGKILL")
    server.more(200)
    outcomes = server.finish()
    assert outcomes["200"] >= 200
    # Its four connections are lost, at most; whoever connects meanwhile waits.
    assert sum(outcomes.values()) - outcomes["200"] <= 4
    assert server.workers() == workers


def test_term_serves_what_waits_in_the_backlog(serve):
    server = serve("-w", "1")
    server.get()
    sent = []
    for _ in range(8):
        client = socket.create_connection(("127.0.0.1", server.port), timeout=15)
        client.sendall(b"GET /sleep?0.1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        sent.append(client)
    server.signal(signal.SIGTERM)
    for client in sent:
        with client, client.makefile("rb") as reply:
            assert reply.readline() == b"HTTP/1.1 200 OK\r\n"
            assert reply.read().endswith(b"\r\n\r\n%d" % int(reply_pid(server)))
    assert server.process.wait(15) == 0


def reply_pid(server: Served) -> str:
    """The process id of the only worker there ever was."""
    return server.log().split("Booting worker with pid: ")[1].split()[0]


def test_term_under_load_answers_every_request_that_was_taken(serve):
    server = serve("-w", "2")
    server.load(6, "/sleep?0.01", keep=False)
    server.more(50)
    server.signal(signal.SIGTERM)
    assert server.process.wait(15) == 0
    outcomes = server.finish()
    # A connection that the kernel took in the moment in which the socket closed is reset.
    resets = sum(outcomes.values()) - outcomes["200"]
    assert resets == 0, outcomes


def test_a_request_longer_than_timeout_gets_504_and_its_stack_is_logged(serve):
    server = serve("-w", "1", "--timeout", "1")
    status, _ = server.get("/sleep?30")
    assert status == 504
    server.says("WORKER TIMEOUT (pid:")
    server.says("demo.py")
    assert server.get("/")[0] == 200


def test_a_stopped_worker_is_found_and_replaced(serve):
    server = serve("-w", "1", "--timeout", "1")
    status, pid = server.get()
    os.kill(int(pid), signal.SIGSTOP)
    # It had not begun this request: its successor serves it.
    status, other = server.get()
    assert status == 200
    assert "WORKER TIMEOUT" in server.log()
    assert other != pid
    eventually("the stopped one is gone", lambda: not alive(int(pid)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_nothing_is_left_behind(serve, number):
    server = serve("-w", "2")
    server.get()
    children = [*server.workers(), server.router()]
    server.signal(number)
    assert server.process.wait(15) == 0
    assert not any(alive(pid) for pid in children)
    assert "Traceback" not in server.log()


def test_no_orphans_stay_when_the_arbiter_is_killed(serve):
    server = serve("-w", "2")
    server.get()
    children = [*server.workers(), server.router()]
    server.signal(signal.SIGKILL)
    server.process.wait(5)
    eventually("all are gone", lambda: not any(alive(pid) for pid in children))


def test_workers_end_when_arbiter_and_router_are_killed(serve):
    server = serve("-w", "2")
    server.get()
    workers, router = server.workers(), server.router()
    server.signal(signal.SIGSTOP)
    os.kill(router, signal.SIGKILL)
    server.signal(signal.SIGKILL)
    server.process.wait(5)
    eventually("all are gone", lambda: not any(alive(pid) for pid in workers))


def test_the_arbiter_has_one_thread_while_it_serves(serve):
    server = serve("-w", "2", "--threads", "4")
    server.load(2)
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 2 new workers")
    assert len(list(Path(f"/proc/{server.process.pid}/task").iterdir())) == 1
    server.finish()


CUSTOM = """
from remuda.workers import Worker
class Custom(Worker):
    def run(self):
        while True:
            self.gateway.serve(self.channel.take())
"""


def test_a_worker_class_of_one_s_own_is_found_beside_the_application(tmp_path, serve):
    (tmp_path / "custom.py").write_text(CUSTOM)
    server = serve("-w", "1", "-k", "custom.Custom")
    assert server.get()[0] == 200
    assert "Using worker: custom.Custom" in server.log()


def test_a_preloaded_application_is_shared_by_all_workers(tmp_path, serve):
    server = serve("-w", "2", "--preload")
    server.application("import nowhere")
    assert server.get()[0] == 200
    os.kill(server.workers()[0], signal.SIGKILL)
    server.says("Booting worker with pid", times=3)
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 2 new workers")
    assert server.get()[0] == 200


LEAVING = """
import atexit, os, threading, time
def write(name):
    with open(name, "w") as file:
        file.write("done")
def finish():
    time.sleep(0.2)
    write("thread")
atexit.register(write, "atexit")
def app(environ, start_response):
    threading.Thread(target=finish).start()
    print("printed", flush=False)
    start_response("200 OK", [])
    return [b""]
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_worker_that_leaves_ends_as_a_process_should(tmp_path, serve, number):
    server = serve("-w", "2")
    server.application(LEAVING)
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 2 new workers")
    eventually("two workers", lambda: len(server.workers()) == 2)
    assert server.get()[0] == 200
    server.signal(number)
    eventually("atexit ran", (tmp_path / "atexit").exists)
    eventually("the thread was joined", (tmp_path / "thread").exists)
    eventually("what was printed is there", lambda: "printed" in server.log())


def others_can_read(path: str) -> bool:
    """Whether any user may read this file."""
    found = Path(path).resolve()
    return bool(found.stat().st_mode & 0o004) and all(
        parent.stat().st_mode & 0o001 for parent in found.parents
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
@pytest.mark.skipif(not others_can_read(os.__file__), reason="this Python is root's alone")
def test_logs_in_a_directory_of_root_survive_the_change_of_user_and_rotation(tmp_path, serve):
    for parent in (tmp_path, *tmp_path.parents[:3]):
        if parent != Path("/tmp"):
            parent.chmod(0o755)
    access = tmp_path / "access"
    arguments = ["--user", "65534", "--group", "65534", "--access-logfile", str(access)]
    server = serve("-w", "1", *arguments)
    assert server.get("/one")[0] == 200
    eventually("the first record", lambda: "/one" in access.read_text())
    access.rename(tmp_path / "access.1")
    server.signal(signal.SIGUSR1)
    eventually("a new file", access.exists)
    assert server.get("/two")[0] == 200
    eventually("the second record", lambda: "/two" in access.read_text())
    # Root has opened it, and handed it over.
    assert access.stat().st_uid == 0
