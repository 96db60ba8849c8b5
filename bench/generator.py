"""A load generator over keep-alive connections that knows which request was which.

`open`: requests are due at random times of a fixed seed (a Poisson process), whatever the server
does; each goes out on the connection that has been idle the longest, and its latency counts from
the moment it was due. So a server that stalls is not spared the requests of the meantime.

`closed`: so many clients, each sends its next request when it has the answer to the last.

Prints one JSON object: latencies in milliseconds by path, the number of failures, of connections
made again because the server had closed them, the 99th percentile of how late (ms) the generator
itself was in sending what was due on an idle connection, and how many answers came in each tenth
of a second from the beginning on.
"""

from __future__ import annotations

import argparse
import errno
import gc
import json
import os
import random
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.report import percentile
from bench.schedule import schedule

DRAIN_SECONDS = 30.0
MAX_HEAD = 16 * 1024
WINDOW_SECONDS = 0.1


@dataclass(slots=True)
class Exchange:
    """One request. Times are of `time.monotonic`, in seconds."""

    path: str
    due: float
    retried: bool = False


@dataclass
class Tally:
    """What came of the requests that were due from `since` on; `windows` is of all of them."""

    begin: float
    since: float
    latencies: dict[str, list[float]] = field(default_factory=dict)
    failed: int = 0
    reconnects: int = 0
    lateness: list[float] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    windows: list[int] = field(default_factory=list)

    def fail(self, reason: str) -> None:
        self.failed += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def answer(self, exchange: Exchange) -> None:
        now = time.monotonic()
        window = int((now - self.begin) / WINDOW_SECONDS)
        while len(self.windows) <= window:
            self.windows.append(0)
        self.windows[window] += 1
        if exchange.due >= self.since:
            took = (now - exchange.due) * 1000
            self.latencies.setdefault(exchange.path, []).append(took)


class Loop:
    """Sockets that are ready, and calls that are due on the next turn.

    A plain epoll: an event loop of asyncio would cost several times what a request costs here.
    """

    def __init__(self) -> None:
        self.soon: deque[Callable[[], None]] = deque()
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}

    def watch(self, link: socket.socket, events: int, ready: Callable[[], None]) -> None:
        number = link.fileno()
        if number in self._ready:
            self._epoll.modify(number, events)
        else:
            self._epoll.register(number, events)
        self._ready[number] = ready

    def forget(self, link: socket.socket) -> None:
        del self._ready[link.fileno()]
        self._epoll.unregister(link.fileno())

    def turn(self, timeout: float) -> None:
        """Wait for at most so many seconds."""
        for number, _ in self._epoll.poll(0 if self.soon else timeout):
            # One that came before it may have closed it.
            if ready := self._ready.get(number):
                ready()
        for _ in range(len(self.soon)):
            self.soon.popleft()()


class Client:
    """Sends a request at a time, and calls `idle` with itself after each.

    Where the server has closed the connection, the next request opens another; a request that
    met the close on a used connection, with no byte of an answer, is sent once more (RFC 9110,
    section 9.2.2 lets a client retry an idempotent request).
    """

    def __init__(self, loop: Loop, port: int, tally: Tally, idle: Callable[[Client], None]) -> None:
        self.loop = loop
        self.port = port
        self.tally = tally
        self.idle = idle
        self.link: socket.socket | None = None
        self.links = 0
        self.answers = 0
        self.buffer = b""
        self.exchange: Exchange | None = None

    def send(self, exchange: Exchange) -> None:
        self.exchange = exchange
        if self.link is None:
            self._open()
        else:
            self._write(self.link, exchange)

    def _open(self) -> None:
        self.links += 1
        if self.links > 1:
            self.tally.reconnects += 1
        self.link = link = socket.socket()
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = 0
        self.buffer = b""
        link.connect_ex(("127.0.0.1", self.port))
        self.loop.watch(link, select.EPOLLOUT, self._connected)

    def _connected(self) -> None:
        if self.link is None or self.exchange is None:
            return
        code = self.link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0:
            self.loop.watch(self.link, select.EPOLLIN, self._readable)
            self._write(self.link, self.exchange)
        else:
            self._close()
            self._finish(f"connect: {os.strerror(code)}")

    def _write(self, link: socket.socket, exchange: Exchange) -> None:
        request = f"GET {exchange.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode()
        try:
            sent = link.send(request)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise
            self._lost()
        else:
            # One request at a time, of some tens of bytes.
            if sent != len(request):
                raise RuntimeError("a socket without room for one request")

    def _readable(self) -> None:
        if self.link is None:
            return
        try:
            data = self.link.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self._lost()
            return
        if self.exchange is None:
            # Nobody asked.
            self._close()
            return
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > MAX_HEAD:
                self._answered("a head without end", keep=False)
            return
        head = self.buffer[:end].lower()
        _, found, after = head.partition(b"\r\ncontent-length:")
        if not found:
            self._answered("an answer without Content-Length", keep=False)
            return
        size = end + 4 + int(after.split(b"\r\n", 1)[0])
        if len(self.buffer) < size:
            return
        if len(self.buffer) > size:
            self._answered("more bytes than the answer has", keep=False)
            return
        status = head.split(b" ", 2)[1].decode()
        failure = None if status == "200" else f"status {status}"
        self._answered(failure, keep=b"\r\nconnection: close" not in head)

    def _answered(self, failure: str | None, *, keep: bool) -> None:
        """The link has a whole answer, or one that cannot be read."""
        self.buffer = b""
        self.answers += 1
        if not keep:
            self._close()
        self._finish(failure)

    def _lost(self) -> None:
        self._close()
        exchange = self.exchange
        if exchange is None:
            return
        if self.answers and not self.buffer and not exchange.retried:
            exchange.retried = True
            self._open()
        else:
            self._finish("the connection was lost")

    def _close(self) -> None:
        if self.link is not None:
            self.loop.forget(self.link)
            self.link.close()
            self.link = None

    def _finish(self, failure: str | None) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if failure is not None:
            self.tally.fail(failure)
        else:
            self.tally.answer(exchange)
        self.idle(self)


def drain(loop: Loop, busy: Callable[[], int], tally: Tally) -> None:
    """Wait, within bounds, for the answers that are still out; what stays out has failed."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while busy() and time.monotonic() < deadline:
        loop.turn(0.01)
    for _ in range(busy()):
        tally.fail("no answer")


def run_open(options: argparse.Namespace) -> Tally:
    loop = Loop()
    begin = time.monotonic() + 0.2
    tally = Tally(begin, begin + options.warm)
    waiting: deque[Exchange] = deque()
    idle: deque[Client] = deque()

    def free(client: Client) -> None:
        if waiting:
            client.send(waiting.popleft())
        else:
            idle.append(client)

    for _ in range(options.connections):
        idle.append(Client(loop, options.port, tally, free))
    total = options.warm + options.seconds
    for request in schedule(options.seed, total, options.rate, options.slow, options.share):
        due = begin + request.at
        while (left := due - time.monotonic()) > 0:
            loop.turn(0 if options.spin else left)
        exchange = Exchange(request.path, due)
        if idle:
            tally.lateness.append((time.monotonic() - due) * 1000)
            idle.popleft().send(exchange)
        else:
            waiting.append(exchange)
    drain(loop, lambda: options.connections - len(idle) + len(waiting), tally)
    return tally


def run_closed(options: argparse.Namespace) -> Tally:
    loop = Loop()
    begin = time.monotonic()
    tally = Tally(begin, begin + options.warm)
    end = tally.since + options.seconds
    busy = options.connections
    draws = random.Random(options.seed)

    def choose() -> str:
        path: str = options.slow if draws.random() < options.share else "/"
        return path

    def again(client: Client) -> None:
        nonlocal busy
        now = time.monotonic()
        if now < end:
            # On a later turn of the loop, so that a server that refuses at once is no recursion.
            loop.soon.append(lambda: client.send(Exchange(choose(), now)))
        else:
            busy -= 1

    for _ in range(options.connections):
        Client(loop, options.port, tally, again).send(Exchange(choose(), time.monotonic()))
    while (left := end - time.monotonic()) > 0:
        loop.turn(left)
    drain(loop, lambda: busy, tally)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.generator", description=__doc__)
    parser.add_argument("mode", choices=["open", "closed"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=20.0, help="measured time")
    parser.add_argument("--warm", type=float, default=1.0, help="time before that, not counted")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second (open)")
    parser.add_argument("--slow", default="/slow", help="the path of the slow requests")
    parser.add_argument("--share", type=float, default=0.05, help="the share of slow requests")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--spin", action="store_true", help="never sleep, so as not to be late; takes a whole core"
    )
    options = parser.parse_args()
    # Nothing here is a circle, and a collection would make everybody wait.
    gc.disable()
    tally = run_open(options) if options.mode == "open" else run_closed(options)
    late = percentile(tally.lateness, 0.99) if tally.lateness else 0.0
    said = {
        "failed": tally.failed,
        "reconnects": tally.reconnects,
        "late": late,
        "reasons": tally.reasons,
        "windows": tally.windows,
    }
    print(json.dumps({**said, "latencies": tally.latencies}))


if __name__ == "__main__":
    main()
