"""The worker's end of a channel, against a router's end in the same process."""

from __future__ import annotations

import gc
import os
import select
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from channels import Link
from remuda import _native


@pytest.fixture
def link() -> Link:
    return Link()


def wait_for(condition: Any) -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.001)


def is_readable(fd: int, timeout: float = 0) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def test_a_channel_is_made_of_five_descriptors_an_end_that_are_closed_on_exec() -> None:
    router, worker = _native.channel_files(7)
    assert (len(router), len(worker)) == (5, 5)
    for fd in (*router, *worker):
        assert not os.get_inheritable(fd)
        os.close(fd)


@pytest.mark.parametrize("slots", [0, 65537, 10**9])
def test_an_impossible_number_of_slots_is_a_value_error(slots: int) -> None:
    with pytest.raises(ValueError, match="slots"):
        _native.channel_files(slots)


def test_descriptors_that_are_no_channel_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Bad file"):
        _native.Channel((10**6, 10**6, 10**6, 10**6, 10**6))
    files = [os.open(tmp_path, os.O_RDONLY) for _ in range(5)]
    with pytest.raises((OSError, _native.ChannelError)):
        _native.Channel(files)


def test_a_request_says_what_the_router_said(link: Link) -> None:
    id = link.send(
        slot=3,
        method="POST",
        target="/a%20b?c=d",
        fields=[(b"host", b"x"), (b"x-name", b"caf\xe9")],
        version=10,
        https=True,
        script_name="/s",
        peer="10.0.0.1",
        peer_port=99,
        server="10.0.0.2",
        server_port=443,
        content_length=3,
        body=b"abc",
    )
    request = link.channel.take()
    assert request.id == id
    assert (request.method, request.uri) == ("POST", "/a%20b?c=d")
    assert (request.path, request.query) == ("/a%20b", "c=d")
    assert (request.version, request.scheme) == ((1, 0), "https")
    assert request.headers == [("HOST", "x"), ("X-NAME", "caf\xe9")]
    assert (request.peer, request.server) == (("10.0.0.1", 99), ("10.0.0.2", 443))
    assert (request.script_name, request.content_length) == ("/s", 3)
    assert request.body == b"abc"
    assert repr(request) == f"<Request {id} POST /a%20b?c=d>"


def test_take_gives_requests_in_order_and_none_when_the_time_is_up(link: Link) -> None:
    ids = [link.send(slot) for slot in range(3)]
    requests = [link.channel.take(0) for _ in range(3)]
    assert [request.id for request in requests if request] == ids
    assert link.channel.busy == 3
    began = time.monotonic()
    assert link.channel.take(0.02) is None
    assert time.monotonic() - began >= 0.02


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf")])
def test_a_timeout_that_is_no_time_is_a_value_error(link: Link, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        link.channel.take(timeout)


def test_take_blocks_without_the_gil_until_a_request_comes(link: Link) -> None:
    taken: list[Any] = []
    thread = threading.Thread(target=lambda: taken.append(link.channel.take()))
    thread.start()
    id = link.send()
    thread.join(5)
    assert [request.id for request in taken] == [id]


def test_a_request_that_was_taken_back_is_skipped(link: Link) -> None:
    first = link.router.send(link.router.encode(1 << 16))
    link.router.send(link.router.encode(2 << 16))
    assert link.router.revoke(first)
    assert link.channel.take().id == 2 << 16
    assert link.channel.busy == 1


def test_a_request_that_was_claimed_cannot_be_taken_back(link: Link) -> None:
    position = link.router.send(link.router.encode(1 << 16))
    link.channel.take()
    assert not link.router.revoke(position)


def test_the_file_of_a_request_that_was_taken_back_is_not_given_to_another(
    link: Link, tmp_path: Path
) -> None:
    seen: list[bytes] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ["wsgi.input"].read())
        start_response("204 No Content", [])
        return []

    link = Link(application)
    positions = []
    for number in range(3):
        path = tmp_path / str(number)
        path.write_bytes(b"body %d" % number)
        with path.open("rb") as file:
            # All three have the same id: only their order tells their files apart.
            message = link.router.encode(1 << 16, file_length=6)
            positions.append(link.router.send(message, file=file.fileno()))
    assert link.router.revoke(positions[0])
    assert link.router.revoke(positions[1])
    link.gateway.serve(link.channel.take())
    assert seen == [b"body 2"]


def test_a_request_of_an_older_router_is_skipped(link: Link) -> None:
    link.send()
    link.router.set_generation(2)
    assert link.channel.take(0) is None
    assert link.channel.busy == 0
    link.router.hello(2)
    id = link.send()
    assert link.channel.take().id == id
    assert link.frame() == {"kind": "ready", "generation": 2, "busy": 0}


def test_requests_between_two_routers_greetings_belong_to_the_first(link: Link) -> None:
    link.router.hello(2)
    link.send()
    link.router.hello(3)
    id = link.send()
    assert link.channel.take().id == id
    assert [frame["generation"] for frame in link.frames()] == [2, 3]


def test_a_greeting_tells_how_many_requests_are_still_held(link: Link) -> None:
    link.send()
    link.send(1)
    held = [link.channel.take(), link.channel.take()]
    assert len(held) == 2
    link.router.hello(2)
    assert link.channel.take(0) is None
    assert link.frame() == {"kind": "ready", "generation": 2, "busy": 2}


def test_a_ping_is_read_and_needs_no_answer(link: Link) -> None:
    link.router.ping()
    assert link.channel.take(0) is None
    assert link.frames() == []


def test_stop_ends_every_take_from_then_on(link: Link) -> None:
    id = link.send()
    link.router.stop()
    link.send()
    assert link.channel.take().id == id
    for _ in range(3):
        with pytest.raises(_native.Retired):
            link.channel.take()
    assert link.channel.retired
    with pytest.raises(_native.Retired):
        link.channel.take_nowait()


def test_a_worker_that_was_told_to_stop_leaves_its_requests_unclaimed(link: Link) -> None:
    position = link.router.send(link.router.encode(1 << 16))
    link.channel.stop()
    with pytest.raises(_native.Retired):
        link.channel.take()
    assert link.router.revoke(position)


def test_the_death_of_the_router_and_the_arbiter_retires_the_worker() -> None:
    router_files, worker_files = _native.channel_files(1)
    channel = _native.Channel(worker_files)
    router = _native.RouterEnd(router_files)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            channel.take()
        except _native.Retired as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert not is_readable(channel.hangup_fileno())
    del router
    thread.join(5)
    assert len(raised) == 1
    assert is_readable(channel.hangup_fileno())


def test_a_gateway_whose_application_holds_it_is_collected() -> None:
    class Application:
        def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
            start_response("204 No Content", [])
            return []

        def wait(self) -> None:
            pass

    application: Any = Application()
    link = Link(application)
    application.link = link
    link.channel.wait_room = application.wait
    link.serve()
    gone = weakref.ref(application)
    del link, application
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("kind", [99, 17, 0xFFFF])
def test_an_unknown_frame_is_a_channel_error(link: Link, kind: int) -> None:
    link.router.push(kind, b"")
    with pytest.raises(_native.ChannelError, match="unknown kind"):
        link.channel.take()


@pytest.mark.parametrize("cut", [0, 8, 30, 60])
def test_a_request_that_is_cut_off_is_a_channel_error(link: Link, cut: int) -> None:
    message = link.router.encode(1 << 16, fields=[(b"host", b"x")])
    link.router.push(1, message[:cut])
    with pytest.raises(_native.ChannelError, match="channel violation"):
        link.channel.take()


def test_a_body_whose_file_did_not_come_is_a_channel_error(link: Link) -> None:
    link.router.send(link.router.encode(1 << 16, file_length=6))
    with pytest.raises(_native.ChannelError, match="did not come"):
        link.channel.take()


# Threads


def test_each_request_goes_to_one_thread(link: Link) -> None:
    count, threads = 2000, 8
    taken: list[list[int]] = [[] for _ in range(threads)]

    def run(mine: list[int]) -> None:
        try:
            while True:
                mine.append(link.channel.take().id)
        except _native.Retired:
            pass

    workers = [threading.Thread(target=run, args=(mine,)) for mine in taken]
    for worker in workers:
        worker.start()
    sent = []
    for number in range(count):
        while True:
            try:
                sent.append(link.send(number % 4))
                break
            except BlockingIOError:
                time.sleep(0.001)
    link.router.stop()
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()
    assert sorted(id for mine in taken for id in mine) == sorted(sent)
    assert all(mine == sorted(mine) for mine in taken)


def test_a_thread_that_works_does_not_keep_the_others_from_taking(link: Link) -> None:
    in_first, release = threading.Event(), threading.Event()
    done = threading.Event()

    def first() -> None:
        link.channel.take()
        in_first.set()
        release.wait(5)

    def second() -> None:
        assert in_first.wait(5)
        link.channel.take()
        done.set()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    link.send()
    assert in_first.wait(5)
    link.send(1)
    assert done.wait(5)
    release.set()
    for thread in threads:
        thread.join(5)


def test_stop_wakes_every_thread(link: Link) -> None:
    ended: list[int] = []

    def run() -> None:
        try:
            link.channel.take()
        except _native.Retired:
            ended.append(1)

    threads = [threading.Thread(target=run) for _ in range(5)]
    for thread in threads:
        thread.start()
    link.channel.stop()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert len(ended) == 5


def test_many_threads_that_wait_for_room_all_get_it() -> None:
    size, threads = 300_000, 6

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [bytes(size)]

    link = Link(application, slots=threads)
    for slot in range(threads):
        link.send(slot)
    workers = [
        threading.Thread(target=lambda: link.gateway.serve(link.channel.take()))
        for _ in range(threads)
    ]
    for worker in workers:
        worker.start()
    sizes: dict[int, int] = {}
    done = 0
    while done < threads:
        frame = link.frame()
        sizes[frame["id"]] = sizes.get(frame["id"], 0) + len(frame["data"])
        done += frame["done"]
    for worker in workers:
        worker.join(5)
    assert list(sizes.values()) == [size] * threads


# Signals


@pytest.fixture
def usr1() -> Iterator[list[int]]:
    got: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    yield got
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGUSR1, before)


def test_signal_handlers_run_while_take_blocks(link: Link, usr1: list[int]) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_for(lambda: usr1)
        link.send()

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert link.channel.take(5) is not None
    assert usr1 == [signal.SIGUSR1]
    thread.join(5)


def test_a_handler_that_stops_the_channel_ends_take(link: Link) -> None:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: link.channel.stop())
    try:
        signal.set_wakeup_fd(link.channel.wakeup_fileno(), warn_on_full_buffer=False)
        timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        began = time.monotonic()
        with pytest.raises(_native.Retired):
            link.channel.take(10)
        assert time.monotonic() - began < 0.9, "it waited for its next look around"
        timer.join(5)
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, before)


def test_a_handler_that_raises_comes_out_of_take(link: Link) -> None:
    def handler(number: int, frame: Any) -> None:
        raise LookupError

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        with pytest.raises(LookupError):
            link.channel.take(10)
        timer.join(5)
    finally:
        signal.signal(signal.SIGUSR1, before)


# Event loops


def test_an_event_loop_takes_until_none_and_then_watches(link: Link) -> None:
    assert link.channel.take_nowait() is None
    assert not is_readable(link.channel.fileno())
    id = link.send()
    assert is_readable(link.channel.fileno(), 5)
    request = link.channel.take_nowait()
    assert isinstance(request, _native.Request)
    assert request.id == id
    assert link.channel.take_nowait() is None
    assert not is_readable(link.channel.fileno())
    link.router.ping()
    assert is_readable(link.channel.fileno(), 5)
    assert link.channel.take_nowait() is None


def test_an_event_loop_gets_bodies_and_cancellations(link: Link) -> None:
    link.router.body(7, b"piece")
    link.router.body(7, b"", end=True)
    link.router.cancel(7)
    link.router.cancel(8, timeout=True)
    events = []
    while (event := link.channel.take_nowait()) is not None:
        assert isinstance(event, _native.Event)
        events.append((event.kind, event.id, event.data, event.last, event.reason))
    assert events == [
        ("body", 7, b"piece", False, ""),
        ("body", 7, b"", True, ""),
        ("cancel", 7, b"", True, "left"),
        ("cancel", 8, b"", True, "timeout"),
    ]


def test_ready_that_found_no_room_wakes_the_router_when_it_goes() -> None:
    def application(environ: Any, start_response: Any) -> None:
        try:
            while True:
                # The smallest frame that there is.
                environ["wsgi.early_hints"]([])
        except LookupError:
            # What comes out of the gateway sends nothing more.
            raise SystemExit from None

    def no_room() -> None:
        raise LookupError

    link = Link(application)
    link.channel.wait_room = no_room
    link.send()
    with pytest.raises(SystemExit):
        link.gateway.serve(link.channel.take_nowait())
    link.router.hello(2)
    assert link.channel.take_nowait() is None
    link.router.drain()
    link.router.was_woken()
    assert link.router.sleep(), "READY is still to come"
    link.channel.clear_room()
    assert link.router.was_woken()
    assert link.frame() == {"kind": "ready", "generation": 2, "busy": 1}


def test_an_event_loop_learns_that_arbiter_and_router_are_dead() -> None:
    router_files, worker_files = _native.channel_files(1)
    channel = _native.Channel(worker_files)
    assert channel.take_nowait() is None
    for fd in router_files:
        os.close(fd)
    assert is_readable(channel.hangup_fileno(), 5)
    with pytest.raises(_native.Retired):
        channel.take_nowait()


# Being the router


def test_route_refuses_what_is_no_descriptor() -> None:
    with pytest.raises(OSError, match="Bad file"):
        _native.route(10**6)


def test_the_router_names_the_settings_that_it_reads() -> None:
    names = _native.router_option_names()
    assert "timeout" in names
    assert len(names) == len(set(names))
