"""`timeout`: a worker that is silent is found, shows its stacks, and is replaced."""

from __future__ import annotations

import signal
import time

import pytest

from .conftest import Serve, WorkerClass
from .processes import state

TIMEOUT = ("--timeout", "1")

# What a blocked worker does: the target, and a word of the stack that the log must show.
BLOCKED = [("/sleep?60", "do_sleep"), ("/gil?60", "do_gil")]


@pytest.mark.parametrize(("target", "frame"), BLOCKED, ids=["asleep", "holding the GIL"])
def test_a_request_beyond_timeout_is_504_with_all_stacks_and_a_new_worker(
    serve: Serve, blocking_class: WorkerClass, target: str, frame: str
) -> None:
    server = serve("-w", "1", *TIMEOUT, worker_class=blocking_class)
    (pid,) = server.workers
    started = time.monotonic()
    with server.connect() as client:
        response = client.get(target)
        assert response.status == 504
        assert 0.9 <= time.monotonic() - started < 4
        # The connection lives on, and a new worker serves it.
        assert client.get("/pid").text != str(pid)
    server.says(f"[CRITICAL] WORKER TIMEOUT (pid:{pid}): GET {target.partition('?')[0]}")
    server.says(f" in {frame}")
    # Every thread is there.
    assert server.log.count("Thread 0x") + server.log.count("Current thread 0x") >= (
        blocking_class.slots
    )
    server.wait_gone(pid)
    assert "out of memory" not in server.log


def test_one_slow_request_of_gthread_takes_no_other_down_before_its_answer(serve: Serve) -> None:
    server = serve("-w", "1", "-k", "gthread", "--threads", "4", *TIMEOUT)
    slow = server.connect()
    slow.request("/sleep?60")
    # The other three threads serve meanwhile.
    load = server.load(2)
    assert slow.response().status == 504
    load.more(50)
    outcomes = load.finish()
    # What the worker had begun when it was killed may fail; the rest went to its successor.
    assert set(outcomes) <= {"200", "502"}, load.details
    assert outcomes["502"] <= 3


def test_requests_in_the_queue_behind_a_hung_worker_are_served_by_its_successor(
    serve: Serve,
) -> None:
    server = serve("-w", "1", *TIMEOUT)
    hung = server.connect()
    hung.request("/begin?60")
    server.eventually("it has begun", (server.directory / "begun").exists)
    waiting = [server.connect() for _ in range(5)]
    for client in waiting:
        client.request("/")
    assert hung.response().status == 504
    assert [client.response().status for client in waiting] == [200] * 5


def test_a_stream_that_goes_on_is_not_timed_out(serve: Serve, blocking_class: WorkerClass) -> None:
    server = serve("-w", "1", *TIMEOUT, worker_class=blocking_class)
    (pid,) = server.workers
    # Three times the timeout in all, but never silent for so long.
    response = server.get("/stream?8,0.4")
    assert response.status == 200
    assert len(response.chunks) == 8
    assert server.workers == [pid]


def test_a_stream_that_falls_silent_is_cut(serve: Serve, blocking_class: WorkerClass) -> None:
    server = serve("-w", "1", *TIMEOUT, worker_class=blocking_class)
    client = server.connect()
    client.request("/stream?2,60")
    assert client.head().status == 200
    assert client.chunk() == b"piece 0\n"
    assert client.rest() == b""
    server.says("WORKER TIMEOUT")
    assert server.get().status == 200


def test_a_stopped_worker_is_found_though_it_holds_no_request(
    serve: Serve, blocking_class: WorkerClass
) -> None:
    server = serve("-w", "1", *TIMEOUT, worker_class=blocking_class)
    (pid,) = server.workers
    server.signal(signal.SIGSTOP, pid)
    server.eventually("it is stopped", lambda: state(pid) == "T")
    # It cannot begin this one: its successor does, and the client notices nothing but the wait.
    assert server.get("/pid").text != str(pid)
    server.says(f"WORKER TIMEOUT (pid:{pid})")
    server.wait_gone(pid)


def test_a_worker_that_is_stopped_in_a_request_is_found(serve: Serve) -> None:
    server = serve("-w", "1", *TIMEOUT)
    (pid,) = server.workers
    client = server.connect()
    client.request("/begin?30")
    server.eventually("it has begun", (server.directory / "begun").exists)
    server.signal(signal.SIGSTOP, pid)
    assert client.response().status == 504
    server.wait_gone(pid)
    assert server.get().status == 200


def test_a_stopped_worker_beside_others_costs_nobody_anything(serve: Serve) -> None:
    server = serve("-w", "3", "--timeout", "2")
    load = server.load(4, "/pid")
    load.wait_bodies(3)
    victim = server.workers[0]
    server.signal(signal.SIGSTOP, victim)
    server.wait_gone(victim)
    load.more(50)
    outcomes = load.finish()
    # The one request that it may have begun.
    assert set(outcomes) <= {"200", "504"}, load.details
    assert outcomes["504"] <= 1


def test_a_boot_that_hangs_is_ended(serve: Serve, blocking_class: WorkerClass) -> None:
    server = serve(
        "-w", "1", *TIMEOUT, worker_class=blocking_class, ready=False,
        application="import time\ndef load():\n    time.sleep(60)\nload()\n",
    )  # fmt: skip
    # The first boot of all: nothing can be served, so the server ends, as when it fails otherwise.
    assert server.wait_exit() == 3
    assert "WORKER TIMEOUT" in server.log
    assert " in load" in server.log
    server.assert_nothing_left()


def test_a_boot_that_hangs_in_a_reload_keeps_the_old_workers(serve: Serve) -> None:
    server = serve("-w", "1", *TIMEOUT)
    workers = server.workers
    load = server.load(2)
    server.write_application("import time\ntime.sleep(60)\n")
    server.signal(signal.SIGHUP)
    server.says("Reload failed")
    assert server.workers[:1] == workers
    load.more(20)
    assert set(load.finish()) == {"200"}


def test_a_timeout_of_0_lets_everything_take_its_time(serve: Serve) -> None:
    server = serve("-w", "1", "--timeout", "0")
    assert server.get("/sleep?1.5").text == "slept"


def test_a_request_timeout_bounds_what_goes_on_answering(serve: Serve) -> None:
    server = serve("-w", "1", "--request-timeout", "1")
    client = server.connect()
    client.request("/stream?100,0.2")
    assert client.head().status == 200
    started = time.monotonic()
    pieces = 0
    while True:
        try:
            client.chunk()
        except Exception:  # noqa: BLE001  (cut: however that shows)
            break
        pieces += 1
    assert time.monotonic() - started < 5
    assert 2 <= pieces < 30
    assert server.get().status == 200
