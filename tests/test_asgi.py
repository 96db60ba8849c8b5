"""The ASGI gateway, against a router's end in the same process."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channels import Link, body, is_complete
from remuda import _native
from remuda.workers.asgi import serving, stacks

App = Callable[[dict[str, Any], Any, Any], Any]

PAUSED, CANCELLED = 1, 2


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, message: str, *args: object, exc_info: object = None) -> None:
        self.lines.append(message % args)


class Served(Link):
    """An application on the running event loop, behind a channel whose router is the test."""

    def __init__(self, application: App, *, slots: int = 4, **options: Any) -> None:
        super().__init__(slots=slots)
        self.left: list[tuple[str, BaseException | None]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.log = Log()
        loop = asyncio.get_running_loop()

        def create_task(coroutine: Any) -> asyncio.Task[None]:
            task = loop.create_task(coroutine)
            self.tasks.append(task)
            return task

        self.asgi = _native.Asgi(
            self.channel,
            serve=serving(application, self.log),  # type: ignore[arg-type]
            create_task=create_task,
            create_future=loop.create_future,
            on_error=lambda message, error: self.logged.append((message, error)),
            on_left=lambda message, error: self.left.append((message, error)),
            on_notice=self.notices.append,
            **options,
        )

    def flow_of(self, id: int, word: int) -> None:
        self.router.flow(id & 0xFFFF, word)

    async def turn(self, times: int = 5) -> None:
        """What the worker does when its descriptors are readable."""
        for _ in range(times):
            self.asgi.take(64)
            self.asgi.on_room()
            await asyncio.sleep(0)

    async def answer(self, slot: int = 0, **request: Any) -> list[dict[str, Any]]:
        """Send a request, serve it to its end, and give the frames that came of it."""
        self.send(slot, **request)
        self.asgi.take(64)
        await asyncio.wait_for(asyncio.gather(*self.tasks), 5)
        return self.frames()


def run(application: App, **request: Any) -> tuple[list[dict[str, Any]], Served]:
    """One request to its end."""

    async def scenario() -> tuple[list[dict[str, Any]], Served]:
        served = Served(application)
        return await served.answer(**request), served

    return asyncio.run(scenario())


def scope_of(options: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    scopes: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await respond(send)

    async def scenario() -> None:
        served = Served(application, **(options or {}))
        await served.answer(**request)
        assert served.logged == []

    asyncio.run(scenario())
    return scopes[0]


async def respond(send: Any, data: bytes = b"hello", status: int = 200, **start: Any) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [], **start})
    await send({"type": "http.response.body", "body": data})


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await respond(send)


# ---- scope ------------------------------------------------------------------------------------


def test_the_scope_says_what_the_request_says() -> None:
    scope = scope_of(
        method="PUT",
        target="/caf%C3%A9/%2F?q=%20x",
        fields=[(b"host", b"x"), (b"x-twice", b"1"), (b"x-twice", b"2")],
        peer="10.0.0.1",
        peer_port=99,
        server="10.0.0.2",
        server_port=8443,
        https=True,
    )
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("10.0.0.2", 8443),
        "client": ("10.0.0.1", 99),
        "scheme": "https",
        "method": "PUT",
        "root_path": "",
        "path": "/café//",
        "raw_path": b"/caf%C3%A9/%2F",
        "query_string": b"q=%20x",
        "headers": [(b"host", b"x"), (b"x-twice", b"1"), (b"x-twice", b"2")],
        "extensions": {
            "http.response.pathsend": {},
            "http.response.early_hint": {},
            "http.response.trailers": {},
        },
    }
    assert type(scope["headers"]) is list


def test_http_1_0_has_no_early_hints_and_no_trailers() -> None:
    scope = scope_of(version=10)
    assert scope["http_version"] == "1.0"
    assert scope["extensions"] == {"http.response.pathsend": {}}


def test_on_a_unix_socket_the_client_has_no_address_and_the_server_no_port() -> None:
    scope = scope_of(peer="", peer_port=0, server="/run/x.sock", server_port=0)
    assert scope["client"] is None
    assert scope["server"] == ("/run/x.sock", None)


@pytest.mark.parametrize("target", ["/api/items?x", "/items?x"])
def test_the_path_has_the_root_path_in_it_whether_or_not_a_proxy_took_it_off(target: str) -> None:
    scope = scope_of({"root_path": "/api/"}, target=target)
    assert scope["root_path"] == "/api"
    assert (scope["path"], scope["raw_path"]) == ("/api/items", b"/api/items")


def test_a_proxys_script_name_wins_over_the_setting() -> None:
    scope = scope_of({"root_path": "/api"}, target="/items", script_name="/other")
    assert (scope["root_path"], scope["path"]) == ("/other", "/other/items")


def test_a_path_that_is_no_utf_8_has_replacement_characters() -> None:
    scope = scope_of(target="/%ff")
    assert (scope["path"], scope["raw_path"]) == ("/�", b"/%ff")


def test_the_asterisk_is_a_path_of_its_own() -> None:
    scope = scope_of({"root_path": "/api"}, method="OPTIONS", target="*")
    assert (scope["path"], scope["raw_path"]) == ("*", b"*")


def test_each_request_has_a_copy_of_the_lifespans_state() -> None:
    shared: list[int] = []
    state = {"shared": shared}
    scopes: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        scope["state"]["mine"] = True
        scope["state"]["shared"].append(1)
        scope["extensions"].clear()
        scope["asgi"].clear()
        await respond(send)

    async def scenario() -> None:
        served = Served(application, state=state)
        await served.answer()
        await served.answer(1)

    asyncio.run(scenario())
    assert "mine" not in state
    assert shared == [1, 1]
    assert scopes[0]["state"] is not scopes[1]["state"]
    assert scopes[0] is not scopes[1]


def test_nothing_of_a_request_is_left_in_the_scope_of_the_next() -> None:
    scopes: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await respond(send)

    async def scenario() -> None:
        served = Served(application)
        await served.answer(
            target="/a?b", method="POST", fields=[(b"cookie", b"a=b"), (b"x", b"1")], https=True
        )
        await served.answer(1, version=10, peer="10.1.1.1", fields=[(b"x", b"2")])

    asyncio.run(scenario())
    assert scopes[0]["headers"] == [(b"cookie", b"a=b"), (b"x", b"1")]
    second = scopes[1]
    assert second["headers"] == [(b"x", b"2")]
    assert (second["method"], second["path"], second["query_string"]) == ("GET", "/", b"")
    assert (second["scheme"], second["http_version"]) == ("http", "1.0")
    assert second["client"][0] == "10.1.1.1"


# ---- responses --------------------------------------------------------------------------------


def test_a_response_of_one_piece_is_one_frame_and_then_the_slot_is_free() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"x-a", b"1"), [b"x-b", b"2"], (b"set-cookie", b"a"), (b"set-cookie", b"b")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})

    frames, served = run(application)
    head, last = frames
    assert (head["kind"], head["status"], head["data"]) == ("head", 201, b"hello")
    assert head["fields"] == [
        (b"x-a", b"1"),
        (b"x-b", b"2"),
        (b"set-cookie", b"a"),
        (b"set-cookie", b"b"),
    ]
    assert (head["end"], head["done"]) == (True, False)
    assert (last["end"], last["done"]) == (False, True)
    assert served.channel.busy == served.asgi.busy == 0
    assert served.logged == []


def test_header_pairs_may_be_lists_and_other_buffers() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        headers = ([b"x-a", bytearray(b"1")], (memoryview(b"x-b"), memoryview(b"23")[::2]))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    frames, served = run(application)
    assert frames[0]["fields"] == [(b"x-a", b"1"), (b"x-b", b"2")]
    assert served.notices == []


def test_what_is_the_servers_to_set_is_left_out_with_one_word_a_worker() -> None:
    own = [
        (b"connection", b"keep-alive"),
        (b"Keep-Alive", b"timeout=5"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"proxy-authorization", b"secret"),
    ]
    sent = [(b"connection", b"close"), (b"proxy-authenticate", b"Basic"), (b"trailer", b"x-sum")]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [*own, *sent]})
        await send({"type": "http.response.body"})

    async def scenario() -> None:
        served = Served(application)
        for _ in range(2):
            head, _ = await served.answer()
            assert head["fields"] == sent
        assert len(served.notices) == len(own)
        for (name, _), notice in zip(own, served.notices, strict=True):
            assert f"sets {name.decode()}".lower() in notice.lower()
        assert "secret" not in "".join(served.notices)
        assert served.logged == []

    asyncio.run(scenario())


def test_pieces_go_out_as_they_are_sent() -> None:
    seen: list[int] = []

    async def scenario() -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            for data in (b"a", b"", b"b", b""):
                await send({"type": "http.response.body", "body": data, "more_body": True})
                seen.append(len(served.frames()))
            await send({"type": "http.response.body"})

        served = Served(application)
        last = await served.answer()
        assert [frame["end"] for frame in last] == [True, False]

    asyncio.run(scenario())
    assert seen == [1, 0, 1, 0]


def test_an_empty_first_piece_sends_the_head() -> None:
    async def scenario() -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "more_body": True})
            (head,) = served.frames()
            assert (head["kind"], head["stream"], head["end"]) == ("head", True, False)
            await send({"type": "http.response.body", "body": b"x"})

        served = Served(application)
        assert body(await served.answer()) == b"x"
        assert served.logged == []

    asyncio.run(scenario())


def test_a_head_is_held_back_until_the_body_but_not_for_long() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await go_on.wait()
            await send({"type": "http.response.body", "body": b"x"})

        served = Served(application)
        served.send()
        served.asgi.take(64)
        await asyncio.sleep(0)
        assert served.frames() == []
        # The router says something several times a second.
        served.router.ping()
        served.asgi.take(64)
        (head,) = served.frames()
        assert (head["kind"], head["stream"], head["data"]) == ("head", True, b"")
        go_on.set()
        await asyncio.gather(*served.tasks)
        assert body(served.frames()) == b"x"
        assert served.logged == []

    asyncio.run(scenario())


@pytest.mark.parametrize("convert", [bytes, bytearray, memoryview])
def test_a_body_may_be_any_buffer(convert: Callable[[bytes], Any]) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, convert(b"hello"))

    frames, served = run(application)
    assert body(frames) == b"hello"
    assert served.logged == []


def test_a_large_body_is_cut_into_frames() -> None:
    data = os.urandom(100_000)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, data)

    frames, served = run(application)
    assert body(frames) == data
    assert is_complete(frames)
    assert served.logged == []


def test_a_body_larger_than_the_ring_waits_for_room() -> None:
    data = os.urandom(3_000_000)
    sent = False

    async def scenario() -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            nonlocal sent
            await respond(send, data)
            sent = True

        served = Served(application)
        served.send()
        served.asgi.take(64)
        await asyncio.sleep(0)
        assert not sent
        frames: list[dict[str, Any]] = []
        while not sent:
            frames += served.frames()
            await served.turn(1)
        await asyncio.gather(*served.tasks)
        frames += served.frames()
        assert body(frames) == data
        assert is_complete(frames)
        assert served.asgi.busy == 0

    asyncio.run(scenario())


def test_send_waits_while_the_client_reads_slowly() -> None:
    async def scenario() -> None:
        steps: list[str] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            served.flow_of(id, PAUSED)
            steps.append("paused")
            await send({"type": "http.response.body", "body": b"b", "more_body": True})
            steps.append("went on")
            await send({"type": "http.response.body", "body": b"c"})

        served = Served(application)
        id = served.send()
        await served.turn()
        assert steps == ["paused"]
        assert body(served.frames()) == b"a"
        served.flow_of(id, 0)
        await served.turn()
        assert steps == ["paused", "went on"]
        frames = served.frames()
        assert body(frames) == b"bc"
        assert frames[-1]["done"]

    asyncio.run(scenario())


def test_an_application_that_returns_while_its_client_reads_slowly_keeps_its_slot() -> None:
    async def scenario() -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            served.flow_of(id, PAUSED)
            # Nobody awaits it.
            send({"type": "http.response.body", "body": b"x"})

        served = Served(application)
        id = served.send()
        await served.turn()
        assert served.tasks[0].done()
        assert served.frames() == []
        assert served.asgi.busy == 1
        served.flow_of(id, 0)
        await served.turn()
        assert body(served.frames()) == b"x"
        assert served.asgi.busy == served.channel.busy == 0

    asyncio.run(scenario())


def test_what_runs_after_the_response_keeps_the_slot() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await respond(send)
            await go_on.wait()

        served = Served(application)
        served.send()
        await served.turn()
        (head,) = served.frames()
        assert (head["end"], head["done"]) == (True, False)
        assert served.asgi.busy == 1
        go_on.set()
        await served.turn()
        (last,) = served.frames()
        assert last["done"]
        assert served.asgi.busy == 0

    asyncio.run(scenario())


# ---- faults -----------------------------------------------------------------------------------


def failure(frames: list[dict[str, Any]], served: Served) -> str:
    """The server has answered 500 and logged one line."""
    (page,) = frames
    assert (page["kind"], page["status"], page["data"]) == ("head", 500, b"Internal Server Error")
    assert page["end"] and page["done"]
    assert served.asgi.busy == served.channel.busy == 0
    ((message, _),) = served.logged
    return message


def test_an_application_that_raises_is_answered_500_and_logged_with_the_request() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("nothing there")

    frames, served = run(application, method="POST", target="/x?y")
    assert failure(frames, served) == "Error handling request POST /x?y"
    error = served.logged[0][1]
    assert isinstance(error, LookupError)
    assert error.__traceback__ is not None


def test_an_error_after_the_start_is_still_answered_500() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        raise LookupError("nothing there")

    frames, served = run(application)
    assert failure(frames, served) == "Error handling request GET /"


def test_an_error_in_the_middle_of_the_body_cuts_it() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise LookupError("nothing there")

    frames, served = run(application)
    assert [frame["kind"] for frame in frames] == ["head", "abort"]
    assert frames[-1]["done"]
    assert served.logged[0][0] == "Error handling request GET /"


def test_an_error_after_the_response_is_only_logged() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await respond(send)
        raise LookupError("nothing there")

    frames, served = run(application)
    assert body(frames) == b"hello"
    assert is_complete(frames)
    assert served.logged[0][0] == "Error handling request GET /"


def test_an_application_that_sends_nothing_is_answered_500() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        pass

    frames, served = run(application)
    assert failure(frames, served) == "GET /: the application returned without a response"


def test_an_application_that_sends_a_start_only_is_answered_500() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    frames, served = run(application)
    assert failure(frames, served) == "GET /: the application returned without a response"


def test_an_application_that_leaves_its_body_open_has_it_cut() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})

    frames, served = run(application)
    assert [frame["kind"] for frame in frames] == ["head", "abort"]
    assert served.logged[0][0] == "GET /: the application returned before the end of the body"


START = {"type": "http.response.start", "status": 200}
BODY = {"type": "http.response.body", "body": b"x"}


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([BODY], "http.response.body was sent before http.response.start"),
        ([START, START], "http.response.start was sent a second time"),
        ([START, BODY, BODY], "http.response.body was sent after the response was complete"),
        ([START, BODY, START], "http.response.start was sent after the response was complete"),
        ([{"type": "http.response.trailers"}], "trailers was sent but not announced"),
        ([{**START, "trailers": True}, BODY, BODY], "after its end: trailers are due"),
        ([{"type": "http.response.pathsend", "path": __file__}], "before http.response.start"),
        ([{"type": "http.nonsense"}], "there is no event .*http.nonsense"),
        ([{"type": "websocket.accept"}], "there is no event"),
        ([{}], "the event has no type"),
        ([{"type": b"http.response.start"}], "must be a str, not bytes"),
        ([["type"]], "send\\(\\) takes a dict, not list"),
        ([{"type": "http.response.start"}], "there is no status"),
        ([{**START, "status": "200"}], "status must be from 200 to 999, not '200'"),
        ([{**START, "status": 101}], "101 is an interim status"),
        ([{**START, "status": 103}], "103 is an interim status.*http.response.early_hint"),
        ([{**START, "status": 99}], "not 99"),
        ([{**START, "status": 10**9}], "not 1000000000"),
        ([{**START, "headers": [("a", "b")]}], "a header's name must be bytes, not str"),
        ([{**START, "headers": [(b"a", "b")]}], 'the value of "a" must be bytes, not str'),
        ([{**START, "headers": [(b"a",)]}], "a header must be a pair of bytes"),
        ([{**START, "headers": [(b"a", 7)]}], 'the value of "a" must be bytes, not int'),
        ([{**START, "headers": [(b"a", b"b", b"c")]}], "a pair of bytes, not tuple of 3"),
        ([{**START, "headers": [1]}], "a header must be a pair of bytes, not int"),
        ([{**START, "headers": 1}], "not iterable"),
        ([{**START, "headers": [(b"a b", b"c")]}], "is no header name"),
        ([{**START, "headers": [(b"", b"c")]}], "is no header name"),
        ([{**START, "headers": [(b"a", b"b\r\nc: d")]}], "the value of a has a control character"),
        ([{**START, "headers": [(b"a", b"x" * 70_000)]}], "65536 are the most"),
        ([START, {**BODY, "body": "text"}], "body must be bytes, not str"),
        ([START, {**BODY, "body": 7}], "body must be bytes, not int"),
    ],
)
def test_a_wrong_message_raises_in_the_application_that_sent_it(
    messages: list[Any], fault: str
) -> None:
    caught: list[BaseException] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        for message in messages[:-1]:
            await send(message)
        try:
            await send(messages[-1])
        except Exception as error:
            caught.append(error)
            raise

    frames, served = run(application)
    with pytest.raises((RuntimeError, ValueError, TypeError), match=fault):
        raise caught[0]
    assert served.logged == [("Error handling request GET /", caught[0])]
    assert frames[-1]["done"]
    assert served.asgi.busy == 0


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_leaves_the_event_loop_and_names_the_request(kind: type[BaseException]) -> None:
    lines: list[list[str]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise kind("bye")

    async def scenario() -> None:
        served = Served(application)
        lines.append(served.log.lines)
        await served.answer(target="/exit")

    with pytest.raises(kind):
        asyncio.run(scenario())
    assert lines[0][0] == f"{kind.__name__} in GET /exit: the worker exits"


# ---- request bodies ---------------------------------------------------------------------------


async def echo(scope: Any, receive: Any, send: Any) -> None:
    data = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        data += message["body"]
        if not message["more_body"]:
            break
    await respond(send, data)


@pytest.mark.parametrize("data", [None, b"", b"some bytes"])
def test_a_body_that_came_with_its_request_is_one_message(data: bytes | None) -> None:
    frames, served = run(echo, body=data)
    assert body(frames) == (data or b"")
    assert served.logged == []


def test_a_body_that_is_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    (tmp_path / "body").write_bytes(data)

    async def scenario() -> None:
        served = Served(echo)
        with (tmp_path / "body").open("rb") as file:
            frames = await served.answer(file=file.fileno(), file_length=len(data))
        assert body(frames) == data

    asyncio.run(scenario())


def test_a_body_streams_as_it_comes_and_the_router_is_told_what_was_taken() -> None:
    async def scenario() -> None:
        got: list[dict[str, Any]] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            while True:
                got.append(await receive())
                if not got[-1]["more_body"]:
                    break
            await respond(send)

        served = Served(application)
        id = served.send(method="POST", streams=True)
        await served.turn()
        assert got == []
        served.router.body(id, b"a" * 20_000)
        await served.turn()
        assert [len(message["body"]) for message in got] == [20_000]
        assert served.frames() == []
        served.router.body(id, b"b" * 20_000)
        await served.turn()
        (credit,) = served.frames()
        assert credit == {"kind": "credit", "id": id, "bytes": 40_000}
        served.router.body(id, b"", end=True)
        await served.turn()
        assert [message["more_body"] for message in got] == [True, True, False]
        assert body(served.frames()) == b"hello"

    asyncio.run(scenario())


def test_pieces_of_a_body_that_nobody_reads_are_thrown_away_with_the_request() -> None:
    async def scenario() -> None:
        served = Served(hello)
        id = served.send(method="POST", streams=True)
        await served.turn()
        served.router.body(id, b"late", end=True)
        served.router.cancel(id)
        await served.turn()
        assert served.asgi.busy == 0
        assert served.logged == []

    asyncio.run(scenario())


def test_receive_can_be_a_task_and_a_cancelled_receive_loses_no_piece() -> None:
    async def scenario() -> None:
        got: list[Any] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            first = asyncio.create_task(receive())
            await asyncio.sleep(0)
            first.cancel()
            served.router.body(id, b"piece", end=True)
            served.asgi.take(64)
            await asyncio.wait({first})
            assert first.cancelled()
            got.append(await asyncio.wait_for(receive(), 5))
            await respond(send)

        served = Served(application)
        id = served.send(method="POST", streams=True)
        await served.turn()
        await asyncio.gather(*served.tasks)
        assert got == [{"type": "http.request", "body": b"piece", "more_body": False}]
        assert served.logged == []

    asyncio.run(scenario())


def test_send_can_be_a_task() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.create_task(send(START))
        await asyncio.gather(send(BODY))

    frames, served = run(application)
    assert body(frames) == b"x"
    assert served.logged == []


# ---- clients that leave -----------------------------------------------------------------------


def test_disconnect_comes_when_the_response_is_complete() -> None:
    got: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        assert not waiting.done()
        await respond(send)
        got.append(await asyncio.wait_for(waiting, 5))
        got.append(await receive())

    frames, served = run(application)
    assert got == [{"type": "http.disconnect"}] * 2
    assert is_complete(frames)
    assert served.logged == []


def test_disconnect_comes_when_the_client_leaves_and_sending_the_end_is_silent_then() -> None:
    async def scenario() -> None:
        got: list[Any] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            got.append(await receive())
            await respond(send)
            got.append("background task")

        served = Served(application)
        id = served.send()
        await served.turn()
        served.flow_of(id, CANCELLED)
        served.router.cancel(id)
        await served.turn()
        assert got == [{"type": "http.disconnect"}, "background task"]
        (last,) = served.frames()
        assert (last["kind"], last["done"]) == ("abort", True)
        assert served.logged == []

    asyncio.run(scenario())


def test_a_stream_that_goes_on_after_the_client_left_raises_broken_pipe() -> None:
    async def scenario() -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            while True:
                await send({**BODY, "more_body": True})
                await asyncio.sleep(0)

        served = Served(application)
        id = served.send()
        await served.turn(2)
        served.flow_of(id, CANCELLED)
        served.router.cancel(id)
        await served.turn()
        assert served.tasks[0].done()
        ((message, error),) = served.left
        assert message == "GET /: the application raised after the client had left"
        assert isinstance(error, BrokenPipeError)
        assert served.logged == []
        assert served.asgi.busy == 0

    asyncio.run(scenario())


def test_a_client_that_leaves_is_noticed_without_the_frame_that_says_so() -> None:
    async def scenario() -> None:
        got: list[Any] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            got.append(await receive())

        served = Served(application)
        id = served.send()
        await served.turn()
        served.flow_of(id, CANCELLED)
        await served.turn()
        assert got == [{"type": "http.disconnect"}]
        assert served.frames()[-1]["done"]

    asyncio.run(scenario())


def test_who_waits_to_send_goes_on_when_the_client_leaves() -> None:
    async def scenario() -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            served.flow_of(id, PAUSED)
            await respond(send)
            done.append(True)

        done: list[bool] = []
        served = Served(application)
        id = served.send()
        await served.turn()
        assert not done
        served.flow_of(id, PAUSED | CANCELLED)
        served.router.cancel(id)
        await served.turn()
        assert done
        assert served.frames()[-1]["done"]
        assert served.asgi.busy == 0

    asyncio.run(scenario())


def test_a_request_whose_time_is_over_is_cancelled() -> None:
    async def scenario() -> None:
        cancelled: list[bool] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        served = Served(application)
        id = served.send(target="/slow")
        await served.turn()
        served.flow_of(id, CANCELLED)
        served.router.cancel(id, timeout=True)
        await served.turn()
        assert cancelled == [True]
        assert served.frames()[-1]["done"]
        ((message, _),) = served.logged
        assert message == "GET /slow took longer than request_timeout: it is cancelled"

    asyncio.run(scenario())


def test_a_request_of_a_dead_router_is_told_and_the_next_router_learns_that_it_is_done() -> None:
    async def scenario() -> None:
        got: list[Any] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            got.append(await receive())
            await respond(send)

        served = Served(application)
        served.send()
        await served.turn()
        served.router.hello(2)
        await served.turn()
        assert got == [{"type": "http.disconnect"}]
        frames = served.frames()
        assert (frames[0]["kind"], frames[0]["busy"]) == ("ready", 1)
        assert frames[-1]["done"]
        assert body(frames[1:]) == b""
        assert served.channel.busy == 0

    asyncio.run(scenario())


# ---- extensions -------------------------------------------------------------------------------


def test_pathsend_passes_the_file_and_its_length(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"some content")

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.pathsend", "path": str(path)})

    frames, served = run(application)
    head, file, last = frames
    assert head["fields"] == [(b"content-length", b"12")]
    assert (file["kind"], file["data"], file["end"]) == ("file", b"some content", True)
    assert last["done"]
    assert served.logged == []


def test_pathsend_of_an_empty_file_is_an_empty_body(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.pathsend", "path": str(tmp_path / "file")})

    frames, served = run(application)
    assert [frame["kind"] for frame in frames] == ["head", "body"]
    assert frames[0]["end"]
    assert served.logged == []


@pytest.mark.parametrize(("name", "fault"), [("nothing", OSError), (".", ValueError)])
def test_pathsend_of_no_file_raises_and_can_be_answered(
    tmp_path: Path, name: str, fault: type[Exception]
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        with pytest.raises(fault, match=r"pathsend"):
            await send({"type": "http.response.pathsend", "path": str(tmp_path / name)})
        await send(BODY)

    frames, served = run(application)
    assert body(frames) == b"x"
    assert served.logged == []


def test_early_hints_go_out_before_the_response() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload", b"</b>"]})
        await respond(send)

    frames, served = run(application)
    assert (frames[0]["kind"], frames[0]["status"]) == ("interim", 103)
    assert frames[0]["fields"] == [(b"link", b"</a>; rel=preload"), (b"link", b"</b>")]
    assert body(frames[1:]) == b"hello"
    assert served.logged == []


def test_trailers_come_before_the_end_of_the_body() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "trailers": True})
        await send(BODY)
        trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
        await send({**trailers, "more_trailers": True})
        await send({**trailers, "headers": [(b"x-more", b"2")]})

    frames, served = run(application)
    assert [frame["kind"] for frame in frames] == ["head", "trailers", "body", "body"]
    assert frames[1]["fields"] == [(b"x-sum", b"1"), (b"x-more", b"2")]
    assert [bool(frame.get("end")) for frame in frames] == [False, False, True, False]
    assert served.logged == []


def test_announced_trailers_that_do_not_come_cut_the_response() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "trailers": True})
        await send(BODY)

    frames, served = run(application)
    assert frames[-1]["kind"] == "abort"
    assert "without the trailers" in served.logged[0][0]


# ---- tasks ------------------------------------------------------------------------------------


def test_each_request_has_a_task_and_a_context_of_its_own() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[tuple[str, asyncio.Task[Any] | None]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append((variable.get(), asyncio.current_task()))
        variable.set(scope["path"])
        await asyncio.sleep(0)
        assert variable.get() == scope["path"]
        await respond(send)

    async def scenario() -> None:
        served = Served(application)
        for slot in range(3):
            served.send(slot, target=f"/{slot}")
        await served.turn()
        assert served.logged == []
        assert served.tasks == [task for _, task in seen]

    asyncio.run(scenario())
    assert [value for value, _ in seen] == ["unset"] * 3


def test_nothing_of_a_request_stays_in_memory() -> None:
    class Body(bytes):
        pass

    kept: list[weakref.ref[Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        kept.append(weakref.ref(task))
        await receive()
        await respond(send, Body(b"x"))

    async def scenario() -> None:
        served = Served(application)
        await served.answer()
        served.tasks.clear()
        await asyncio.sleep(0)
        gc.disable()
        try:
            assert [reference() for reference in kept] == [None]
        finally:
            gc.enable()

    asyncio.run(scenario())


def test_the_stacks_of_tasks_name_their_requests_and_what_they_wait_for() -> None:
    async def inner() -> None:
        await asyncio.sleep(60)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await inner()

    async def scenario() -> None:
        served = Served(application)
        served.send(0, target="/one")
        served.send(1, target="/two")
        await served.turn()
        text = stacks(asyncio.get_running_loop())
        assert "Task of GET /one, GET /two (most recent call last):" in text.replace(
            "GET /two, GET /one", "GET /one, GET /two"
        )
        assert "in application\n    await inner()" in text
        assert "in inner\n" in text
        for task in served.tasks:
            task.cancel()
        await asyncio.wait(served.tasks)

    asyncio.run(scenario())


def test_thousands_of_requests_on_few_slots_are_all_answered_once() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].endswith("3"):
            await asyncio.sleep(0)
        await respond(send, scope["path"].encode())

    async def scenario() -> None:
        served = Served(application, slots=64)
        answered: list[bytes] = []
        for batch in range(50):
            for slot in range(64):
                served.send(slot, target=f"/{batch}/{slot}")
            for _ in range(100):
                await served.turn(1)
                answered += [frame["data"] for frame in served.frames() if frame["kind"] == "head"]
                if not served.asgi.busy:
                    break
        expected = [f"/{batch}/{slot}".encode() for batch in range(50) for slot in range(64)]
        assert sorted(answered) == sorted(expected)
        assert served.channel.busy == 0

    asyncio.run(scenario())
