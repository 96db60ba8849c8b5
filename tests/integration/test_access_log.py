"""The access log: a line a request, whatever became of it, in gunicorn's formats or JSON."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from .conftest import Serve, WorkerClass

LOG = ("--access-logfile", "access.log")


def test_the_default_format_is_gunicorns(serve: Serve, worker_class: WorkerClass) -> None:
    server = serve("-w", "1", *LOG, worker_class=worker_class, ready=False)
    server.get("/status?404%20Not%20Found", User_Agent="curl/8", Referer="http://a/")
    (line,) = server.access_lines(1)
    assert re.fullmatch(
        r"127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
        r'"GET /status\?404%20Not%20Found HTTP/1\.1" 404 11 "http://a/" "curl/8"',
        line,
    ), line


def test_each_request_is_one_line_whatever_becomes_of_it(
    serve: Serve, worker_class: WorkerClass
) -> None:
    server = serve(
        "-w", "2", *LOG, "--access-logformat", "%(s)s %(m)s %(U)s", "--timeout", "1.5",
        "--header-timeout", "1", worker_class=worker_class, ready=False,
    )  # fmt: skip
    assert server.get("/").status == 200
    assert server.get("/status?404%20Not%20Found").status == 404
    assert server.get("/raise").status == 500
    assert server.get("/exit?1").status == 502
    assert server.get("/sleep?30").status == 504
    assert server.exchange(b"GET /half HTTP/1.1\r\n").startswith(b"HTTP/1.1 408")
    assert server.exchange(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert server.exchange(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n").startswith(b"HTTP/1.1 414")
    with server.connect() as client:
        client.request("/stream?3,0")
        assert client.response().status == 200
    lines = server.access_lines(9)
    assert lines[:5] == [
        "200 GET /", "404 GET /status", "500 GET /raise", "502 GET /exit", "504 GET /sleep",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[5:8]] == ["408", "400", "414"]
    assert lines[8] == "200 GET /stream"


def test_503_of_a_full_queue_is_logged_too(serve: Serve) -> None:
    server = serve(
        "-w", "1", *LOG, "--access-logformat", "%(s)s %(U)s", "--queue-timeout", "0.5", ready=False
    )
    slow = server.connect()
    slow.request("/begin?2")
    server.eventually("it has begun", (server.directory / "begun").exists)
    assert server.get("/waits").status == 503
    assert slow.response().status == 200
    assert server.access_lines(2) == ["503 /waits", "200 /begin"]


def test_every_atom(serve: Serve) -> None:
    atoms = "h l u m U q H s B b f a".split()
    times = "T M D L".split()
    form = "|".join(f"%({atom})s" for atom in [*atoms, *times, "p", "w", "Q"])
    form += "|%({x-one}i)s|%({Location}o)s|%({missing}i)s|%({wsgi.version}e)s|%(t)s|%%"
    server = serve("-w", "1", *LOG, "--access-logformat", form, ready=False)
    server.get(
        "/redirect?a=b", Authorization="Basic dXNlcjpwYXNz", Referer="r", User_Agent="agent",
        X_One="1",
    )  # fmt: skip
    server.get("/sleep?0.25")
    redirect, slept = (line.split("|") for line in server.access_lines(2))
    assert redirect[:12] == [
        "127.0.0.1", "-", "user", "GET", "/redirect", "a=b", "HTTP/1.1", "302", "0", "0", "r",
        "agent",
    ]  # fmt: skip
    (pid,) = server.workers
    assert redirect[16:18] == [f"<{pid}>", str(pid)]
    assert redirect[18].isdigit()
    assert redirect[19:23] == ["1", "/elsewhere", "-", "-"]
    assert re.fullmatch(r"\[.*\]", redirect[23])
    assert redirect[24] in ("%", "%%")
    seconds, millis, micros, decimal = slept[12:16]
    assert seconds == "0"
    assert 250 <= int(millis) < 5000
    assert 250_000 <= int(micros) < 5_000_000
    assert 0.25 <= float(decimal) < 5
    assert slept[8:10] == ["5", "5"]


def test_what_a_client_sends_forges_no_line(serve: Serve) -> None:
    server = serve("-w", "1", *LOG, ready=False)
    with server.connect() as client:
        client.send(
            b'GET /%0d%0aforged?"x HTTP/1.1\r\nHost: x\r\nUser-Agent: a"b\\c\td\xe9\r\n'
            b"Referer: \x1b[31m\r\nConnection: close\r\n\r\n"
        )
        client.rest()
    with server.connect() as client:
        client.send(b'GET /plain HTTP/1.1\r\nHost: x\r\nUser-Agent: "quoted" \\ \tend\r\n'
                    b"Connection: close\r\n\r\n")  # fmt: skip
        assert client.response().status == 200
    lines = server.access_lines(2)
    for line in lines:
        assert all(character.isprintable() for character in line)
    # Quotes are escaped: no field can end before its end.
    assert lines[1].endswith(r'"\"quoted\" \\ \x09end"')


def test_json_is_one_object_a_line(serve: Serve, worker_class: WorkerClass) -> None:
    server = serve("-w", "1", *LOG, "--access-logformat", "json", worker_class=worker_class,
                   ready=False)  # fmt: skip
    server.get('/?a="b"', User_Agent='x "y" \\ \xe9')
    server.get("/raise")
    server.exchange(b"GARBAGE\x00\x01\r\n\r\n")
    lines = server.access_lines(3)
    first, second, third = (json.loads(line) for line in lines)
    (pid,) = server.workers
    assert first["status"] == 200
    assert first["method"] == "GET"
    assert str(pid) in json.dumps(first)
    assert 'x "y" \\ ' in json.dumps(first, ensure_ascii=False).replace('\\"', '"').replace(
        "\\\\", "\\"
    )
    assert second["status"] == 500
    assert third["status"] == 400
    assert first.keys() >= {"status", "method"}


def test_the_access_log_goes_to_stdout(serve: Serve) -> None:
    server = serve("-w", "1", "--access-logfile", "-", ready=False)
    assert server.get("/").status == 200
    server.eventually(
        "it is on stdout",
        lambda: (server.directory / "stdout").read_text().count('"GET / HTTP/1.1"') == 1,
    )
    assert "GET /" not in server.log


def test_without_an_access_log_there_is_none(serve: Serve) -> None:
    server = serve("-w", "1")
    assert server.get("/").status == 200
    assert (server.directory / "stdout").read_text() == ""
    assert "GET /" not in server.log


def test_usr1_reopens_what_was_rotated(serve: Serve) -> None:
    server = serve("-w", "1", *LOG, "--access-logformat", "%(U)s", ready=False)
    assert server.get("/before").status == 200
    assert server.access_lines(1) == ["/before"]
    rotated = server.directory / "access.log.1"
    server.access_log.rename(rotated)
    server.signal(signal.SIGUSR1)
    server.eventually("there is a new one", server.access_log.exists)
    assert server.get("/after").status == 200
    assert server.access_lines(1) == ["/after"]
    assert rotated.read_text() == "/before\n"


def test_a_new_router_writes_on(serve: Serve) -> None:
    server = serve("-w", "1", *LOG, "--access-logformat", "%(U)s", ready=False)
    assert server.get("/before").status == 200
    server.access_lines(1)
    router = server.router
    server.signal(signal.SIGKILL, router)
    server.wait_gone(router)
    assert server.get("/after").status == 200
    assert server.access_lines(2) == ["/before", "/after"]


def test_hup_changes_the_format(serve: Serve) -> None:
    server = serve("-w", "1", ready=False, bind=["127.0.0.1:0"], env={})
    configuration = server.directory / "remuda.conf.py"
    server.wait_ready()
    configuration.write_text("accesslog = 'access.log'\naccess_log_format = 'new %(U)s'\n")
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 1 new workers are ready")
    assert server.get("/x").status == 200
    server.eventually("a line in the new format", lambda: "new /x" in server.access_log.read_text())


def test_a_log_that_cannot_be_written_stops_nobody(serve: Serve) -> None:
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full")
    server = serve("-w", "1", "--access-logfile", "/dev/full")
    assert [server.get().status for _ in range(20)] == [200] * 20


def test_an_access_log_format_that_is_wrong_is_a_mistake_of_the_user(serve: Serve) -> None:
    server = serve("-w", "1", *LOG, "--access-logformat", "%(nonsense)s", ready=False)
    assert server.wait_exit() == 1
    assert "nonsense" in server.log
    assert "Traceback" not in server.log
