"""The arbiter's handle on the router, with routers that misbehave."""

# Numbers of descriptors are no paths.
# ruff: noqa: PTH110, PTH208

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from arbiter_driver import eventually
from remuda import router as module
from remuda.router import Router
from remuda.signals import Signals

OWNER: Any = SimpleNamespace(user=None, group=None, umask=None, initgroups=False)


class Lines:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, message: str, *args: object) -> None:
        self.lines.append(message % args)

    exception = warning = info = critical = error

    def fileno(self) -> int:
        return 2


class Handle:
    """A router whose child runs `route`."""

    def __init__(self, route: Callable[[int], int], *keep: int) -> None:
        self.log: Any = Lines()
        self.router = Router(route, self.log)
        self.pids: list[int] = []
        self.fork(*keep)

    def fork(self, *keep: int) -> None:
        signals = Signals()
        self.router.fork(OWNER, signals, keep, time.monotonic())
        signals.close()
        assert self.router.pid is not None
        self.pids.append(self.router.pid)

    def heard(self, number: int) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []

        def enough() -> bool:
            messages.extend(self.router.receive())
            return len(messages) >= number

        eventually(f"{number} messages", enough)
        return messages

    def exit_code(self) -> int:
        assert self.router.pid is not None
        _, status = os.waitpid(self.router.pid, 0)
        self.router.exited(time.monotonic())
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def start() -> Iterator[Callable[..., Handle]]:
    handles = []

    def make(route: Callable[[int], int], *keep: int) -> Handle:
        handle = Handle(route, *keep)
        handles.append(handle)
        return handle

    yield make
    for handle in handles:
        if handle.router.pid is not None:
            handle.router.close()
            os.kill(handle.router.pid, signal.SIGKILL)
            os.waitpid(handle.router.pid, 0)


def echo(control: int) -> int:
    """Say back what is heard, and how many descriptors came with it."""
    link = socket.socket(fileno=control)
    while True:
        data, fds, _, _ = socket.recv_fds(link, 65536, 253)
        if not data:
            return 0
        link.send(json.dumps({"type": "echo", "heard": json.loads(data), "fds": len(fds)}).encode())
        for fd in fds:
            os.close(fd)


def deaf(control: int) -> int:
    """Read nothing, until told to by a signal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.sigwait([signal.SIGTERM])
    return echo(control)


def test_messages_and_descriptors_arrive(start):
    handle = start(echo)
    handle.router.send({"type": "one", "text": "ü"})
    handle.router.send({"type": "two"}, [0, 1, 2])
    one, two = handle.heard(2)
    assert one == {"type": "echo", "heard": {"type": "one", "text": "ü"}, "fds": 0}
    assert two == {"type": "echo", "heard": {"type": "two"}, "fds": 3}
    assert handle.log.lines == []


def test_what_is_not_read_at_once_is_kept_in_order(start):
    handle = start(deaf)
    count = 2000
    read, write = os.pipe()
    for number in range(count):
        handle.router.send({"type": "n", "number": number}, [read] if number % 100 == 0 else [])
    assert handle.router.waiting
    # The worker is reaped, and its descriptors closed, before the router takes them.
    os.close(read)
    os.close(write)
    os.kill(handle.router.pid, signal.SIGTERM)
    messages: list[dict[str, Any]] = []

    def all_heard() -> bool:
        handle.router.flush()
        messages.extend(handle.router.receive())
        return len(messages) >= count

    eventually("all messages", all_heard)
    assert [m["heard"]["number"] for m in messages] == list(range(count))
    assert [m["fds"] for m in messages] == [int(n % 100 == 0) for n in range(count)]
    assert not handle.router.waiting


def test_a_router_that_never_reads_is_killed(start):
    handle = start(deaf)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(module.QUEUE * 2):
        handle.router.send({"type": "x"}, [0])
    assert handle.exit_code() == -signal.SIGKILL
    assert handle.log.lines == [f"The router (pid:{handle.pids[0]}) does not read its messages"]
    # The control socket and all copies in the queue are closed.
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_nothing_is_kept_for_a_router_that_is_not_there(start):
    handle = start(lambda _: 0)
    handle.exit_code()
    handle.router.send({"type": "x"}, [0])
    assert not handle.router.waiting
    assert handle.router.receive() == []


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b"null", b'{"type":7}', b"{}", b"\xff", b"[" * 60000, b"x" * 100000]
)
def test_a_router_that_sends_what_is_no_message_is_killed(start, data):
    def route(control: int) -> int:
        socket.socket(fileno=control).send(data)
        time.sleep(60)
        return 0

    handle = start(route)
    eventually("it is killed", lambda: not handle.router.receive() and handle.router.killed)
    assert handle.exit_code() == -signal.SIGKILL
    assert "says what is no message" in handle.log.lines[0]


def test_a_flood_is_read_in_parts(start):
    def route(control: int) -> int:
        link = socket.socket(fileno=control)
        for number in range(1000):
            link.send(json.dumps({"type": "n", "number": number}).encode())
        return 0

    handle = start(route)
    numbers: list[int] = []

    def all_heard() -> bool:
        part = handle.router.receive()
        assert len(part) <= module.AT_ONCE
        numbers.extend(message["number"] for message in part)
        return len(numbers) == 1000

    eventually("all", all_heard)
    assert numbers == list(range(1000))


def test_a_router_that_hangs_up_and_stays_is_overdue(start):
    def route(control: int) -> int:
        os.close(control)
        time.sleep(60)
        return 0

    handle = start(route)
    eventually("the end", lambda: not handle.router.receive() and handle.router.fileno() is None)
    assert not handle.router.overdue(time.monotonic())
    assert handle.router.overdue(time.monotonic() + module.GOODBYE)


def test_a_router_that_does_not_say_that_it_started_is_overdue(start):
    handle = start(deaf)
    now = time.monotonic()
    assert not handle.router.overdue(now)
    assert handle.router.overdue(now + module.BOOT)
    handle.router.has_started()
    assert not handle.router.overdue(now + 1e6)
    assert handle.router.next_event(now) is None


def test_a_router_that_answers_is_left_alone(start):
    handle = start(echo)
    handle.router.has_started()
    handle.router.watch(1.0, time.monotonic())
    asked = 0

    def asked_often() -> bool:
        nonlocal asked
        for message in handle.router.receive():
            assert message["heard"] == {"type": "ping"}
            handle.router.answered()
            asked += 1
        handle.router.look_after(time.monotonic())
        return asked == 10

    started = time.monotonic()
    eventually("ten questions", asked_often)
    # Four in a timeout.
    assert time.monotonic() - started >= 9 * 0.25
    assert not handle.router.killed
    assert handle.log.lines == []
    due = handle.router.next_event(started)
    assert due is not None
    assert due > started


@pytest.mark.parametrize("silent", ["stopped", "spinning", "deaf"])
def test_a_router_that_does_not_answer_is_killed_and_named(start, silent):
    def route(control: int) -> int:
        if silent == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        while silent == "spinning":
            pass
        return deaf(control)

    handle = start(route)
    started = time.monotonic()
    handle.router.watch(1.0, started)

    def is_killed() -> bool:
        handle.router.look_after(time.monotonic())
        return handle.router.killed

    eventually("it is killed", is_killed)
    assert time.monotonic() - started >= 1.0
    assert handle.exit_code() == -signal.SIGKILL
    (line,) = handle.log.lines
    assert line.startswith(f"ROUTER TIMEOUT (pid:{handle.pids[0]}): no answer for 1.0 s: ")
    if silent == "stopped":
        assert "stopped (state T" in line
    elif silent == "spinning":
        assert re.search(r"\(state R, [1-9]\d* % of a processor\)", line)
    else:
        assert "sleeping (state S, 0 %" in line


def test_the_end_of_the_arbiter_s_end_is_seen(start):
    handle = start(echo)
    handle.router.close()
    assert handle.exit_code() == 0


def test_the_child_holds_only_what_it_is_to_keep(start):
    read, write = os.pipe()

    def route(control: int) -> int:
        names = sorted(int(name) for name in os.listdir("/proc/self/fd"))
        # The last is the listing itself, or one that was free for it.
        names = [n for n in names if os.path.exists(f"/proc/self/fd/{n}")]
        message = {"type": "fds", "fds": names, "control": control}
        socket.socket(fileno=control).send(json.dumps(message).encode())
        return 0

    handle = start(route, read)
    (message,) = handle.heard(1)
    assert set(message["fds"]) == {0, 1, 2, read, message["control"]}
    assert write not in message["fds"]
    os.close(read)
    os.close(write)


def test_a_route_that_raises_ends_the_child_with_a_word(start, capfd):
    def route(_control: int) -> int:
        raise RuntimeError("boom")

    handle = start(route)
    assert handle.exit_code() == 70


def test_a_crash_loop_is_slowed_down(start):
    handle = start(lambda _: 1)
    pauses = []
    for attempt in range(4):
        if attempt:
            handle.fork()
        assert handle.exit_code() == 1
        pauses.append(handle.router.backoff.not_before - handle.router.backoff.failed_at)
    assert pauses == [0.0, 0.5, 1.0, 2.0]


def test_a_router_that_served_for_a_while_is_replaced_at_once(start):
    handle = start(lambda _: 1)
    for _ in range(3):
        handle.exit_code()
        handle.fork()
    handle.router.has_started()
    later = time.monotonic() + 10
    os.waitpid(handle.router.pid, 0)
    handle.router.exited(later)
    assert handle.router.backoff.not_before == later
