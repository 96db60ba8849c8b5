"""The WSGI gateway: what an application gives, by the frames that it becomes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from channels import Closing, Link, body, is_complete
from remuda import _native

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]
PLAIN = [("Content-Type", "text/plain")]


def hello(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", [*PLAIN, ("Content-Length", "5")])
    return [b"hello"]


# Responses


def test_a_list_of_one_block_is_one_frame() -> None:
    link = Link(hello)
    (frame,) = link.serve()
    assert frame.pop("elapsed") < 5_000_000
    assert frame == {
        "kind": "head",
        "id": 1 << 16,
        "status": 200,
        "reason": b"OK",
        "fields": [(b"Content-Type", b"text/plain"), (b"Content-Length", b"5")],
        "data": b"hello",
        "end": True,
        "done": True,
        "stream": False,
    }
    assert link.channel.busy == 0
    assert not link.logged


@pytest.mark.parametrize("make", [list, tuple])
def test_a_list_of_several_blocks_is_one_frame(make: Callable[..., Any]) -> None:
    def application(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", PLAIN)
        return make([b"a", b"", b"bc"])  # type: ignore[no-any-return]

    (frame,) = Link(application).serve()
    assert (frame["data"], frame["end"], frame["done"]) == (b"abc", True, True)


@pytest.mark.parametrize("blocks", [[b"x" * 300_000], [b"x" * 100_000, b"", b"x" * 200_000]])
def test_a_large_list_is_cut_into_pieces_of_64_kib(blocks: list[bytes]) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", PLAIN)
        return blocks

    link = Link(application, slots=1000)
    frames = link.serve()
    assert body(frames) == b"x" * 300_000
    assert all(len(frame["data"]) <= 65536 for frame in frames)
    assert frames[0]["kind"] == "head"
    assert is_complete(frames)


def test_a_body_larger_than_the_ring_waits_for_room_without_the_gil() -> None:
    size = 5_000_000

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", PLAIN)
        return [bytes(size)]

    link = Link(application, slots=1)
    link.send()
    thread = threading.Thread(target=lambda: link.gateway.serve(link.channel.take()))
    thread.start()
    frames = [link.frame()]
    while not frames[-1]["done"]:
        frames.append(link.frame())
    thread.join(5)
    assert not thread.is_alive()
    assert len(body(frames)) == size
    assert is_complete(frames)


@pytest.mark.parametrize("empty", [[], [b""], (), iter([]), iter([b""])])
def test_an_empty_body_is_a_head_that_ends(empty: Iterable[bytes]) -> None:
    def application(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", PLAIN)
        return empty

    frames = Link(application).serve()
    assert frames[0]["kind"] == "head"
    assert frames[0]["end"]
    assert body(frames) == b""
    assert is_complete(frames)


def test_each_block_of_a_generator_leaves_before_the_next_is_asked_for() -> None:
    seen: list[list[dict[str, Any]]] = []

    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"one"
        seen.append(link.frames())
        yield b""
        seen.append(link.frames())
        yield b"two"
        seen.append(link.frames())

    link = Link(application)
    last = link.serve()
    (head,), nothing, (two,) = seen
    assert (head["kind"], head["data"], head["stream"]) == ("head", b"one", True)
    assert not head["end"]
    assert nothing == []
    assert (two["kind"], two["data"], two["end"]) == ("body", b"two", False)
    assert [(frame["data"], frame["end"], frame["done"]) for frame in last] == [(b"", True, True)]


def test_a_generator_may_call_start_response_late() -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        yield b""
        start_response("201 Created", PLAIN)
        yield b"late"

    frames = Link(application).serve()
    assert frames[0]["status"] == 201
    assert body(frames) == b"late"
    assert is_complete(frames)


def test_a_block_before_start_response_is_an_error_of_the_application() -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        yield b"early"

    link = Link(application)
    frames = link.serve()
    assert frames[0]["status"] == 500
    assert "before it called start_response" in str(link.logged[0][1])
    assert is_complete(frames)


def test_an_iterable_whose_length_is_one_is_complete_with_its_block() -> None:
    class One:
        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"all"])

    def application(environ: Environ, start_response: Start) -> One:
        start_response("200 OK", PLAIN)
        return One()

    head, done = Link(application).serve()
    assert (head["data"], head["end"], head["done"]) == (b"all", True, False)
    assert done["done"]


def test_a_body_that_reaches_its_content_length_ends_at_once() -> None:
    seen: list[dict[str, Any]] = []

    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "6")])
        yield b"one"
        yield b"two"
        seen.extend(link.frames())

    link = Link(application)
    rest = link.serve()
    assert [frame["end"] for frame in seen] == [False, True]
    assert [(frame["done"], frame["data"]) for frame in rest] == [(True, b"")]


def test_blocks_beyond_the_content_length_are_not_sent_and_are_logged() -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "3")])
        yield b"one"
        yield b"two"

    link = Link(application)
    frames = link.serve(target="/more")
    assert body(frames) == b"one"
    assert is_complete(frames)
    assert link.logged == [("GET /more: the application gave more than its Content-Length", None)]


def test_write_sends_before_the_iterable() -> None:
    seen: list[dict[str, Any]] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        write(b"")
        assert link.frames() == []
        write(b"first ")
        seen.extend(link.frames())
        return [b"second"]

    link = Link(application)
    rest = link.serve()
    assert (seen[0]["kind"], seen[0]["data"], seen[0]["stream"]) == ("head", b"first ", True)
    assert body(rest) == b"second"
    assert is_complete(rest)


@pytest.mark.parametrize("wrong", ["text", bytearray(b"x"), memoryview(b"x"), None, 7])
def test_write_takes_bytes_only(wrong: Any) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        with pytest.raises(TypeError, match="bytes"):
            start_response("200 OK", PLAIN)(wrong)
        return [b"ok"]

    link = Link(application)
    assert body(link.serve()) == b"ok"


@pytest.mark.parametrize("wrong", [["text"], [b"x", "text"], iter(["text"]), [bytearray(b"x")]])
def test_a_block_that_is_no_bytes_is_a_type_error_and_a_500(wrong: Any) -> None:
    def application(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", PLAIN)
        return wrong

    link = Link(application)
    frames = link.serve(target="/wrong")
    assert frames[0]["status"] == 500
    assert b"Internal Server Error" in body(frames)
    assert is_complete(frames)
    ((message, error),) = link.logged
    assert message == "Error handling request GET /wrong"
    assert isinstance(error, TypeError)
    assert "bytes, not" in str(error)


@pytest.mark.parametrize("wrong", [None, 7, "text", b"bytes", object()])
def test_what_is_no_iterable_of_bytes_is_a_clear_type_error(wrong: Any) -> None:
    def application(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", PLAIN)
        return wrong

    link = Link(application)
    assert link.serve()[0]["status"] == 500
    assert f"the application returned {type(wrong).__name__}" in str(link.logged[0][1])


# close()


BODY = b"first\nsecond line\n\nlast"


def serve_closing(closing: Closing, **request: Any) -> tuple[Link, list[dict[str, Any]]]:
    def application(environ: Environ, start_response: Start) -> Closing:
        start_response("200 OK", PLAIN)
        return closing

    link = Link(application)
    closing.link = link
    return link, link.serve(**request)


def test_close_is_called_after_the_body_and_before_the_slot_is_free() -> None:
    closing = Closing([b"x"])
    _, (done,) = serve_closing(closing)
    assert closing.closed == 1
    assert [frame["end"] for frame in closing.at_close] == [False, True]
    assert not any(frame["done"] for frame in closing.at_close)
    assert (done["kind"], done["done"]) == ("body", True)


@pytest.mark.parametrize("blocks", [[], [b"x"], ["wrong"]])
def test_close_is_called_when_iteration_fails(blocks: list[Any]) -> None:
    closing = Closing(blocks, RuntimeError("broken"))
    _, frames = serve_closing(closing)
    assert closing.closed == 1
    assert frames[-1]["done"]


def test_close_is_called_when_the_iterable_cannot_be_iterated() -> None:
    class NoIterable:
        closed = 0

        def close(self) -> None:
            NoIterable.closed += 1

    def application(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", PLAIN)
        return NoIterable()

    assert Link(application).serve()[0]["status"] == 500
    assert NoIterable.closed == 1


def test_a_close_that_fails_is_logged_and_the_response_stands() -> None:
    class Failing(Closing):
        def close(self) -> None:
            raise RuntimeError("cannot close")

    link, frames = serve_closing(Failing([b"x"]), target="/c")
    assert body(frames) == b"x"
    assert is_complete(frames)
    assert link.logged[0][0] == "close() failed after GET /c"


def test_a_generator_that_is_not_read_to_its_end_is_closed() -> None:
    ended: list[str] = []

    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        try:
            yield "wrong"  # type: ignore[misc]
        finally:
            ended.append("closed")

    Link(application).serve()
    assert ended == ["closed"]


# Failures


def test_an_application_that_raises_gets_a_500_and_the_worker_lives_on() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        if environ["PATH_INFO"] == "/fail":
            raise LookupError("what is missing")
        return hello(environ, start_response)  # type: ignore[no-any-return]

    link = Link(application)
    (frame,) = link.serve(method="POST", target="/fail?a=b")
    assert (frame["status"], frame["reason"]) == (500, b"Internal Server Error")
    fields = dict(frame["fields"])
    assert int(fields[b"Content-Length"]) == len(frame["data"])
    ((message, error),) = link.logged
    assert message == "Error handling request POST /fail?a=b"
    assert isinstance(error, LookupError)
    assert error.__traceback__ is not None
    assert body(link.serve()) == b"hello"


def test_an_application_that_raises_after_the_head_is_cut() -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"begun"
        raise LookupError

    link = Link(application)
    head, abort = link.serve()
    assert (head["kind"], abort["kind"], abort["done"]) == ("head", "abort", True)
    assert len(link.logged) == 1


def test_an_application_that_raises_after_its_last_byte_has_answered() -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "3")])
        yield b"all"
        raise LookupError

    link = Link(application)
    frames = link.serve()
    assert [frame["kind"] for frame in frames] == ["head", "body"]
    assert is_complete(frames)
    assert len(link.logged) == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_exits_come_out_of_serve_and_the_slot_is_not_freed(error: BaseException) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        raise error

    link = Link(application)
    link.send(target="/exit")
    with pytest.raises(type(error)):
        link.gateway.serve(link.channel.take())
    assert link.frames() == []
    assert link.channel.busy == 1
    assert link.logged == [(f"{type(error).__name__} in GET /exit: the worker exits", error)]


def test_other_base_exceptions_end_the_request_only() -> None:
    class Killed(BaseException):
        pass

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        raise Killed

    link = Link(application)
    assert link.serve()[0]["status"] == 500
    assert link.channel.busy == 0


def test_a_log_that_fails_does_not_stop_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        raise LookupError

    def broken(message: str, error: BaseException | None) -> None:
        raise OSError("the log is broken")

    link = Link()
    gateway = _native.Wsgi(application, link.channel, errors=link.errors, on_error=broken)
    link.send()
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    gateway.serve(link.channel.take())
    assert link.frame()["status"] == 500
    assert isinstance(seen[0].exc_value, OSError)


# Hooks, wake-ups, the validator


def test_the_hooks_see_the_request_and_what_became_of_it() -> None:
    calls: list[Any] = []
    link = Link(
        hello,
        on_request=lambda request: calls.append((request.method, request.uri)),
        on_response=lambda request, environ, response: calls.append(
            (environ["PATH_INFO"], response.status, response.headers, response.sent)
        ),
    )
    link.serve(target="/x?y")
    headers = [("Content-Type", "text/plain"), ("Content-Length", "5")]
    assert calls == [("GET", "/x?y"), ("/x", "200 OK", headers, 5)]


def test_a_hook_that_raises_is_an_error_of_the_request() -> None:
    def fail(*arguments: Any) -> None:
        raise LookupError

    link = Link(hello, on_request=fail)
    assert link.serve()[0]["status"] == 500
    link = Link(hello, on_response=fail)
    assert link.serve()[0]["status"] == 200
    assert link.logged[0][0] == "post_request failed on GET /"


def test_a_sleeping_router_is_woken_once_no_more_requests_wait() -> None:
    link = Link(hello)
    link.send()
    link.send(slot=1)
    first, second = link.channel.take, link.channel.take
    link.router.was_woken()
    assert link.router.sleep()
    request = first()
    link.gateway.serve(request)
    assert not link.router.was_woken(), "the next request is there: the router looks by itself"
    link.gateway.serve(second())
    assert link.router.was_woken()


def test_a_streamed_block_wakes_the_router_at_once() -> None:
    woken: list[bool] = []

    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"one"
        woken.append(link.router.was_woken())

    link = Link(application)
    link.send()
    link.send(slot=1)
    link.router.was_woken()
    assert link.router.sleep()
    link.gateway.serve(link.channel.take())
    assert woken == [True]


def test_a_wake_up_that_was_put_off_is_given_before_the_worker_sleeps() -> None:
    link = Link(hello)
    link.send()
    id = link.send(slot=1)
    assert id
    link.router.was_woken()
    assert link.router.sleep()
    link.gateway.serve(link.channel.take())
    assert not link.router.was_woken()
    link.channel.take()
    assert link.channel.take(0.01) is None
    assert link.router.was_woken()


def test_a_request_that_was_taken_back_is_no_reason_to_put_a_wake_up_off() -> None:
    link = Link(hello)
    link.send()
    position = link.router.send(link.router.encode(9 << 16 | 1))
    assert link.router.revoke(position)
    link.router.was_woken()
    assert link.router.sleep()
    link.gateway.serve(link.channel.take())
    assert link.router.was_woken(), "nobody takes another request"


def test_a_thread_that_takes_the_last_request_gives_the_wake_up_that_another_put_off() -> None:
    link = Link(hello)
    link.send()
    link.send(slot=1)
    link.router.was_woken()
    assert link.router.sleep()
    link.gateway.serve(link.channel.take())
    assert not link.router.was_woken()
    assert link.channel.take() is not None
    assert link.router.was_woken(), "this one may take long"


def test_an_event_loop_that_takes_the_last_request_gives_the_wake_up_before_it_begins() -> None:
    link = Link(hello)
    link.send()
    link.send(slot=1)
    link.router.was_woken()
    assert link.router.sleep()
    link.gateway.serve(link.channel.take_nowait())
    assert not link.router.was_woken()
    assert link.channel.take_nowait() is not None
    assert link.router.was_woken(), "this one may block the loop"


def test_an_application_under_the_validator_runs_clean() -> None:
    @validator
    def application(environ: Environ, start_response: Start) -> Iterable[bytes]:
        data = environ["wsgi.input"].read(5)
        data += environ["wsgi.input"].readline()
        data += b"".join(environ["wsgi.input"])
        environ["wsgi.errors"].write("said\n")
        start_response("200 OK", [*PLAIN, ("Content-Length", str(len(data)))])
        return [data]

    link = Link(application)
    frames = link.serve(
        method="POST",
        target="/x?y",
        body=BODY,
        content_length=len(BODY),
        fields=[(b"host", b"a"), (b"content-type", b"text/plain")],
    )
    assert not link.logged, link.logged
    assert body(frames) == BODY
    assert link.errors.getvalue() == "said\n"
    frames = link.serve(method="OPTIONS", target="*", fields=[(b"host", b"a")])
    assert not link.logged, link.logged


def test_ten_thousand_requests_leave_nothing_behind() -> None:
    link = Link(hello)
    message = link.router.encode(5 << 16, fields=[(b"host", b"a")])

    def run() -> None:
        for _ in range(500):
            link.router.send(message, copies=10)
            for _ in range(10):
                link.gateway.serve(link.channel.take())
            assert link.router.drain() == 10

    run()
    import gc

    gc.collect()
    before = len(gc.get_objects()), sys.getallocatedblocks()
    run()
    gc.collect()
    after = len(gc.get_objects()), sys.getallocatedblocks()
    assert after[0] - before[0] < 50
    assert after[1] - before[1] < 500


def test_a_request_is_timed_from_when_it_was_claimed() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        time.sleep(0.02)
        start_response("200 OK", PLAIN)
        return []

    (frame,) = Link(application).serve()
    assert 20_000 <= frame["elapsed"] < 5_000_000
