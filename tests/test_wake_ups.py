"""When a worker wakes a router that sleeps: once for what belongs together, and never too late."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from channels import Link
from remuda import _native
from remuda.workers.asgi import serving


class Body:
    """An iterable whose `close` sees whether the router was woken before it."""

    link: Link

    def __init__(
        self,
        *blocks: bytes,
        seconds: float = 0.0,
        error: BaseException | None = None,
    ) -> None:
        self.blocks = blocks or (b"hello",)
        self.seconds = seconds
        self.error = error
        self.woken_at_close: bool | None = None

    def __iter__(self) -> Any:
        return iter(self.blocks)

    def close(self) -> None:
        self.woken_at_close = self.link.router.was_woken()
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error


def linked(bodies: list[Body], length: str | None = "5") -> Link:
    """A gateway whose application gives these bodies, one a request."""
    headers = [("Content-Length", length)] if length else []
    left = iter(bodies)

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", headers)
        return next(left)

    link = Link(application)
    for body in bodies:
        body.link = link
    return link


def serve_one(link: Link) -> None:
    """Serve a request while the router sleeps."""
    link.send()
    request = link.channel.take()
    link.frames()
    assert link.router.sleep()
    link.router.was_woken()
    link.gateway.serve(request)


def test_the_end_of_a_body_and_the_free_slot_are_one_wake_up() -> None:
    body = Body()
    link = linked([body])
    serve_one(link)
    assert body.woken_at_close is False
    assert link.router.was_woken()
    frames = link.frames()
    assert [frame.get("done") for frame in frames] == [False, True]


def test_a_streamed_block_wakes_the_router_before_the_next_one() -> None:
    body = Body(b"one", b"two")
    link = linked([body], length=None)
    serve_one(link)
    assert body.woken_at_close is True


def test_after_a_slow_close_the_next_clients_do_not_wait_for_theirs() -> None:
    bodies = [Body(seconds=0.005), Body()]
    link = linked(bodies)
    serve_one(link)
    assert bodies[0].woken_at_close is False
    assert link.router.was_woken()
    serve_one(link)
    assert bodies[1].woken_at_close is True


def test_a_response_is_delivered_though_close_ends_the_worker() -> None:
    link = linked([Body(error=SystemExit(1))])
    with pytest.raises(SystemExit):
        serve_one(link)
    assert link.router.was_woken()


class Loop(Link):
    """An ASGI gateway on the running event loop."""

    def __init__(self, application: Any) -> None:
        super().__init__(slots=8)
        loop = asyncio.get_running_loop()
        self.asgi = _native.Asgi(
            self.channel,
            serve=serving(application, None),  # type: ignore[arg-type]
            create_task=loop.create_task,
            create_future=loop.create_future,
            call_soon=loop.call_soon,
            on_error=lambda message, error: self.logged.append((message, error)),
            on_left=lambda message, error: None,
        )


async def respond(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def test_a_turn_of_an_event_loop_wakes_the_router_once() -> None:
    woken: list[bool] = []

    async def scenario() -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await respond(send)
            woken.append(loop.router.was_woken())

        loop = Loop(application)
        for slot in range(4):
            loop.send(slot)
        loop.asgi.take(8)
        loop.frames()
        assert loop.router.sleep()
        loop.router.was_woken()
        await asyncio.sleep(0)  # the tasks
        assert len(woken) == 4
        await asyncio.sleep(0)  # what they left to the end of the turn
        assert loop.router.was_woken()
        assert sum(frame.get("done", False) for frame in loop.frames()) == 4

    asyncio.run(scenario())
    assert woken == [False] * 4


def test_in_a_turn_that_takes_long_those_who_are_done_do_not_wait_for_its_end() -> None:
    woken: list[bool] = []

    async def scenario() -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await respond(send)
            woken.append(loop.router.was_woken())
            time.sleep(0.002)

        loop = Loop(application)
        for slot in range(3):
            loop.send(slot)
        loop.asgi.take(8)
        loop.frames()
        assert loop.router.sleep()
        loop.router.was_woken()
        await asyncio.sleep(0)

    asyncio.run(scenario())
    assert woken[0] is False
    assert woken[1] is True
