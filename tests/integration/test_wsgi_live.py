"""PEP 3333 over real sockets: the validator, and what an application may do and get away with."""

from __future__ import annotations

import pytest

from .conftest import CLASSES, Serve, WorkerClass
from .server import Server

# Every way of reading and answering, under the standard library's validator, which raises on
# whatever the server or the application do against the PEP.
VALIDATED = r"""
import io, os
from wsgiref.validate import validator
from urllib.parse import unquote

def plain(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"plain"]

def empty(environ, start_response):
    start_response("204 No Content", [])
    return []

def nothing(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return []

def pieces(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"a", b"", b"b", b"c"]

def generator(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b""
    yield b"gen"
    yield b"erated"

def write(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written, ")
    return [b"returned"]

def read_all(environ, start_response):
    return answer(start_response, environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))

def read_pieces(environ, start_response):
    body, stream = b"", environ["wsgi.input"]
    while piece := stream.read(7):
        body += piece
    return answer(start_response, body)

def read_lines(environ, start_response):
    stream, lines = environ["wsgi.input"], []
    while line := stream.readline():
        lines.append(line)
    return answer(start_response, b"|".join(lines))

def all_lines(environ, start_response):
    return answer(start_response, b"|".join(environ["wsgi.input"].readlines()))

def iterate(environ, start_response):
    return answer(start_response, b"|".join(environ["wsgi.input"]))

def unread(environ, start_response):
    return answer(start_response, b"unread")

def errors(environ, start_response):
    environ["wsgi.errors"].write("to the errors\n")
    environ["wsgi.errors"].writelines(["one\n", "two\n"])
    environ["wsgi.errors"].flush()
    return answer(start_response, b"logged")

def replaced(environ, start_response):
    import sys
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        raise ValueError("handled by the application")
    except ValueError:
        start_response("500 Replaced", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"replaced"]

def wrapped(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"wrapped" * 1000), 100)

def file(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](open("a file", "rb"))

def answer(start_response, body):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

@validator
def app(environ, start_response):
    return globals().get(environ["PATH_INFO"].strip("/"), plain)(environ, start_response)
"""

BODY = b"first line\nsecond\n\nlast without end"
LINES = b"first line\n|second\n|\n|last without end"

BATTERY = {
    "plain": b"plain",
    "empty": b"",
    "nothing": b"",
    "pieces": b"abc",
    "generator": b"generated",
    "write": b"written, returned",
    "read_all": BODY,
    "read_pieces": BODY,
    "read_lines": LINES,
    "all_lines": LINES,
    "iterate": LINES,
    "unread": b"unread",
    "errors": b"logged",
    "replaced": b"replaced",
    "wrapped": b"wrapped" * 1000,
    "file": b"the file's text\n" * 5000,
}


@pytest.fixture(scope="module", params=CLASSES.values(), ids=CLASSES.keys())
def validated(request: pytest.FixtureRequest, serve_module: Serve) -> Server:
    """A server of each class with the validated application."""
    server = serve_module("-w", "1", application=VALIDATED, worker_class=request.param)
    (server.directory / "a file").write_bytes(b"the file's text\n" * 5000)
    return server


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(("name", "body"), BATTERY.items(), ids=BATTERY.keys())
def test_the_validator_has_nothing_to_say(
    validated: Server, name: str, body: bytes, version: str
) -> None:
    with validated.connect() as client:
        client.send(
            b"POST /%b HTTP/%b\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
            b"Connection: close\r\n\r\n%b" % (name.encode(), version.encode(), len(BODY), BODY)
        )
        response = client.response()
    assert response.status == {"empty": 204, "replaced": 500}.get(name, 200), response
    assert response.body == body
    for complaint in ("AssertionError", "Traceback", "WSGIWarning"):
        assert complaint not in validated.log


@pytest.mark.parametrize("name", ["read_pieces", "read_lines", "all_lines", "iterate"])
def test_chunked_bodies_end_by_themselves(validated: Server, name: str) -> None:
    with validated.connect() as client:
        client.send(b"POST /%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                    % name.encode())  # fmt: skip
        for index in range(0, len(BODY), 5):
            piece = BODY[index : index + 5]
            client.send(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece))
        client.send(b"0\r\n\r\n")
        assert client.response().body == BATTERY[name]


def test_head_under_the_validator(validated: Server) -> None:
    with validated.connect() as client:
        client.request("/plain", "HEAD")
        response = client.response("HEAD")
        assert (response.status, response["Content-Length"]) == (200, "5")
        assert client.get("/plain").text == "plain"
    assert "AssertionError" not in validated.log


def test_what_goes_to_wsgi_errors_is_in_the_log(validated: Server) -> None:
    assert validated.get("/errors").text == "logged"
    validated.says("to the errors\none\ntwo\n")


# What applications do wrong: the text of the handler, the status, and what the log says.
WRONG = {
    "CRLF in a header": (
        "s('200 OK', [('X-A', 'a\\r\\nX-B: b')]); return [b'x']", 500, "control"),
    "NUL in a header": ("s('200 OK', [('X-A', 'a\\0')]); return [b'x']", 500, "control"),
    "an interim status": ("s('103 Early Hints', []); return []", 500, "wsgi.early_hints"),
    "a coroutine": ("async def f(): ...\n    return f()", 500, "-k asgi"),
    "a status that is none": ("s('OK', []); return [b'x']", 500, "status"),
    "CRLF in a status": ("s('200 OK\\r\\nX: y', []); return [b'x']", 500, "status"),
    "text for bytes": ("s('200 OK', []); return ['text']", 500, "bytes"),
    "bytes for a list": ("s('200 OK', []); return b'bytes'", 500, "list"),
    "None": ("s('200 OK', []); return None", 500, "None"),
    "no start_response": ("return [b'x']", 500, "start_response"),
    "start_response twice": ("s('200 OK', []); s('200 OK', []); return []", 500, "second time"),
    "a length that is none": ("s('200 OK', [('Content-Length', 'x')]); return []", 500, "ength"),
    "text beyond Latin-1": ("s('200 OK', [('X-A', '\\u0151')]); return [b'x']", 500, "atin"),
    "an int in a header": ("s('200 OK', [('X-A', 5)]); return [b'x']", 500, "str"),
}  # fmt: skip


@pytest.fixture(scope="module")
def wrong(serve_module: Serve) -> Server:
    """An application that does everything wrong, each thing under a path of its own."""
    handlers = "".join(
        f"def wrong_{index}(e, s):\n    {handler}\n"
        for index, (handler, _, _) in enumerate(WRONG.values())
    )
    application = handlers + (
        "def app(e, s):\n"
        "    if e['PATH_INFO'].startswith('/wrong_'):\n"
        "        return globals()[e['PATH_INFO'][1:]](e, s)\n"
        "    if e['PATH_INFO'] == '/long':\n"
        "        s('200 OK', [('Content-Length', '3')])\n"
        "        return [b'abcdef', b'ghi']\n"
        "    if e['PATH_INFO'] == '/short':\n"
        "        s('200 OK', [('Content-Length', '10')])\n"
        "        return [b'abc']\n"
        "    s('200 OK', [])\n"
        "    return [b'hello']\n"
    )
    return serve_module("-w", "1", application=application)


@pytest.mark.parametrize("name", WRONG)
def test_what_an_application_does_wrong_is_500_and_told_in_the_log(
    wrong: Server, name: str
) -> None:
    index = list(WRONG).index(name)
    _, status, said = WRONG[name]
    with wrong.connect() as client:
        before = len(wrong.log)
        response = client.get(f"/wrong_{index}")
        assert response.status == status, response
        assert "X-B" not in response
        wrong.eventually("the log says why", lambda: said in wrong.log[before:])
        assert f"/wrong_{index}" in wrong.log[before:]
        assert client.get("/").text == "hello"


def test_a_body_beyond_its_content_length_is_cut_and_told(wrong: Server) -> None:
    with wrong.connect() as client:
        assert client.get("/long").body == b"abc"
        # Nothing of the rest can pass for the next response.
        assert client.get("/").text == "hello"
    wrong.says("/long")


def test_a_body_short_of_its_content_length_closes_the_connection(wrong: Server) -> None:
    with wrong.connect() as client:
        client.request("/short")
        assert client.head()["Content-Length"] == "10"
        assert client.rest() == b"abc"
    wrong.says("shorter than its Content-Length")


def test_close_is_called_in_every_case(serve: Serve, worker_class: WorkerClass) -> None:
    server = serve("-w", "1", worker_class=worker_class, application=(
        "class Body:\n"
        "    def __init__(self, how):\n"
        "        self.how = how\n"
        "    def __iter__(self):\n"
        "        yield b'x'\n"
        "        if self.how == 'raise':\n"
        "            raise RuntimeError('on purpose')\n"
        "        yield b'y'\n"
        "    def close(self):\n"
        "        open(f'closed-{self.how}', 'w').close()\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return Body(environ['PATH_INFO'][1:])\n"
    ))  # fmt: skip
    assert server.get("/normal").body == b"xy"
    with server.connect() as client:
        client.request("/raise")
        assert client.head().status == 200
        client.rest()
    with server.connect() as client:
        client.request("/head", "HEAD")
        assert client.response("HEAD").status == 200
    for how in ("normal", "raise", "head"):
        server.eventually(how, (server.directory / f"closed-{how}").exists)
