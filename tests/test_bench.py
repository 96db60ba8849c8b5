"""The benchmarks' own instruments: what they read, count and compute."""

from __future__ import annotations

import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import load, procfs, report  # noqa: E402
from bench.process import BenchError, get, serving  # noqa: E402
from bench.schedule import Due, ideal, schedule  # noqa: E402
from bench.servers import Launch, Server  # noqa: E402

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="the benchmarks read Linux's /proc"
)

WRK = """Running 1s test @ http://127.0.0.1:47887/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   512.44us  133.36us   4.53ms   90.61%
    Req/Sec   125.66k     3.58k  130.31k    63.64%
  Latency Distribution
     50%  450.00us
     75%  512.00us
     90%    1.61ms
     99%    2.02s
  138229 requests in 1.10s, 23.33MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec: 125663.11
Transfer/sec:     21.21MB
"""
AB = """
Concurrency Level:      500
Time taken for tests:   2.500 seconds
Complete requests:      2000
Failed requests:        30
   (Connect: 1, Receive: 2, Length: 20, Exceptions: 7)
Non-2xx responses:      20
Total transferred:      442129 bytes
Requests per second:    800.00 [#/sec] (mean)

Percentage of the requests served within a certain time (ms)
  50%    100
  66%    200
  99%   2050
 100%   2055 (longest request)
"""
ANSWER = b"HTTP/1.1 %s\r\nContent-Length: 2\r\n\r\nok"


def test_what_wrk_prints_is_read_with_its_units_and_errors() -> None:
    result = load.read_wrk(WRK)
    assert (result.requests, result.seconds, result.failed) == (138229, 1.1, 15)
    assert (result.p50, result.p99) == (0.45, 2020.0)


def test_what_wrk_does_not_print_is_an_error() -> None:
    with pytest.raises(BenchError, match="no number of requests"):
        load.read_wrk("unable to connect")


def test_an_error_page_that_ab_counts_by_length_and_by_status_counts_once() -> None:
    result = load.read_ab(AB)
    assert (result.requests, result.failed, result.p50, result.p99) == (2000, 30, 100, 2050)
    assert result.rate == 800


def test_a_percentile_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [report.percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]


def test_a_schedule_is_the_same_for_the_same_seed() -> None:
    first, second, other = (schedule(seed, 30, 60, "/slow", 0.05) for seed in (1, 1, 2))
    assert first == second != other
    assert 1500 < len(first) < 2100
    assert 0.02 < sum(due.path == "/slow" for due in first) / len(first) < 0.09


def test_a_fast_request_waits_for_the_first_slot_that_ends() -> None:
    due = [Due(0.0, "/slow"), Due(0.25, "/slow"), Due(0.375, "/"), Due(2.0, "/")]
    assert ideal(due, 2, "/slow", 0.5, 0.0) == [125.0, 0.0]


def test_what_fast_requests_compute_holds_their_slot() -> None:
    due = [Due(0.0, "/"), Due(0.0, "/"), Due(0.0, "/slow"), Due(1.0, "/")]
    assert ideal(due, 1, "/slow", 0.5, 0.0, 0.25) == [250.0, 500.0, 250.0]


@contextmanager
def answering(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that gives each connection to `behave` in a thread; gives its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            behave(self.request)

    class Threads(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Threads(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def generate(mode: str, port: int, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.generator", mode, "--port", str(port), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def keep(link: socket.socket) -> None:
    while link.recv(65536):
        link.sendall(ANSWER % b"200 OK")


def test_the_generator_keeps_its_connections() -> None:
    with answering(keep) as port:
        said = generate("closed", port, "--seconds=1.5", "--warm=0", "--connections=4")
    assert len(said["latencies"]["/"]) > 10
    assert len(said["latencies"]["/slow"]) > 0
    assert (said["failed"], said["reconnects"]) == (0, 0)
    assert sum(said["windows"]) == sum(map(len, said["latencies"].values()))


def test_a_generator_that_spins_sends_the_same_requests() -> None:
    with answering(keep) as port:
        options = ["--seconds=0.5", "--warm=0", "--connections=4", "--share=0", "--spin"]
        said = generate("open", port, *options)
    assert len(said["latencies"]["/"]) == len(schedule(1, 0.5, 60, "/slow", 0))
    assert said["failed"] == 0


def test_a_port_where_nobody_listens_is_a_failure_each_time() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        said = generate("open", port, "--seconds=0.3", "--warm=0", "--connections=2")
    total = len(schedule(1, 0.3, 60, "/slow", 0.05))
    assert said["reasons"] == {"connect: Connection refused": total}


def test_the_generator_connects_again_to_a_server_that_closes() -> None:
    def close(link: socket.socket) -> None:
        link.recv(65536)
        link.sendall(ANSWER % b"200 OK")

    with answering(close) as port:
        said = generate("open", port, "--seconds=0.5", "--warm=0", "--connections=4")
    total = sum(len(latencies) for latencies in said["latencies"].values())
    assert total == len(schedule(1, 0.5, 60, "/slow", 0.05))
    assert said["failed"] == 0
    assert said["reconnects"] >= total - 4


def test_the_generator_counts_errors_and_cut_answers_as_failed() -> None:
    def fail(link: socket.socket) -> None:
        request = link.recv(65536)
        if b" /slow " in request:
            link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut")
        else:
            link.sendall(ANSWER % b"500 Internal Server Error")

    options = ["--seconds=0.5", "--warm=0", "--connections=4", "--share=0.5"]
    with answering(fail) as port:
        said = generate("open", port, *options)
    due = schedule(1, 0.5, 60, "/slow", 0.5)
    slow = sum(request.path == "/slow" for request in due)
    assert said["latencies"] == {}
    assert said["reasons"] == {"status 500": len(due) - slow, "the connection was lost": slow}


def test_a_server_that_stalls_is_not_spared_the_requests_of_the_meantime() -> None:
    turn = threading.Lock()
    stalled = threading.Event()

    def stall(link: socket.socket) -> None:
        while link.recv(65536):
            with turn:
                if not stalled.is_set():
                    stalled.set()
                    time.sleep(0.5)
                link.sendall(ANSWER % b"200 OK")

    with answering(stall) as port:
        said = generate("open", port, "--seconds=1", "--warm=0", "--connections=8", "--share=0")
    due = schedule(1, 1, 60, "/slow", 0)
    late = sum(request.at - due[0].at < 0.25 for request in due)
    assert sum(latency > 240 for latency in said["latencies"]["/"]) >= late > 5


def test_a_server_and_its_children_are_gone_afterwards() -> None:
    script = (
        "import subprocess, sys; from http.server import *;"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "HTTPServer(('127.0.0.1', int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()"
    )

    def command(at: Launch) -> list[str]:
        return [sys.executable, "-c", script, str(at.port)]

    with serving(Server("parent", "wsgi", command), "", patience=0.2) as running:
        pid = running.pid
        assert get(running.port)[0] == 200
        assert len(running.pids()) == 2
        assert procfs.memory(pid).pss > 1024
    assert procfs.members(pid) == []


def test_a_server_that_ends_at_once_is_named_with_its_log() -> None:
    def command(at: Launch) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no such thing')"]

    server = Server("broken", "wsgi", command)
    why = r"(?s)broken did not .*exit code 1.*no such thing"
    with pytest.raises(BenchError, match=why), serving(server, ""):
        pass
