"""Large bodies: the memory of each process while 1 GiB streams out, or comes in."""

from __future__ import annotations

import argparse
import socket
import time
from dataclasses import dataclass
from statistics import median

from bench import procfs, report
from bench.process import BenchError, Running, get, serving
from bench.rounds import interleaved
from bench.servers import Server

NAME = "stream"
ROUNDS = 1
ROWS = [
    "gunicorn-sync",
    "gunicorn-asgi",
    "granian-wsgi",
    "granian-asgi",
    "uvicorn",
    "remuda-sync",
    "remuda-gthread",
    "remuda-gevent",
    "remuda-eventlet",
    "remuda-tornado",
    "remuda-asgi",
]
APPS = {"wsgi": "stream:app", "asgi": "stream_asgi:app"}
SIZE = 2**30
AT_MOST_MIB = 64.0
STALL_AFTER = 2**20
STALL_SECONDS = 1.0
TIMEOUT_SECONDS = 120.0
WARM_SIZE = 4 * 2**20


@dataclass(frozen=True)
class Way:
    """One direction: seconds, and by process title the KiB that its peak was above idle."""

    seconds: float
    above: dict[str, int]

    @property
    def most(self) -> float:
        """MiB of the process that grew the most."""
        return max(self.above.values()) / 1024


@dataclass(frozen=True)
class Round:
    down: Way
    up: Way

    def __str__(self) -> str:
        return f"down +{self.down.most:.0f} MiB, up +{self.up.most:.0f} MiB"


def receive_all(link: socket.socket, stall: bool) -> tuple[bytes, int]:
    """Read an answer to its end: the head, and how many bytes of a body came.

    With `stall` the client stops reading for a while, as a slow one does: a server that does not
    hold its application back would fill its memory meanwhile.
    """
    buffer = bytearray(256 * 1024)
    head = b""
    while b"\r\n\r\n" not in head:
        count = link.recv_into(buffer)
        if count == 0:
            raise BenchError(f"the connection ended in the head of an answer: {head[:200]!r}")
        head += bytes(buffer[:count])
    head, _, rest = head.partition(b"\r\n\r\n")
    body = len(rest)
    while count := link.recv_into(buffer):
        body += count
        if stall and body >= STALL_AFTER:
            time.sleep(STALL_SECONDS)
            stall = False
    return head, body


def download(port: int, size: int, *, stall: bool) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as link:
        link.sendall(f"GET /?{size} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        head, body = receive_all(link, stall)
    if not head.startswith(b"HTTP/1.1 200") or body != size:
        raise BenchError(f"{body} of {size} bytes came, after {head[:100]!r}")


def upload(port: int, size: int) -> None:
    chunk = bytes(256 * 1024)
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as link:
        head = (
            f"POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
        )
        link.sendall(head.encode())
        for _ in range(size // len(chunk)):
            link.sendall(chunk)
        answer = b""
        while part := link.recv(65536):
            answer += part
    if not answer.startswith(b"HTTP/1.1 200") or f"{size}\n".encode() not in answer:
        raise BenchError(f"the upload of {size} bytes was answered {answer[:200]!r}")


def idle(running: Running) -> dict[int, int]:
    """Resident KiB of each process now; their peaks begin again here."""
    pids = running.pids()
    for pid in pids:
        procfs.reset_peak(pid)
    return {pid: procfs.resident(pid) for pid in pids}


def above(before: dict[int, int]) -> dict[str, int]:
    return {
        f"{procfs.title(pid)} ({pid})": max(0, procfs.peak(pid) - resident)
        for pid, resident in before.items()
    }


def measure(server: Server) -> Round:
    """Both directions once in small, so that first-time costs do not count; then in full."""
    with serving(server, APPS[server.interface], threads=2, ready="/?1") as running:
        download(running.port, WARM_SIZE, stall=False)
        upload(running.port, WARM_SIZE)
        ways = []
        for direction in ("down", "up"):
            status, _, _ = get(running.port, "/?1")
            if status != 200:
                raise BenchError(f"{server.name} answered {status}")
            before = idle(running)
            began = time.monotonic()
            if direction == "down":
                download(running.port, SIZE, stall=True)
            else:
                upload(running.port, SIZE)
            ways.append(Way(time.monotonic() - began, above(before)))
    return Round(*ways)


def run(servers: list[Server], options: argparse.Namespace) -> None:
    count = options.rounds or ROUNDS
    rounds = interleaved(NAME, count, servers, lambda server, _: measure(server))
    report.heading(
        "Large bodies",
        f"A response of 1 GiB, streamed by the application in pieces of 64 KiB to a client that "
        f"stops reading for {STALL_SECONDS:g} s, and an upload of 1 GiB that the application reads "
        "in pieces of 64 KiB; one worker. MiB by which the peak (VmHWM) of a process went above "
        f"its resident memory before: the one that grew the most; {count} rounds; median "
        "(least..most). Seconds include the stall.",
    )
    columns = ["server", "response MiB", "seconds", "upload MiB", "seconds"]
    if any(name.startswith("remuda") for name in rounds):
        columns.append(f"at most {AT_MOST_MIB:g}")
    report.table(columns, [row(name, turns, len(columns)) for name, turns in rounds.items()])


def row(name: str, turns: list[Round], width: int) -> list[str]:
    down, up = [turn.down.most for turn in turns], [turn.up.most for turn in turns]
    reached = max(median(down), median(up)) <= AT_MOST_MIB
    cells = [
        name,
        report.spread(down, 1),
        f"{median(turn.down.seconds for turn in turns):.1f}",
        report.spread(up, 1),
        f"{median(turn.up.seconds for turn in turns):.1f}",
        report.verdict(reached) if name.startswith("remuda") else "",
    ]
    return cells[:width]
