"""The environ and wsgi.input."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channels import Link, is_complete
from remuda import _native

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]
PLAIN = [("Content-Type", "text/plain")]


def environ_of(link_options: dict[str, Any] | None = None, **request: Any) -> Environ:
    """The environ that a request becomes."""
    seen: list[Environ] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        seen.append(environ)
        start_response("204 No Content", [])
        return []

    Link(application, **(link_options or {})).serve(**request)
    return seen[0]


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
