"""The WSGI gateway, by the frames that it sends."""

from __future__ import annotations

import gzip
import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from channels import Link, body, is_complete
from remuda import _native

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]
PLAIN = [("Content-Type", "text/plain")]


def hello(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", [*PLAIN, ("Content-Length", "5")])
    return [b"hello"]


def environ_of(link_options: dict[str, Any] | None = None, **request: Any) -> Environ:
    """The environ that a request becomes."""
    seen: list[Environ] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        seen.append(environ)
        start_response("204 No Content", [])
        return []

    Link(application, **(link_options or {})).serve(**request)
    return seen[0]


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


# start_response


def call_start_response(*arguments: Any) -> Exception | None:
    """What start_response raises into the application."""
    raised: list[Exception] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        try:
            start_response(*arguments)
        except Exception as error:  # noqa: BLE001  (whatever it raises is looked at)
            raised.append(error)
            start_response("200 OK", PLAIN)
        return []

    link = Link(application)
    frames = link.serve()
    assert is_complete(frames)
    assert frames[0]["status"] == 200
    return raised[0] if raised else None


@pytest.mark.parametrize("status", ["200", "200 OK", "200 ", "299 Anything \xe9", "999 No"])
def test_a_status_of_three_digits_is_taken(status: str) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response(status, PLAIN)
        return []

    (frame,) = Link(application).serve()
    assert frame["status"] == int(status[:3])
    assert frame["reason"] == status[4:].encode("latin-1")


@pytest.mark.parametrize(
    "status", ["", "20", "2000 OK", "abc OK", "200-OK", "100 Continue", "200 O\rK", "200 \u20ac"]
)
def test_a_status_that_is_none_is_a_value_error(status: str) -> None:
    assert isinstance(call_start_response(status, PLAIN), ValueError)


@pytest.mark.parametrize("status", [b"200 OK", 200, None])
def test_a_status_must_be_a_str(status: Any) -> None:
    assert isinstance(call_start_response(status, PLAIN), TypeError)


@pytest.mark.parametrize(
    "headers",
    [
        None,
        (("A", "b"),),
        {"A": "b"},
        [["A", "b"]],
        [("A",)],
        [("A", "b", "c")],
        [(b"A", "b")],
        [("A", b"b")],
        [("A", 7)],
        ["Ab"],
    ],
)
def test_headers_must_be_a_list_of_tuples_of_two_str(headers: Any) -> None:
    assert isinstance(call_start_response("200 OK", headers), TypeError)


@pytest.mark.parametrize("name", ["", "A b", "A:", "A\r\n", "\xe9", "\u20ac", "A\0"])
def test_a_header_name_must_be_a_token(name: str) -> None:
    assert isinstance(call_start_response("200 OK", [(name, "b")]), ValueError)


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\0b", "a\r\nB: c", "\x7f", "\x01", "\u20ac"])
def test_a_header_value_with_a_control_character_is_refused_and_not_shown(value: str) -> None:
    error = call_start_response("200 OK", [("X-Secret", value)])
    assert isinstance(error, ValueError)
    assert "X-Secret" in str(error)
    assert value not in str(error)


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "keep-alive",
        "TE",
        "Trailers",
        "Transfer-Encoding",
        "Upgrade",
        "Proxy-Authenticate",
        "Proxy-Authorization",
    ],
)
def test_hop_by_hop_headers_are_the_servers_to_set(name: str) -> None:
    assert isinstance(call_start_response("200 OK", [(name, "x")]), AssertionError)


def test_header_values_are_latin_1_and_trimmed() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [("X-Name", " caf\xe9\t "), ("X-Empty", "")])
        return []

    (frame,) = Link(application).serve()
    assert frame["fields"] == [(b"X-Name", b"caf\xe9"), (b"X-Empty", b"")]


def test_a_second_start_response_needs_exc_info() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", PLAIN)
        with pytest.raises(AssertionError, match="second time"):
            start_response("201 Created", PLAIN)
        return [b"x"]

    (frame,) = Link(application).serve()
    assert frame["status"] == 200


def test_exc_info_before_the_head_is_sent_replaces_the_response() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [*PLAIN, ("Content-Length", "100")])
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            start_response("503 Sorry", PLAIN, sys.exc_info())
        return [b"sorry"]

    (frame,) = Link(application).serve()
    assert (frame["status"], frame["fields"]) == (503, [(b"Content-Type", b"text/plain")])
    assert frame["data"] == b"sorry"


def test_exc_info_after_the_head_was_sent_raises_it_again_and_cuts_the_response() -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"begun"
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            start_response("500 Oops", PLAIN, exc_info=sys.exc_info())
        yield b"never"

    link = Link(application)
    head, abort = link.serve()
    assert head["data"] == b"begun"
    assert (abort["kind"], abort["done"]) == ("abort", True)
    assert isinstance(link.logged[0][1], RuntimeError)
    assert str(link.logged[0][1]) == "broken"


def test_headers_that_were_refused_leave_nothing_of_an_earlier_call() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", PLAIN)
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            start_response("500 Oops", [("Bad Name", "x")], sys.exc_info())
        return []

    link = Link(application)
    frames = link.serve()
    assert frames[0]["status"] == 500
    assert isinstance(link.logged[0][1], ValueError)


def test_what_is_kept_of_a_response_does_nothing_to_a_later_one() -> None:
    kept: list[Any] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        kept.append((start_response, start_response("200 OK", PLAIN), environ["wsgi.early_hints"]))
        return [b"x"]

    link = Link(application)
    link.serve()
    link.serve()
    start_response, write, early_hints = kept[0]
    for late in (
        lambda: start_response("200 OK", PLAIN),
        lambda: write(b"late"),
        lambda: early_hints([]),
    ):
        with pytest.raises(AssertionError, match="after the response was complete"):
            late()
    assert link.frames() == []
    assert kept[0][0] is not kept[1][0]


def test_a_head_that_can_never_fit_is_a_500() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [("X-Large", "x" * 1_000_000)])
        return [b"x"]

    link = Link(application)
    frames = link.serve()
    assert frames[0]["status"] == 500
    assert is_complete(frames)
    assert "too large" in str(link.logged[0][1])


# close()


class Closing:
    """An iterable with a close method that remembers its calls."""

    def __init__(self, blocks: Iterable[bytes], error: BaseException | None = None) -> None:
        self.blocks = blocks
        self.error = error
        self.closed = 0
        self.at_close: list[dict[str, Any]] = []
        self.link: Link | None = None

    def __iter__(self) -> Iterator[bytes]:
        yield from self.blocks
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed += 1
        if self.link is not None:
            self.at_close = self.link.frames()


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


# Clients that leave, read slowly, or lose their router


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


# environ


def test_the_environ_has_every_key() -> None:
    environ = environ_of(
        target="/a%20b/c?d=e%20f",
        fields=[(b"host", b"example.org"), (b"x-forwarded-for", b"10.0.0.1")],
        peer="10.1.2.3",
        peer_port=4321,
    )
    kinds = {
        "wsgi.input": _native.Input,
        "wsgi.errors": io.StringIO,
        "wsgi.early_hints": type(environ["wsgi.early_hints"]),
    }
    for key, kind in kinds.items():
        assert isinstance(environ.pop(key), kind)
    assert environ == {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": _native.FileWrapper,
        "SERVER_SOFTWARE": "remuda/0.1.0",
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b/c",
        "QUERY_STRING": "d=e%20f",
        "RAW_URI": "/a%20b/c?d=e%20f",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "REMOTE_ADDR": "10.1.2.3",
        "REMOTE_PORT": "4321",
        "HTTP_HOST": "example.org",
        "HTTP_X_FORWARDED_FOR": "10.0.0.1",
    }
    assert type(environ) is dict


def test_the_environ_is_a_dictionary_of_its_own_for_each_request() -> None:
    seen: list[Environ] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        seen.append(environ)
        environ["mine"] = environ["PATH_INFO"]
        environ["HTTP_X"] = "changed"
        start_response("204 No Content", [])
        return []

    link = Link(application)
    link.serve(target="/one", fields=[(b"x", b"1")])
    link.serve(target="/two", method="PUT", version=10, fields=[(b"y", b"2")], https=True)
    link.serve(target="/one", fields=[(b"x", b"1")])
    assert [environ["PATH_INFO"] for environ in seen] == ["/one", "/two", "/one"]
    assert [environ["REQUEST_METHOD"] for environ in seen] == ["GET", "PUT", "GET"]
    assert [environ["SERVER_PROTOCOL"] for environ in seen] == ["HTTP/1.1", "HTTP/1.0", "HTTP/1.1"]
    assert [environ["wsgi.url_scheme"] for environ in seen] == ["http", "https", "http"]
    assert [environ.get("HTTPS") for environ in seen] == [None, "on", None]
    assert [environ.get("HTTP_Y") for environ in seen] == [None, "2", None]
    assert [environ["mine"] for environ in seen] == ["/one", "/two", "/one"]


@pytest.mark.parametrize(
    ("path", "info"),
    [
        ("/%E2%82%AC", "\xe2\x82\xac"),
        ("/caf\xe9", "caf\xe9"),
        ("/%2e%2E", ".."),
        ("/100%", "100%"),
        ("/%zz%4", "%zz%4"),
        ("/a+b", "a+b"),
        ("/%2525", "%25"),
    ],
)
def test_the_path_is_percent_decoded_once_into_latin_1(path: str, info: str) -> None:
    environ = environ_of(target=path)
    assert environ["PATH_INFO"] == f"/{info}"
    assert environ["RAW_URI"] == path


def test_options_for_the_server_has_no_path() -> None:
    environ = environ_of(method="OPTIONS", target="*")
    assert (environ["PATH_INFO"], environ["RAW_URI"]) == ("", "*")


@pytest.mark.parametrize(
    ("root_path", "script_name", "target", "expected"),
    [
        ("", "/app", "/app/x", ("/app", "/x")),
        ("", "/app", "/app", ("/app", "")),
        ("", "/app/", "/app/x", ("/app", "/x")),
        ("", "/app", "/apple", ("/app", "/apple")),
        ("", "/app", "/x", ("/app", "/x")),
        ("/root", "", "/root/x", ("/root", "/x")),
        ("/root/", "", "/root/x", ("/root", "/x")),
        ("/root", "/app", "/app/x", ("/app", "/x")),
        ("/", "", "/x", ("", "/x")),
    ],
)
def test_script_name_is_taken_off_the_path(
    root_path: str, script_name: str, target: str, expected: tuple[str, str]
) -> None:
    environ = environ_of({"root_path": root_path}, target=target, script_name=script_name)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == expected


def test_repeated_headers_are_joined() -> None:
    environ = environ_of(
        fields=[
            (b"accept", b"a"),
            (b"cookie", b"x=1"),
            (b"accept", b"a"),
            (b"cookie", b"y=2"),
            (b"accept", b"c"),
            (b"x-once", b""),
        ]
    )
    assert environ["HTTP_ACCEPT"] == "a,a,c"
    assert environ["HTTP_COOKIE"] == "x=1; y=2"
    assert environ["HTTP_X_ONCE"] == ""


def test_many_header_names_do_not_mix() -> None:
    names = [f"x-{number}".encode() for number in range(1000)]
    environ = environ_of(fields=[(name, name) for name in names])
    for name in names:
        key = "HTTP_" + name.decode().upper().replace("-", "_")
        assert environ[key] == name.decode()


def test_a_proxy_header_never_becomes_http_proxy() -> None:
    assert "HTTP_PROXY" not in environ_of(fields=[(b"proxy", b"http://evil")])


def test_content_type_and_length_have_no_http_prefix() -> None:
    environ = environ_of(
        fields=[(b"content-type", b"text/x"), (b"content-length", b"3")],
        content_length=3,
        body=b"abc",
    )
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("text/x", "3")
    assert "HTTP_CONTENT_TYPE" not in environ
    assert "HTTP_CONTENT_LENGTH" not in environ


def test_a_request_without_a_body_has_no_content_length() -> None:
    assert "CONTENT_LENGTH" not in environ_of()


@pytest.mark.parametrize("data", [b"", b"abc"])
def test_a_chunked_body_has_the_length_that_it_turned_out_to_have(data: bytes) -> None:
    environ = environ_of(fields=[(b"transfer-encoding", b"chunked")], body=data)
    assert environ["CONTENT_LENGTH"] == str(len(data))
    assert "HTTP_TRANSFER_ENCODING" not in environ


@pytest.mark.parametrize(
    ("host", "https", "expected"),
    [
        (b"example.org", False, ("example.org", "80")),
        (b"example.org", True, ("example.org", "443")),
        (b"example.org:81", False, ("example.org", "81")),
        (b"[::1]:81", False, ("[::1]", "81")),
        (b"[::1]", False, ("[::1]", "80")),
        (None, False, ("localhost", "80")),
    ],
)
def test_a_unix_socket_takes_its_server_from_the_host_header(
    host: bytes | None, https: bool, expected: tuple[str, str]
) -> None:
    environ = environ_of(
        fields=[(b"host", host)] if host else [],
        https=https,
        peer="",
        peer_port=0,
        server="/run/x.sock",
        server_port=0,
    )
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == expected
    assert environ["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in environ


def test_header_values_are_latin_1_text() -> None:
    assert environ_of(fields=[(b"x-name", b"caf\xe9")])["HTTP_X_NAME"] == "caf\xe9"


def test_what_the_gateway_was_told_of_threads_and_processes_stands_in_the_environ() -> None:
    environ = environ_of({"multithread": True, "multiprocess": True})
    assert environ["wsgi.multithread"] is True
    assert environ["wsgi.multiprocess"] is True


# wsgi.input

BODY = b"first\nsecond line\n\nlast"


@pytest.fixture(params=["inline", "file"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Serve a request with a body, inline or as a file, and give what a function reads of it."""

    def run(reader: Callable[[Any], Any], data: bytes = BODY) -> Any:
        result: list[Any] = []

        def application(environ: Environ, start_response: Start) -> list[bytes]:
            result.append(reader(environ["wsgi.input"]))
            start_response("204 No Content", [])
            return []

        link = Link(application)
        if request.param == "inline":
            frames = link.serve(method="POST", body=data, content_length=len(data))
        else:
            path = tmp_path / "body"
            path.write_bytes(data)
            with path.open("rb") as file:
                frames = link.serve(
                    method="POST",
                    file=file.fileno(),
                    file_length=len(data),
                    content_length=len(data),
                )
        assert not link.logged, link.logged
        assert is_complete(frames)
        return result[0]

    return run


def test_input_is_read_like_a_file(read: Callable[..., Any]) -> None:
    readers: list[Callable[[Any], Any]] = [
        lambda f: f.read(),
        lambda f: f.read(-1),
        lambda f: f.read(None),
        lambda f: f.read(0),
        lambda f: f.read(10**9),
        lambda f: [f.read(2), f.read(), f.read()],
        lambda f: [f.read(3), f.readline(), f.read(-5)],
        lambda f: [f.readline(), f.read(4), f.readline()],
        lambda f: f.readline(),
        lambda f: f.readline(3),
        lambda f: f.readline(-1),
        lambda f: [f.readline(0), f.readline(6), f.readline(7)],
        lambda f: f.readlines(),
        lambda f: f.readlines(1),
        lambda f: f.readlines(8),
        lambda f: f.readlines(-1),
        lambda f: f.readlines(0),
        lambda f: list(f),
        lambda f: [next(f), f.read(3), list(f), f.read(), f.readline()],
        lambda f: [iter(f) is f, next(iter(f))],
    ]
    for reader in readers:
        assert read(reader) == reader(io.BytesIO(BODY))


def test_long_lines_are_read_across_blocks(read: Callable[..., Any]) -> None:
    data = b"x" * 100_000 + b"\n" + b"y" * 10 + b"\n" + b"z" * 10
    assert read(lambda f: [len(line) for line in f], data) == [100_001, 11, 10]


def test_a_body_of_a_file_that_is_shorter_than_announced_is_an_error(tmp_path: Path) -> None:
    errors: list[Exception] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            errors.append(error)
        except _native.ChannelError as error:
            errors.append(error)
        start_response("204 No Content", [])
        return []

    path = tmp_path / "body"
    path.write_bytes(b"short")
    with path.open("rb") as file:
        Link(application).serve(file=file.fileno(), file_length=100)
    assert len(errors) == 1


def test_a_body_outlives_its_request() -> None:
    kept: list[Any] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        kept.append(environ["wsgi.input"])
        start_response("204 No Content", [])
        return []

    link = Link(application)
    link.serve(body=b"abc", content_length=3)
    assert kept[0].read() == b"abc"


# wsgi.file_wrapper


def serve_file(make: Callable[[Any], Any], headers: list[tuple[str, str]] | None = None) -> Any:
    def application(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", PLAIN if headers is None else headers)
        return make(environ["wsgi.file_wrapper"])

    link = Link(application)
    frames = link.serve()
    assert not link.logged, link.logged
    assert is_complete(frames)
    return frames


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 1000)
    return path


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_regular_file_goes_out_by_its_descriptor(path: Path, buffering: int) -> None:
    file = path.open("rb", buffering=buffering)
    head, part, done = serve_file(lambda wrapper: wrapper(file))
    assert (b"Content-Length", b"10000") in head["fields"]
    assert head["data"] == b""
    assert (part["kind"], part["offset"], part["length"]) == ("file", 0, 10000)
    assert part["data"] == path.read_bytes()
    assert (part["end"], done["done"]) == (True, True)
    assert file.closed


def test_a_file_goes_out_from_where_it_stands(path: Path) -> None:
    file = path.open("rb")
    file.read(7)
    _, part, _ = serve_file(lambda wrapper: wrapper(file))
    assert (part["offset"], part["length"]) == (7, 9993)


@pytest.mark.parametrize(("length", "sent"), [("100", 100), ("20000", 10000)])
def test_a_content_length_limits_the_file(path: Path, length: str, sent: int) -> None:
    head, part, _ = serve_file(
        lambda wrapper: wrapper(path.open("rb")), [("Content-Length", length)]
    )
    assert head["fields"] == [(b"Content-Length", length.encode())]
    assert part["length"] == sent


def test_a_file_at_its_end_is_an_empty_body(path: Path) -> None:
    file = path.open("rb")
    file.seek(0, os.SEEK_END)
    frames = serve_file(lambda wrapper: wrapper(file))
    assert [frame["kind"] for frame in frames] == ["head", "body"]
    assert (b"Content-Length", b"0") in frames[0]["fields"]


def test_a_named_temporary_file_goes_out_with_what_was_just_written() -> None:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115  (the gateway closes it)
    file.write(b"fresh")
    file.seek(0)
    _, part, _ = serve_file(lambda wrapper: wrapper(file))
    assert part["data"] == b"fresh"


def test_what_is_no_plain_file_is_read_block_by_block(path: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(b"unpacked"))
    replaced = path.open("rb")
    answers = [b"mine", b""]
    replaced.read = lambda size=-1: answers.pop(0)  # type: ignore[method-assign]

    class Own(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(1)

    read_end, write_end = os.pipe()
    os.write(write_end, b"piped")
    os.close(write_end)
    own = tmp_path / "own"
    own.write_bytes(b"own")
    for file, expected in [
        (gzip.open(packed), b"unpacked"),  # noqa: SIM115
        (io.BytesIO(b"memory"), b"memory"),
        (replaced, b"mine"),
        (Own(str(own)), b"own"),
        (open(read_end, "rb"), b"piped"),  # noqa: PTH123, SIM115
    ]:
        frames = serve_file(lambda wrapper, file=file: wrapper(file, 100))
        assert "file" not in [frame["kind"] for frame in frames]
        assert body(frames) == expected
        assert file.closed


def test_a_wrapper_that_was_changed_by_middleware_is_iterated(path: Path) -> None:
    frames = serve_file(lambda wrapper: (block.lower() for block in wrapper(path.open("rb"))))
    assert "file" not in [frame["kind"] for frame in frames]
    assert body(frames) == path.read_bytes()


def test_the_wrapper_is_an_iterable_of_blocks_that_closes_its_file(path: Path) -> None:
    file = path.open("rb")
    wrapper = _native.FileWrapper(file, 4096)
    assert [len(block) for block in wrapper] == [4096, 4096, 1808]
    wrapper.close()
    assert file.closed
    with pytest.raises(TypeError, match="wants a file"):
        _native.FileWrapper(7)


def test_a_text_file_is_a_type_error_and_is_closed(path: Path) -> None:
    file = path.open("r")

    def application(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", PLAIN)
        return environ["wsgi.file_wrapper"](file)

    link = Link(application)
    assert link.serve()[0]["status"] == 500
    assert isinstance(link.logged[0][1], TypeError)
    assert file.closed


# Early hints


def test_early_hints_are_sent_at_once_as_103() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
        (hint,) = link.frames()
        assert hint == {
            "kind": "interim",
            "id": 1 << 16,
            "status": 103,
            "fields": [(b"Link", b"</a.css>; rel=preload")],
        }
        with pytest.raises(ValueError, match="control character"):
            environ["wsgi.early_hints"]([("Link", "a\r\nB: c")])
        write = start_response("200 OK", PLAIN)
        write(b"x")
        environ["wsgi.early_hints"]([("Link", "late")])
        return []

    link = Link(application)
    frames = link.serve()
    assert [frame["kind"] for frame in frames] == ["head", "body"]
    assert not link.logged


def test_early_hints_are_nothing_to_http_1_0() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        environ["wsgi.early_hints"]([("Link", "x")])
        start_response("200 OK", PLAIN)
        return []

    assert [frame["kind"] for frame in Link(application).serve(version=10)] == ["head"]


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


def test_an_application_under_the_validator_runs_clean(path: Path) -> None:
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
