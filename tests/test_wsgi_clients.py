"""The WSGI gateway, when clients leave or read slowly, or a router dies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from channels import Closing, Link, body
from remuda import _native

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]
PLAIN = [("Content-Type", "text/plain")]


def hello(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", [*PLAIN, ("Content-Length", "5")])
    return [b"hello"]


def test_a_client_that_left_stops_the_iteration_and_closes_it() -> None:
    asked: list[int] = []

    def blocks() -> Iterator[bytes]:
        for number in range(100):
            asked.append(number)
            if number == 2:
                link.router.flow(0, 2)
            yield b"block"

    closing = Closing(blocks())

    def application(environ: Environ, start_response: Start) -> Closing:
        start_response("200 OK", PLAIN)
        return closing

    link = Link(application)
    frames = link.serve()
    assert asked == [0, 1, 2]
    assert closing.closed == 1
    assert [frame["kind"] for frame in frames] == ["head", "body", "abort"]
    assert frames[-1]["done"]
    assert not link.logged


def test_write_raises_client_gone_into_the_application() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        link.router.flow(0, 2)
        with pytest.raises(_native.ClientGone):
            write(b"x")
        return []

    link = Link(application)
    (frame,) = link.serve()
    assert (frame["kind"], frame["done"]) == ("abort", True)


def test_a_paused_response_waits_until_it_may_go_on() -> None:
    reached = threading.Event()

    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"one"
        link.router.flow(0, 1)
        reached.set()
        yield b"two"

    link = Link(application)
    link.send()
    thread = threading.Thread(target=lambda: link.gateway.serve(link.channel.take()))
    thread.start()
    assert reached.wait(5)
    assert link.frame()["data"] == b"one"
    assert link.router.receive(0.05) is None
    link.router.flow(0, 0)
    assert link.frame()["data"] == b"two"
    thread.join(5)
    assert not thread.is_alive()


def test_an_event_loop_is_asked_to_wait_for_room() -> None:
    waits: list[int] = []

    def wait_room() -> None:
        waits.append(1)
        link.router.flow(0, 0)
        link.channel.clear_room()

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        link.router.flow(0, 1)
        start_response("200 OK", PLAIN)
        return [b"x"]

    link = Link(application)
    link.channel.wait_room = wait_room
    assert body(link.serve()) == b"x"
    assert waits == [1]


def test_a_response_of_an_earlier_router_is_not_sent_but_its_slot_is_told_to_the_new_one() -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"one"
        assert link.frame()["data"] == b"one"
        link.router.hello(2)
        assert link.channel.take(0) is None
        assert link.frame() == {"kind": "ready", "generation": 2, "busy": 1}
        yield b"two"

    link = Link(application)
    (frame,) = link.serve()
    assert (frame["kind"], frame["id"], frame["done"]) == ("abort", 1 << 16, True)
    assert link.channel.busy == 0
    assert not link.logged
