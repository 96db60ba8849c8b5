"""Real applications of each WSGI framework under each class that runs them."""

from __future__ import annotations

import hashlib
import http.client
import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from green_driver import Server
from remuda.workers import REGISTRY

FRAMEWORKS = ["flask", "django", "bottle", "falcon", "pyramid"]
CLASSES = [
    name for name in ("sync", "gthread", "gevent", "eventlet", "tornado") if name in REGISTRY
]
ARGUMENTS = {"gthread": ["--threads", "4"]}


@pytest.fixture(scope="module", params=CLASSES)
def worker_class(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=FRAMEWORKS)
def server(
    request: pytest.FixtureRequest, worker_class: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    pytest.importorskip(request.param)
    if worker_class in ("gevent", "eventlet", "tornado"):
        pytest.importorskip(worker_class)
    server = Server(
        tmp_path_factory.mktemp("server"),
        (Path(__file__).parent / "wsgi_apps.py").read_text(),
        *("-k", worker_class, *ARGUMENTS.get(worker_class, [])),
        app=f"{request.param}_app()",
    )
    yield server
    server.stop()


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


def test_an_upload_of_50_mb_arrives_whole(server: Server) -> None:
    content = random.Random(1).randbytes(1 << 20) * 50
    boundary = "----a-boundary-that-is-not-inside"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = server.request("POST", "/upload", body, headers)
    assert answer.text == f"{len(content)} {hashlib.sha256(content).hexdigest()}"


def test_a_streamed_response_is_whole(server: Server) -> None:
    assert server.get("/stream").text == "0\n1\n2\n3\n4\n"


def test_an_event_arrives_before_the_next_one_is_made(server: Server) -> None:
    seen = server.directory / "seen"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("GET", "/sse")
        response = connection.getresponse()
        assert (response.getheader("Content-Type") or "").startswith("text/event-stream")
        assert response.read(len("data: first\n\n")) == b"data: first\n\n"
        seen.touch()
        assert response.read() == b"data: second\n\n"
    finally:
        connection.close()
        seen.touch()  # lets a worker go on whatever went wrong here


def test_a_redirect_leads_on(server: Server) -> None:
    answer = server.get("/redirect")
    assert answer.status == 302
    assert answer.headers["Location"].endswith("/hello?name=again")


def test_cookies_are_set_one_by_one_and_come_back(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("GET", "/cookies", headers={"Cookie": "zero=0; one=back"})
        response = connection.getresponse()
        assert response.read() == b"back"
        cookies = [value for name, value in response.getheaders() if name.lower() == "set-cookie"]
        assert sorted(cookie.partition(";")[0] for cookie in cookies) == ["one=1", "two=2"]
    finally:
        connection.close()


def test_an_error_is_answered_with_500_and_the_worker_lives(server: Server) -> None:
    assert server.get("/error").status == 500
    assert server.get("/hello?name=x").text == "Hello x"
    assert len(server.workers()) == 1


def test_a_page_that_is_not_there_is_404(server: Server) -> None:
    assert server.get("/nowhere").status == 404
