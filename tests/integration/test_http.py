"""HTTP/1: pipelining, framing that could be read in two ways, limits, forwarded headers."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from .client import Client
from .conftest import Serve
from .server import Server

MARK = b"GET /mark?smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Server:
    """One server for all tests here: each leaves it as it was."""
    return serve_module("-w", "2", "--access-logfile", "access.log")


def get(target: str, *fields: str) -> bytes:
    """A GET request with these fields beside Host."""
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


# Pipelining and persistence


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    # The first is the slowest, and two workers could overtake each other.
    targets = ["/sleep?0.3", "/raise", "/echo", "/stream?3,0.05", "/", "/status?404%20Not%20Found"]
    with server.connect() as client:
        client.send(b"".join(get(target) for target in targets))
        responses = [client.response() for _ in targets]
    assert [response.status for response in responses] == [200, 500, 200, 200, 200, 404]
    assert [response.body for response in responses[:1] + responses[3:5]] == [
        b"slept", b"piece 0\npiece 1\npiece 2\n", b"hello",
    ]  # fmt: skip


def test_many_pipelined_requests_with_bodies_are_answered_in_order(server: Server) -> None:
    with server.connect() as client:
        sent = b""
        for index in range(300):
            body = b"%d" % index
            if index % 2:
                sent += b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
                    len(body), body,
                )  # fmt: skip
            else:
                sent += (
                    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
                )
        client.send(sent)
        assert [client.response().text for _ in range(300)] == [str(n) for n in range(300)]


def test_a_request_in_single_bytes_is_understood(server: Server) -> None:
    with server.connect() as client:
        for byte in b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":
            client.send(bytes([byte]))
        assert client.response().text == "abc"


def test_connection_close_is_honoured_and_nothing_behind_it_is_served(server: Server) -> None:
    with server.connect() as client:
        client.send(get("/", "Connection: close") + MARK)
        response = client.response()
        assert not response.keeps
        assert client.is_closed()
    assert not (server.directory / "smuggled").exists()


def test_http_1_0_closes_unless_asked_to_stay(server: Server) -> None:
    assert server.exchange(b"GET / HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nhello")
    with server.connect() as client:
        for _ in range(2):
            client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            response = client.response()
            assert response.text == "hello"
            assert response["Connection"].lower() == "keep-alive"


def test_a_minor_version_that_is_not_known_is_the_highest_that_is(server: Server) -> None:
    # RFC 9110 2.5.
    with server.connect() as client:
        client.send(b"GET /environ HTTP/1.2\r\nHost: x\r\n\r\n")
        assert client.response().json["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_head_has_the_fields_of_get_and_no_body(server: Server) -> None:
    with server.connect() as client:
        client.request("/", "HEAD")
        head = client.response("HEAD")
        assert head["Content-Length"] == "5"
        assert client.get("/").text == "hello"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_a_body_have_none(server: Server, status: str) -> None:
    with server.connect() as client:
        # The application gives a body all the same.
        response = client.get(f"/status?{status.replace(' ', '%20')}")
        assert (response.status, response.body) == (int(status[:3]), b"")
        assert client.get("/").text == "hello"


def test_special_targets(server: Server) -> None:
    with server.connect() as client:
        client.send(b"GET http://other.example/environ?a=b HTTP/1.1\r\nHost: x\r\n\r\n")
        environ = client.response().json
        assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/environ", "a=b")
        # RFC 9112 3.2.2: the target's authority counts.
        assert environ["HTTP_HOST"] == "other.example"
        client.request("*", "OPTIONS")
        assert client.response().status == 200
    with server.connect() as client:
        client.send(b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n")
        response = client.response()
        assert response.status in (400, 405, 501)
        assert not response.keeps


def test_trailers_are_no_headers(server: Server) -> None:
    with server.connect() as client:
        client.send(
            b"POST /environ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n"
            b"\r\n1\r\na\r\n0\r\nX-Late: yes\r\nX-User: root\r\n\r\n"
        )
        environ = client.response().json
        assert not {"HTTP_X_LATE", "HTTP_X_USER"} & set(environ)
        assert client.get().text == "hello"


# Whatever could be framed in two ways: each is one request, with a second one behind it.

SMUGGLING = {
    "length and chunked": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "chunked and length": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n",
    "two lengths alike": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "a list of lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 40\r\n\r\n",
    "a signed length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "an underscore in a length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0_0\r\n\r\n",
    "a hexadecimal length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x0\r\n\r\n",
    "an empty length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n",
    "digits of another script": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \xd9\xa0\r\n\r\n",
    "an endless length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two codings": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
    "xchunked": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "chunked with a parameter": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "a vertical tab before chunked": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked by HTTP/1.0": b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "white space before a colon": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 0\r\n\r\n",
    "a tab before a colon": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n Content-Length: 5\r\n\r\n",
    "a folded first line": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "a bare LF after a field": b"GET / HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n",
    "bare LFs": b"GET / HTTP/1.1\nHost: x\n\n",
    "a bare CR in a field": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\rContent-Length: 5\r\n\r\n",
    "a bare CR in the request line": b"GET /\rx HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nHost: x\r\nX\0A: b\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an empty name": b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
    "a line without a colon": b"GET / HTTP/1.1\r\nHost: x\r\nX-A\r\n\r\n",
    "a name that is no token": b"GET / HTTP/1.1\r\nHost: x\r\nX(A): b\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "two Hosts alike": b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "a Host with a path": b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
    "a Host with a user": b"GET / HTTP/1.1\r\nHost: user@x\r\n\r\n",
    "a list of Hosts": b"GET / HTTP/1.1\r\nHost: x, y\r\n\r\n",
    "a Host with a wrong port": b"GET / HTTP/1.1\r\nHost: x:8o\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "http/1.1": b"GET / http/1.1\r\nHost: x\r\n\r\n",
    "HTTP/1.10": b"GET / HTTP/1.10\r\nHost: x\r\n\r\n",
    "two blanks": b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab in the request line": b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a blank in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method that is no token": b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a blank before the request line": b" GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a chunk size with a sign": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n+0\r\n\r\n",
    "a chunk size with 0x": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "a chunk size with a blank": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n 0\r\n\r\n",
    "an empty chunk size": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n",
    "an endless chunk size": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
    "a chunk size that ends with LF": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\n\n",
    "a bare LF in a chunk extension": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0;a\nb\r\n\r\n",
    "NUL in a chunk extension": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0;a=\0\r\n\r\n",
    "an endless chunk extension": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0;" + b"a" * 100_000,
    "no CRLF after a chunk": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naX0\r\n\r\n",
    "a bad trailer": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX A: b\r\n\r\n",
    "too many trailers": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 5000,
    "an Expect that is unknown": b"POST / HTTP/1.1\r\nHost: x\r\nExpect: more\r\nContent-Length: 0\r\n\r\n",
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
}  # fmt: skip


@pytest.mark.parametrize("attempt", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_what_could_be_framed_in_two_ways_is_refused_and_nothing_behind_it_served(
    server: Server, attempt: bytes
) -> None:
    smuggled = server.directory / "smuggled"
    smuggled.unlink(missing_ok=True)
    with server.connect() as client:
        # It may answer and close before it has everything: that will show.
        with contextlib.suppress(ConnectionError):
            client.send(attempt + MARK * 3)
        response = client.response()
        assert 400 <= response.status < 600, response
        assert not response.keeps
        assert response["Connection"].lower() == "close"
        # Not a byte more, whatever is sent.
        assert client.is_closed()
    assert not smuggled.exists()
    assert server.get().text == "hello"


LIMITS = {
    "the request line": (get("/" + "a" * 5000), 414),
    "a field": (get("/", "X-A: " + "a" * 9000), 431),
    "the number of fields": (get("/", *[f"X-{n}: a" for n in range(101)]), 431),
    "the head": (get("/", *[f"X-{n}: {'a' * 8000}" for n in range(10)]), 431),
    "a head without end": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50_000, 431),
    "a method without end": (b"A" * 200_000, 501),
    "a target without end": (b"GET /" + b"a" * 200_000, 414),
}


@pytest.mark.parametrize(("request_", "status"), LIMITS.values(), ids=LIMITS.keys())
def test_limits_of_the_head(server: Server, request_: bytes, status: int) -> None:
    smuggled = server.directory / "smuggled"
    smuggled.unlink(missing_ok=True)
    with server.connect() as client:
        with contextlib.suppress(ConnectionError):
            client.send(request_ + MARK)
        response = client.response()
        assert response.status == status
        assert client.is_closed()
    assert not smuggled.exists()


# Who the client is


def test_a_trusted_proxy_tells_the_scheme_and_the_script_name(server: Server) -> None:
    # 127.0.0.1 is trusted by default.
    environ = server.get(
        "/environ", X_Forwarded_Proto="https", X_Forwarded_For="10.1.2.3", Script_Name="/app"
    ).json
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["HTTP_X_FORWARDED_FOR"] == "10.1.2.3"
    with server.connect() as client:
        client.send(get("/app/environ", "SCRIPT_NAME: /app"))
        environ = client.response().json
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/environ")


def test_schemes_that_contradict_each_other_are_refused(server: Server) -> None:
    with server.connect() as client:
        client.send(get("/", "X-Forwarded-Proto: https", "X-Forwarded-Ssl: off") + MARK)
        response = client.response()
        assert (response.status, response.keeps) == (400, False)
        assert client.is_closed()


def test_whom_nobody_trusts_is_not_believed(serve: Serve) -> None:
    server = serve("-w", "1", "--forwarded-allow-ips", "192.0.2.0/24")
    with server.connect() as client:
        client.send(get("/environ", "X-Forwarded-Proto: https", "SCRIPT_NAME: /app"))
        environ = client.response().json
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["SCRIPT_NAME"] == ""
    assert "HTTP_SCRIPT_NAME" not in environ


def test_the_peer_of_a_unix_socket_is_trusted(serve: Serve, tmp_path: Path) -> None:
    server = serve(
        "-w", "1", "--forwarded-allow-ips", "192.0.2.1", bind=[f"unix:{tmp_path}/a.sock"]
    )
    assert server.get("/environ", X_Forwarded_Proto="https").json["wsgi.url_scheme"] == "https"


def test_underscores_cannot_pass_for_hyphens(server: Server, serve: Serve) -> None:
    with server.connect() as client:
        client.send(get("/environ", "X_Real_IP: evil", "X-Real-IP: good"))
        assert client.response().json["HTTP_X_REAL_IP"] == "good"
    refusing = serve("-w", "1", "--header-map", "refuse")
    with refusing.connect() as client:
        client.send(get("/environ", "X_Real_IP: evil"))
        assert client.response().status == 400
    dangerous = serve("-w", "1", "--header-map", "dangerous")
    with dangerous.connect() as client:
        client.send(get("/environ", "X_Real_IP: evil"))
        assert client.response().json["HTTP_X_REAL_IP"] == "evil"


def test_a_proxy_header_becomes_no_http_proxy(server: Server) -> None:
    assert "HTTP_PROXY" not in server.get("/environ", Proxy="http://evil.example").json


def test_the_environ_is_complete(server: Server) -> None:
    with Client(server.address) as client:
        client.send(
            b"POST /environ/%C3%A9%2Fx?q=%C3%A9 HTTP/1.1\r\nHost: shop.example:81\r\n"
            b"Content-Type: text/x\r\nContent-Length: 2\r\nCookie: a=1\r\nCookie: b=2\r\n"
            b"Accept: x\r\nAccept: y\r\nX-Latin: \xe9\r\n\r\nab"
        )
        assert client.response().text == "hello"
        client.send(
            b"POST /environ?q=%C3%A9 HTTP/1.1\r\nHost: shop.example:81\r\n"
            b"Content-Type: text/x\r\nContent-Length: 2\r\nCookie: a=1\r\nCookie: b=2\r\n"
            b"Accept: x\r\nAccept: y\r\nX-Latin: \xe9\r\n\r\nab"
        )
        environ = client.response().json
        port = str(client.socket.getsockname()[1])
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/environ",
        "QUERY_STRING": "q=%C3%A9",
        "RAW_URI": "/environ?q=%C3%A9",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server.port),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": port,
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "2",
        "HTTP_HOST": "shop.example:81",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTP_ACCEPT": "x,y",
        "HTTP_X_LATIN": "\xe9",
        "wsgi.url_scheme": "http",
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.version": [1, 0],
    }
    assert {key: environ.get(key) for key in expected} == expected
    assert environ["SERVER_SOFTWARE"].startswith("remuda/")
