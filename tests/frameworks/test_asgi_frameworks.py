"""Real applications of each ASGI framework under asgi, and one of Tornado's under tornado."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from arbiter_driver import eventually
from green_driver import Server

FRAMEWORKS = [
    ("starlette", "asyncio"),
    ("starlette", "uvloop"),
    ("fastapi", "uvloop"),
    ("litestar", "uvloop"),
    ("quart", "uvloop"),
    ("blacksheep", "uvloop"),
    ("django", "uvloop"),
    ("falcon", "uvloop"),
    ("tornado", None),
]


@pytest.fixture(scope="module", params=FRAMEWORKS, ids=lambda param: f"{param[0]}-{param[1]}")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    framework, loop = request.param
    pytest.importorskip(framework)
    arguments = ["-k", "tornado"] if loop is None else ["-k", "asgi", "--asgi-loop", loop]
    server = Server(
        tmp_path_factory.mktemp("server"),
        (Path(__file__).parent / "asgi_apps.py").read_text(),
        *arguments,
        app=f"{framework}_app()",
    )
    yield server
    server.stop()


def sums(data: bytes) -> dict[str, object]:
    return {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_a_query_is_read(server: Server) -> None:
    answer = server.get("/hello?name=W%C3%B6rld")
    assert (answer.status, answer.text) == (200, "Hello Wörld")


def test_a_form_is_read(server: Server) -> None:
    form = urlencode({"a": "1 & 2", "b": "zwölf"}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert server.request("POST", "/form", form, headers).text == "1 & 2 zwölf"


def test_a_chunked_form_is_read(server: Server) -> None:
    form = urlencode({"a": "in", "b": "pieces"}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    pieces = (form[at : at + 5] for at in range(0, len(form), 5))
    assert server.request("POST", "/form", pieces, headers).text == "in pieces"


def test_a_file_of_fifty_megabytes_is_uploaded(server: Server) -> None:
    data = os.urandom(1 << 20) * 50
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = server.request("POST", "/upload", body, headers)
    assert json.loads(answer.body) == sums(data)


@pytest.mark.parametrize("size", [0, 1, 100_000, 5_000_000])
def test_a_body_is_read_in_pieces(server: Server, size: int) -> None:
    data = os.urandom(size)
    headers = {"Content-Type": "application/octet-stream"}
    answer = server.request("POST", "/body", data, headers)
    assert json.loads(answer.body) == sums(data)


def test_a_response_is_streamed(server: Server) -> None:
    answer = server.get("/stream")
    assert answer.text == "piece 0\npiece 1\npiece 2\n"
    assert answer.headers.get("Transfer-Encoding") == "chunked"


def test_events_are_sent(server: Server) -> None:
    answer = server.get("/events")
    assert answer.headers["content-type" if "content-type" in answer.headers else "Content-Type"]
    assert answer.text.split() == ["data:", "0", "data:", "1", "data:", "2"]


def test_a_redirect_names_its_place(server: Server) -> None:
    answer = server.get("/away")
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert answer.status in (302, 307)
    assert headers["location"].endswith("/hello")


def test_cookies_go_both_ways(server: Server) -> None:
    answer = server.get("/cookies")
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert (answer.text, headers["set-cookie"].split(";")[0]) == ("none", "seen=yes")
    assert server.request("GET", "/cookies", None, {"Cookie": "seen=yes"}).text == "yes"


def test_a_background_task_runs_after_the_response(server: Server) -> None:
    note = server.directory / "background"
    note.unlink(missing_ok=True)
    assert "later" in server.get("/background").text
    assert not note.exists()
    eventually("the background task has run", note.exists)


def test_an_error_is_answered_500_and_the_next_request_is_served(server: Server) -> None:
    assert server.get("/raise").status == 500
    assert server.get("/hello?name=x").status == 200


def test_nothing_was_logged_that_is_no_error_of_the_application(server: Server) -> None:
    log = server.log()
    for wrong in ("was sent", "after the response", "never awaited", "was never retrieved"):
        assert wrong not in log, log
