"""Signals under load: none of them loses a request that a client had sent."""

from __future__ import annotations

import signal
import time

import pytest

from .client import Client
from .conftest import Serve, WorkerClass
from .processes import children, threads

KEEP = pytest.mark.parametrize("keep", [True, False], ids=["keep-alive", "connection-per-request"])


@KEEP
def test_ttin_and_ttou_under_load_lose_nothing(
    serve: Serve, worker_class: WorkerClass, keep: bool
) -> None:
    server = serve("-w", "1", worker_class=worker_class)
    load = server.load(6, "/pid", keep=keep)
    server.signal(signal.SIGTTIN)
    server.wait_workers(2)
    server.signal(signal.SIGTTIN)
    three = server.wait_workers(3)
    load.wait_bodies(3)
    server.signal(signal.SIGTTOU)
    server.wait_workers(2)
    server.signal(signal.SIGTTOU)
    # The oldest go.
    assert server.wait_workers(1) == three[2:]
    load.more(100)
    outcomes = load.finish()
    assert set(outcomes) == {"200"}, load.details


def test_ttou_leaves_at_least_one_worker(serve: Serve) -> None:
    server = serve("-w", "2")
    for number in range(1, 4):
        server.signal(signal.SIGTTOU)
        server.says("Handling signal: ttou", times=number)
    server.wait_workers(1)
    server.signal(signal.SIGTTIN)
    assert len(server.wait_workers(2)) == 2
    assert server.get().status == 200


@KEEP
def test_hup_under_load_loses_nothing_and_serves_the_new_code(
    serve: Serve, worker_class: WorkerClass, keep: bool
) -> None:
    server = serve("-w", "2", worker_class=worker_class)
    server.wait_serving(2)
    before = server.identities(server.workers)
    load = server.load(6, keep=keep)
    fresh = worker_class.application.replace('b"hello"', 'b"new code"')
    assert fresh != worker_class.application
    server.write_application(fresh)
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 2 new workers are ready")
    assert server.get().text == "new code"
    server.wait_gone(*[pid for pid, _ in before])
    load.more(100)
    assert set(load.finish()) == {"200"}, load.details
    assert not set(server.identities(server.wait_workers(2))) & set(before)


def test_hups_in_quick_succession_lose_nothing(serve: Serve) -> None:
    server = serve("-w", "2")
    load = server.load(6)
    for _ in range(5):
        server.signal(signal.SIGHUP)
        load.more(10)
    server.says("Reloaded: 2 new workers are ready")
    server.wait_workers(2)
    load.more(100)
    assert set(load.finish()) == {"200"}, load.details


def test_hup_with_code_that_does_not_load_keeps_the_old_workers(
    serve: Serve, worker_class: WorkerClass
) -> None:
    server = serve("-w", "2", worker_class=worker_class)
    server.wait_serving(2)
    before = server.identities(server.workers)
    load = server.load(6)
    server.write_application("this is no Python")
    server.signal(signal.SIGHUP)
    server.says("Reload failed")
    load.more(100)
    assert set(load.finish()) == {"200"}, load.details
    assert server.identities(server.wait_workers(2)) == before
    # The traceback of the user's error names the file.
    assert "app.py" in server.log
    assert "SyntaxError" in server.log
    # And when it is mended, the next reload works.
    server.write_application(worker_class.application.replace('b"hello"', 'b"mended"'))
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 2 new workers are ready")
    assert server.get().text == "mended"


def test_hup_with_a_configuration_that_is_wrong_changes_nothing(serve: Serve) -> None:
    server = serve("-w", "2", ready=False)
    configuration = server.directory / "remuda.conf.py"
    server.wait_ready()
    server.wait_serving(2)
    before = server.identities(server.workers)
    configuration.write_text("timeout = 'soon'\n")
    server.signal(signal.SIGHUP)
    server.says("Reload failed")
    assert server.get().status == 200
    assert server.identities(server.workers) == before
    assert "Traceback" not in server.log


def test_hup_with_a_slow_import_serves_on_all_the_while(serve: Serve) -> None:
    server = serve("-w", "2")
    server.wait_serving(2)
    load = server.load(6)
    server.write_application(
        "import time, pathlib\n"
        "pathlib.Path('importing').touch()\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.01)\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '4')])\n"
        "    return [b'slow']\n"
    )
    server.signal(signal.SIGHUP)
    server.eventually("the import has begun", (server.directory / "importing").exists)
    load.more(500)
    assert server.get().text == "hello"
    (server.directory / "go").touch()
    server.says("Reloaded: 2 new workers are ready")
    assert server.get().text == "slow"
    load.more(50)
    assert set(load.finish()) == {"200"}, load.details


def test_hup_lets_a_request_that_has_begun_finish(serve: Serve, worker_class: WorkerClass) -> None:
    server = serve("-w", "1", worker_class=worker_class)
    client = server.connect()
    client.request("/begin?1.5")
    server.eventually("it has begun", (server.directory / "begun").exists)
    server.signal(signal.SIGHUP)
    server.says("Reloaded")
    assert server.get("/pid").text != ""
    assert client.response().text == "slept"


@KEEP
def test_term_under_load_answers_whatever_was_sent(
    serve: Serve, worker_class: WorkerClass, keep: bool
) -> None:
    server = serve("-w", "2", worker_class=worker_class)
    load = server.load(8, "/sleep?0.02", keep=keep)
    load.more(30)
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    outcomes = load.finish()
    # Each client ends when it is refused; until then each of its requests is answered.
    assert set(outcomes) == {"200", "refused"}, load.details
    assert outcomes["refused"] == 8


def test_term_serves_connections_that_wait_in_the_backlog(serve: Serve) -> None:
    server = serve("-w", "1")
    router = server.router
    # While the router is stopped, the kernel accepts for it.
    server.signal(signal.SIGSTOP, router)
    clients = [server.connect() for _ in range(20)]
    for client in clients[:10]:
        client.request("/pid", Connection="close")
    server.signal(signal.SIGTERM)
    # Some have connected and not yet sent anything.
    server.signal(signal.SIGCONT, router)
    for client in clients[10:]:
        client.request("/pid", Connection="close")
    assert {client.response().status for client in clients} == {200}
    assert server.wait_exit() == 0


def test_term_answers_pipelined_requests_that_were_sent_before(serve: Serve) -> None:
    server = serve("-w", "1")
    client = server.connect()
    client.send(b"GET /sleep?0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
    server.signal(signal.SIGTERM)
    response = client.response()
    assert response.status == 200
    assert not response.keeps
    assert client.is_closed()
    assert server.wait_exit() == 0


def test_a_request_that_takes_long_to_finish_leaves_no_port_open_after_term(serve: Serve) -> None:
    server = serve("-w", "2")
    slow = server.connect()
    slow.request("/begin?2")
    server.eventually("it has begun", (server.directory / "begun").exists)
    load = server.load(4, keep=False)
    server.signal(signal.SIGTERM)
    # A port that still shakes hands while nobody accepts would reset whoever connects now.
    assert set(load.finish_by_themselves()) == {"200", "refused"}, load.details
    assert slow.response().text == "slept"
    assert server.wait_exit() == 0


def test_term_has_a_stopped_router_go_on_and_finish(serve: Serve) -> None:
    server = serve("-w", "1")
    server.signal(signal.SIGSTOP, server.router)
    waiting = [server.connect() for _ in range(10)]
    for client in waiting:
        client.request()
    started = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert time.monotonic() - started < 8
    # What waited in the backlog is answered.
    assert [client.response().status for client in waiting] == [200] * 10
    server.assert_nothing_left()


def test_term_cuts_what_is_left_after_graceful_timeout(
    serve: Serve, worker_class: WorkerClass
) -> None:
    server = serve("-w", "1", "--graceful-timeout", "1", worker_class=worker_class)
    client = server.connect()
    client.request("/begin?60")
    server.eventually("it has begun", (server.directory / "begun").exists)
    started = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert 0.9 <= time.monotonic() - started < 8
    assert client.is_closed()
    server.assert_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_end_it_at_once(serve: Serve, worker_class: WorkerClass, number: int) -> None:
    server = serve("-w", "2", worker_class=worker_class)
    client = server.connect()
    client.request("/begin?60")
    server.eventually("it has begun", (server.directory / "begun").exists)
    started = time.monotonic()
    server.signal(number)
    assert server.wait_exit() == 0
    assert time.monotonic() - started < 5
    server.assert_nothing_left()
    assert "Traceback" not in server.log


def test_a_term_that_is_repeated_ends_it_at_once(serve: Serve) -> None:
    server = serve("-w", "1")
    client = server.connect()
    client.request("/begin?60")
    server.eventually("it has begun", (server.directory / "begun").exists)

    def ends() -> bool:
        if server.process.poll() is None:
            server.signal(signal.SIGTERM)
        return server.process.poll() is not None

    # Two at a time may be one wish; whoever goes on wishing does not wait for graceful_timeout.
    server.eventually("it ends", ends, within=10)
    assert server.process.returncode == 0


def test_idle_connections_do_not_hold_term_up(serve: Serve) -> None:
    server = serve("-w", "1", "--graceful-timeout", "20")
    idle = [server.connect() for _ in range(20)]
    for client in idle[:10]:
        assert client.get().status == 200
    started = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert time.monotonic() - started < 8
    assert all(client.is_closed() for client in idle)


@KEEP
def test_usr1_under_load_loses_nothing_and_reopens_the_logs(
    serve: Serve, worker_class: WorkerClass, keep: bool
) -> None:
    server = serve(
        "-w", "2", "--access-logfile", "access.log", "--error-logfile", "error.log",
        worker_class=worker_class, ready=False,
    )  # fmt: skip
    error_log = server.directory / "error.log"
    server.error_log = error_log
    server.wait_ready()
    load = server.load(4, keep=keep)
    (server.directory / "access.log").rename(server.directory / "access.log.1")
    error_log.rename(server.directory / "error.log.1")
    server.signal(signal.SIGUSR1)
    fresh = server.directory / "access.log"
    server.eventually("the access log is there again", lambda: fresh.exists() and fresh.read_text())
    server.eventually("the error log is there again", error_log.exists)
    load.more(50)
    outcomes = load.finish()
    assert set(outcomes) == {"200"}, load.details
    # The workers write to the new one, too.
    assert server.get("/raise").status == 500
    server.says("on purpose")
    # No line is lost between the two: /ready, the load, /raise.
    rotated = server.directory / "access.log.1"

    def lines() -> int:
        return sum(path.read_text().count("\n") for path in (rotated, fresh))

    expected = 1 + outcomes["200"] + 1
    server.eventually("every line is in one of the two", lambda: lines() == expected)


def test_the_arbiter_has_one_thread_whatever_happens(serve: Serve) -> None:
    server = serve("-w", "2", "--threads", "4")
    assert threads(server.pid) == 1
    load = server.load(4)
    for number in (signal.SIGTTIN, signal.SIGHUP, signal.SIGUSR1, signal.SIGTTOU):
        server.signal(number)
        load.more(20)
        assert threads(server.pid) == 1
    server.eventually("one worker is left", lambda: len(server.workers) == 1)
    server.signal(signal.SIGKILL, server.workers[0])
    load.more(20)
    assert threads(server.pid) == 1
    # No helper process either: its children are the router and the workers.
    server.eventually(
        "nobody else is there",
        lambda: set(children(server.pid)) == {server.router, *server.workers},
    )


def test_max_requests_under_load_loses_nothing_and_is_succeeded_first(
    serve: Serve, worker_class: WorkerClass
) -> None:
    server = serve(
        "-w", "2", "--max-requests", "30", "--max-requests-jitter", "10", worker_class=worker_class
    )
    before = server.workers
    load = server.load(6)
    server.says("Autorestarting worker after current request.", times=6)
    server.wait_gone(*before)
    # Successors are ready first: there is never a moment without a worker.
    assert len(server.workers) >= 2
    load.more(100)
    assert set(load.finish()) == {"200"}, load.details


def test_a_worker_serves_no_more_than_max_requests_when_a_successor_is_there(serve: Serve) -> None:
    server = serve("-w", "1", "--max-requests", "5")
    pids = []
    for _ in range(4):
        first = server.get("/pid").text
        server.eventually("a successor answers", lambda: server.get("/pid").text != first)  # noqa: B023
        pids.append(first)
    assert len(set(pids)) == 4


def test_a_client_that_keeps_its_connection_notices_nothing_of_a_reload(serve: Serve) -> None:
    server = serve("-w", "1")
    with Client(server.address) as client:
        before = client.get("/pid").text
        server.signal(signal.SIGHUP)
        server.says("Reloaded")
        # The same connection, another worker.
        assert client.get("/pid").text != before
