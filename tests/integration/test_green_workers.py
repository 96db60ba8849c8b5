"""gevent and eventlet on the real server."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arbiter_driver import eventually
from green_driver import CLASSES, Server, idle_ticks

APPLICATION = """
import hashlib, os, socket, sys, threading, time, urllib.request
from pathlib import Path

PATCHED = socket.socket.__module__, time.sleep.__module__
inside = most = 0

def app(environ, start_response):
    global inside, most
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    answer = globals()["do_" + path.strip("/")](environ, query)
    if isinstance(answer, str):
        answer = [answer.encode()]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return answer

def do_(environ, query):
    return "hello"

def do_pid(environ, query):
    return str(os.getpid())

def do_patched(environ, query):
    return " ".join(PATCHED)

def do_meet(environ, query):
    # Nobody goes on before so many are here.
    global inside
    inside += 1
    while inside < int(query):
        time.sleep(0.005)
    return "met"

def do_hold(environ, query):
    global inside, most
    inside += 1
    most = max(most, inside)
    Path(f"begun.{inside}").touch()
    try:
        while not Path(query).exists():
            time.sleep(0.005)
    finally:
        inside -= 1
    return str(most)

def do_sleep(environ, query):
    Path("asleep").touch()
    try:
        time.sleep(60)
    except Exception:
        return "not to be seen"
    finally:
        Path("ended").touch()
    return "slept"

def do_spin(environ, query):
    while True:
        pass

def do_read(environ, query):
    body, hasher = environ["wsgi.input"], hashlib.sha256()
    if query == "all":
        pieces = [body.read()]
    elif query == "pieces":
        pieces = iter(lambda: body.read(100_000), b"")
    elif query == "lines":
        pieces = body
    else:
        pieces = body.readlines()
    for piece in pieces:
        hasher.update(piece)
    return f"{type(body).__name__} {hasher.hexdigest()}"

class Endless:
    def __iter__(self):
        return self
    def __next__(self):
        time.sleep(0.01)
        return b"x" * 1000
    def close(self):
        Path("closed").touch()

def do_endless(environ, query):
    return Endless()

def do_fail(environ, query):
    raise LookupError("what is missing")

def do_exit(environ, query):
    sys.exit(7)

def do_outer(environ, query):
    address = f"http://{environ['HTTP_HOST']}/meet?{query}"
    with urllib.request.urlopen(address) as answer:
        return answer.read().decode()

def do_names(environ, query):
    return threading.current_thread().name + " " + str(environ["wsgi.multithread"])
"""

Start = Callable[..., Server]


@pytest.fixture(params=CLASSES)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Start a server of each class."""
    servers = []

    def begin(*arguments: str, text: str = APPLICATION) -> Server:
        server = Server(tmp_path, text, "-k", request.param, *arguments)
        servers.append(server)
        return server

    yield begin
    for server in servers:
        server.stop()


def test_requests_that_wait_overlap_in_one_worker(start: Start) -> None:
    server = start()
    calls = server.calls("/meet?50", 50)
    assert {call.result().text for call in calls} == {"met"}


def test_waiting_for_another_server_lets_other_requests_go_on(start: Start) -> None:
    # Each asks the same worker, which must be free to answer.
    server = start()
    calls = server.calls("/outer?20", 20)
    assert {call.result().text for call in calls} == {"met"}


def test_a_worker_holds_at_most_worker_connections(start: Start) -> None:
    server = start("--worker-connections", "3")
    calls = server.calls("/hold?go", 8)
    server.begun("begun.3")
    (server.directory / "go").touch()
    assert max(int(call.result().text) for call in calls) == 3


def test_the_standard_library_is_patched_before_the_application_is_imported(start: Start) -> None:
    server = start()
    assert all("gevent" in m or "eventlet" in m for m in server.get("/patched").text.split())
    assert "MonkeyPatchWarning" not in server.log()


def test_the_arbiter_neither_imports_the_library_nor_starts_a_thread(start: Start) -> None:
    server = start()
    assert server.get().text == "hello"
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "_native" in maps
    assert "greenlet" not in maps
    assert len(os.listdir(f"/proc/{server.process.pid}/task")) == 1  # noqa: PTH208


def test_a_preloaded_application_is_loaded_by_the_patched_worker(start: Start) -> None:
    server = start("--preload")
    assert all("gevent" in m or "eventlet" in m for m in server.get("/patched").text.split())
    assert "preload_app: each worker loads the application by itself" in server.log()
    assert "greenlet" not in Path(f"/proc/{server.process.pid}/maps").read_text()


@pytest.mark.parametrize("how", ["all", "pieces", "lines", "readlines"])
def test_a_spooled_body_is_read_whole(start: Start, how: str) -> None:
    server = start()
    line = bytes(range(256)) * 40  # every 256th byte is a line's end
    body = line * 500 + b"y" * 3_000_000 + line * 100
    answer = server.request("POST", f"/read?{how}", body)
    assert answer.text == f"FileInput {hashlib.sha256(body).hexdigest()}"


def test_a_short_body_comes_with_its_request(start: Start) -> None:
    server = start()
    answer = server.request("POST", "/read?all", b"some")
    assert answer.text == f"Input {hashlib.sha256(b'some').hexdigest()}"


def test_request_timeout_ends_the_greenlet_and_frees_its_slot(start: Start) -> None:
    server = start("--request-timeout", "1", "--worker-connections", "1")
    pid = server.get("/pid").text
    assert server.get("/sleep").status == 504
    server.begun("ended")
    server.says("RequestTimeout: request_timeout is over")
    assert "Error handling request GET /sleep" in server.log()
    # The only slot is free again, in the same worker.
    assert server.get("/pid").text == pid


def test_the_response_of_a_client_that_left_is_closed(start: Start) -> None:
    server = start("--worker-connections", "1")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    server.begun("closed")
    assert server.get("/").text == "hello"
    assert "[ERROR]" not in server.log()


def test_the_dump_signal_writes_the_stacks_of_waiting_greenlets(start: Start) -> None:
    server = start()
    calls = server.calls("/hold?go", 5)
    server.begun("begun.5")
    os.kill(server.workers()[0], signal.SIGUSR2)
    server.says("Greenlet of GET /hold?go, GET /hold?go, GET /hold?go and 2 more")
    server.says("in do_hold")
    assert "Current thread" in server.log()
    (server.directory / "go").touch()
    assert {call.result().status for call in calls} == {200}


def test_a_blocked_hub_is_found_and_its_worker_replaced(start: Start) -> None:
    server = start("--timeout", "2")
    first = server.get("/pid").text
    call = server.call("/spin")
    server.says("in do_spin")
    assert call.result().status in (502, 504)
    eventually("a new worker", lambda: server.get("/pid").text != first)


def test_a_waiting_request_does_not_make_the_worker_look_blocked(start: Start) -> None:
    server = start("--timeout", "1")
    call = server.call("/hold?go")
    server.begun("begun.1")
    time.sleep(2.5)  # more than twice the timeout
    (server.directory / "go").touch()
    assert call.result().status == 200
    assert len(server.workers()) == 1


def test_term_lets_what_was_begun_end(start: Start) -> None:
    server = start()
    calls = server.calls("/hold?go", 5)
    server.begun("begun.5")
    server.process.send_signal(signal.SIGTERM)
    server.says("Handling signal: term")
    (server.directory / "go").touch()
    assert {call.result().status for call in calls} == {200}
    assert server.process.wait(20) == 0


def test_a_worker_that_is_told_to_end_finishes_and_is_replaced(start: Start) -> None:
    server = start()
    calls = server.calls("/hold?go", 5)
    server.begun("begun.5")
    os.kill(server.workers()[0], signal.SIGTERM)
    later = server.call("/pid")
    (server.directory / "go").touch()
    assert {call.result().status for call in calls} == {200}
    server.says("Booting worker with pid", 2)
    assert int(later.result().text) == server.workers()[1]
    assert "[ERROR]" not in server.log()


def test_quit_ends_a_worker_at_once(start: Start) -> None:
    server = start()
    call = server.call("/hold?never")
    server.begun("begun.1")
    os.kill(server.workers()[0], signal.SIGQUIT)
    assert call.result().status == 502
    server.says("Booting worker with pid", 2)
    assert server.get("/").text == "hello"
    assert "Traceback" not in server.log()


def test_an_application_that_exits_ends_the_worker_after_the_others(start: Start) -> None:
    server = start()
    call = server.call("/hold?go")
    server.begun("begun.1")
    assert server.call("/exit").server is server
    server.says("SystemExit in GET /exit: the worker exits")
    (server.directory / "go").touch()
    assert call.result().status == 200
    server.says("exited with code 7")
    assert server.get("/").text == "hello"


def test_an_error_costs_one_request(start: Start) -> None:
    server = start()
    pid = server.get("/pid").text
    assert server.get("/fail").status == 500
    server.says("LookupError: what is missing")
    assert server.get("/pid").text == pid


def test_an_idle_worker_uses_no_processor_time(start: Start) -> None:
    server = start()
    for _ in range(20):
        server.get()
    pid = server.workers()[0]
    before = idle_ticks(pid)
    time.sleep(2)
    assert idle_ticks(pid) - before <= 4  # a busy loop has 200


def test_a_reload_under_load_loses_no_request(start: Start) -> None:
    server = start("-w", "2")
    outcomes: list[object] = []
    going = True

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        while going:
            try:
                connection.request("GET", "/")
                outcomes.append(connection.getresponse().read())
            except (OSError, http.client.HTTPException) as error:
                outcomes.append(error)
        connection.close()

    clients = [threading.Thread(target=client) for _ in range(8)]
    for one in clients:
        one.start()
    try:
        eventually("answers", lambda: len(outcomes) > 200)
        server.process.send_signal(signal.SIGHUP)
        server.says("Worker exiting", 2)
        seen = len(outcomes)
        eventually("more answers", lambda: len(outcomes) > seen + 200)
    finally:
        going = False
        for one in clients:
            one.join()
    assert set(outcomes) == {b"hello"}


def test_each_request_sees_a_thread_of_its_own_and_multithread(start: Start) -> None:
    server = start()
    assert server.get("/names").text.endswith(" True")


@pytest.mark.parametrize("name", CLASSES)
def test_a_missing_extra_is_named_with_its_fix(name: str, tmp_path: Path) -> None:
    import setproctitle

    import remuda

    # A place with nothing but remuda and what it always needs.
    site = tmp_path / "site"
    site.mkdir()
    (site / "remuda").symlink_to(Path(remuda.__file__).parent)
    (site / "setproctitle").symlink_to(Path(setproctitle.__file__).parent)
    if sys.version_info < (3, 11):
        import tomli

        (site / "tomli").symlink_to(Path(tomli.__file__).parent)
    (tmp_path / "demo.py").write_text("def app(environ, start_response): ...")
    ended = subprocess.run(
        [sys.executable, "-S", "-m", "remuda", "-b", "127.0.0.1:0", "-k", name, "demo:app"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 1
    assert f"worker class {name} needs {name}, which is not installed" in ended.stderr
    assert f"pip install 'remuda[{name}]'" in ended.stderr
    assert "Traceback" not in ended.stderr
