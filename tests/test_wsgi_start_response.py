"""start_response, write and wsgi.early_hints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from channels import Link, body, is_complete

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]
PLAIN = [("Content-Type", "text/plain")]


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
    "status", ["", "20", "2000 OK", "abc OK", "200-OK", "099 No", "200 O\rK", "200 \u20ac"]
)
def test_a_status_that_is_none_is_a_value_error(status: str) -> None:
    assert isinstance(call_start_response(status, PLAIN), ValueError)


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints"])
def test_an_interim_status_is_called_so(status: str) -> None:
    error = call_start_response(status, PLAIN)
    assert isinstance(error, ValueError)
    assert f"{status[:3]} is an interim status" in str(error)
    assert ("wsgi.early_hints" in str(error)) == (status[:3] == "103")


@pytest.mark.parametrize("status", [b"200 OK", 200, None])
def test_a_status_must_be_a_str(status: Any) -> None:
    assert isinstance(call_start_response(status, PLAIN), TypeError)


def answer(headers: Any) -> tuple[Link, dict[str, Any]]:
    """The link, and the only frame, of a response with these headers."""

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", headers)
        return []

    link = Link(application)
    (frame,) = link.serve()
    return link, frame


@pytest.mark.parametrize(
    "headers",
    [
        None,
        7,
        "Ab",
        b"Ab",
        {"A": "b"},
        [("A",)],
        [("A", "b", "c")],
        [(b"A", "b")],
        [("A", b"b")],
        [("A", 7)],
        [["A", 7]],
        ["Ab"],
        [{"A": 1, "b": 2}],
    ],
)
def test_headers_that_are_no_pairs_of_two_str_are_refused(headers: Any) -> None:
    error = call_start_response("200 OK", headers)
    assert isinstance(error, TypeError)
    assert "start_response: " in str(error)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ((("A", "b"), ("C", "d")), ["list"]),
        ([["A", "b"], ["C", "d"]], ["tuple"]),
        ((["A", "b"], ["C", "d"]), ["list", "tuple"]),
        (iter([("A", "b"), ("C", "d")]), ["list"]),
        ({"A": "b", "C": "d"}.items(), ["list"]),
    ],
)
def test_other_pairs_than_tuples_in_a_list_are_sent_with_a_word(
    headers: Any, said: list[str]
) -> None:
    link, frame = answer(headers)
    assert (frame["status"], frame["fields"]) == (200, [(b"A", b"b"), (b"C", b"d")])
    assert len(link.notices) == len(said)
    for word, notice in zip(said, link.notices, strict=True):
        assert f"is no {word}" in notice or f"are no {word}" in notice


def test_a_value_that_is_no_str_is_not_shown() -> None:
    error = call_start_response("200 OK", [("Set-Cookie", b"secret")])
    assert str(error) == "start_response: the value of Set-Cookie must be a str, not bytes"


@pytest.mark.parametrize("name", ["", "A b", "A:", "A\r\n", "\xe9", "\u20ac", "A\0"])
def test_a_header_name_must_be_a_token(name: str) -> None:
    assert isinstance(call_start_response("200 OK", [(name, "b")]), ValueError)


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\0b", "a\r\nB: c", "\x7f", "\x01", "\u20ac"])
def test_a_header_value_with_a_control_character_is_refused_and_not_shown(value: str) -> None:
    error = call_start_response("200 OK", [("X-Secret", value)])
    assert isinstance(error, ValueError)
    assert "X-Secret" in str(error)
    assert value not in str(error)


OWN = [
    ("Connection", "keep-alive"),
    ("keep-alive", "timeout=5"),
    ("Proxy-Connection", "keep-alive"),
    ("TE", "trailers"),
    ("Trailer", "X-Sum"),
    ("Trailers", "X-Sum"),
    ("Transfer-Encoding", "chunked"),
    ("Upgrade", "h2c"),
    ("Proxy-Authorization", "Basic x"),
]


@pytest.mark.parametrize(("name", "value"), OWN)
def test_what_is_the_servers_to_set_is_left_out_with_one_word_a_worker(
    name: str, value: str
) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        environ["wsgi.early_hints"]([(name, value), ("Link", "x")])
        start_response("200 OK", [*PLAIN, (name, value), ("X-After", "y")])
        return []

    link = Link(application)
    for _ in range(3):
        hint, head = link.serve()
        assert hint["fields"] == [(b"Link", b"x")]
        assert (head["status"], head["fields"]) == (
            200,
            [(b"Content-Type", b"text/plain"), (b"X-After", b"y")],
        )
    assert len(link.notices) == 1
    assert f"sets {name}".lower() in link.notices[0].lower()
    assert value not in link.notices[0].replace("Keep-Alive", "")
    assert not link.logged


def test_each_name_has_a_word_of_its_own() -> None:
    link, frame = answer([*OWN, *OWN])
    assert frame["fields"] == []
    assert len(link.notices) == len(OWN)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Connection", "close"),
        ("Connection", "keep-alive, X-Foo"),
        ("Proxy-Authenticate", "Basic realm=x"),
        ("Proxy-Authentication-Info", "x"),
    ],
)
def test_what_the_router_obeys_or_sends_is_handed_on(name: str, value: str) -> None:
    link, frame = answer([(name, value)])
    assert frame["fields"] == [(name.encode(), value.encode())]
    assert link.notices == []


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


def test_a_large_head_goes_with_as_much_of_the_body_as_fits() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [("X-Large", "x" * 100_000)])
        return [b"y" * 60_000]

    link = Link(application, slots=1)
    frames = link.serve()
    assert frames[0]["status"] == 200
    assert body(frames) == b"y" * 60_000
    assert is_complete(frames)


def test_a_head_that_can_never_fit_is_a_500() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [("X-Large", "x" * 1_000_000)])
        return [b"x"]

    link = Link(application)
    frames = link.serve()
    assert frames[0]["status"] == 500
    assert is_complete(frames)
    assert "too large" in str(link.logged[0][1])


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
