"""A load generator over keep-alive connections that knows which request was which.

`open`: requests are due at random times of a fixed seed (a Poisson process), whatever the server
does; each goes out on the connection that has been idle the longest, and its latency counts from
the moment it was due. So a server that stalls is not spared the requests of the meantime.

`closed`: so many clients, each sends its next request when it has the answer to the last.

Prints one JSON object: latencies in milliseconds by path, the number of failures, of connections
made again because the server had closed them, and the 99th percentile of how late (ms) the
generator itself was in sending what was due on an idle connection.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.report import percentile
from bench.schedule import schedule

DRAIN_SECONDS = 30.0
MAX_HEAD = 16 * 1024


@dataclass
class Exchange:
    """One request. Times are of `time.monotonic`, in seconds."""

    path: str
    due: float
    retried: bool = False


@dataclass
class Tally:
    latencies: dict[str, list[float]] = field(default_factory=dict)
    failed: int = 0
    reconnects: int = 0
    lateness: list[float] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)

    def fail(self, reason: str) -> None:
        self.failed += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


class Link(asyncio.Protocol):
    """One TCP connection of a client."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"a stream's transport was expected, not {transport!r}")
        self.transport = transport
        self.client.opened(self)

    def write(self, path: str) -> None:
        if self.transport is not None:
            host = f"127.0.0.1:{self.client.port}"
            self.transport.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > MAX_HEAD:
                self.client.ended(self, "a head without end", keep=False)
            return
        head = bytes(self.buffer[:end]).lower()
        _, found, after = head.partition(b"\r\ncontent-length:")
        if not found:
            self.client.ended(self, "an answer without Content-Length", keep=False)
            return
        size = end + 4 + int(after.split(b"\r\n", 1)[0])
        if len(self.buffer) < size:
            return
        if len(self.buffer) > size:
            self.client.ended(self, "more bytes than the answer has", keep=False)
            return
        self.buffer.clear()
        self.answers += 1
        status = head.split(b" ", 2)[1].decode()
        failure = None if status == "200" else f"status {status}"
        self.client.ended(self, failure, keep=b"\r\nconnection: close" not in head)

    def connection_lost(self, error: Exception | None) -> None:
        self.client.lost(self)


class Client:
    """Sends a request at a time, and calls `idle` with itself after each.

    Where the server has closed the connection, the next request opens another; a request that
    met the close on a used connection, with no byte of an answer, is sent once more (RFC 9110,
    section 9.2.2 lets a client retry an idempotent request).
    """

    def __init__(
        self, port: int, tally: Tally, since: float, idle: Callable[[Client], None]
    ) -> None:
        self.port = port
        self.tally = tally
        self.since = since
        self.idle = idle
        self.link: Link | None = None
        self.links = 0
        self.exchange: Exchange | None = None
        self.opening: asyncio.Task[None] | None = None

    def send(self, exchange: Exchange) -> None:
        self.exchange = exchange
        if self.link is None:
            self.opening = asyncio.get_running_loop().create_task(self._open())
        else:
            self.link.write(exchange.path)

    async def _open(self) -> None:
        self.links += 1
        if self.links > 1:
            self.tally.reconnects += 1
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: Link(self), "127.0.0.1", self.port)
        except OSError as error:
            self._finish(f"connect: {error.strerror}")

    def opened(self, link: Link) -> None:
        self.link = link
        if self.exchange is not None:
            link.write(self.exchange.path)

    def ended(self, link: Link, failure: str | None, *, keep: bool) -> None:
        """The link has a whole answer, or one that cannot be read."""
        if link is not self.link:
            return
        if not keep:
            self.link = None
            link.close()
        self._finish(failure)

    def lost(self, link: Link) -> None:
        if link is not self.link:
            return
        self.link = None
        exchange = self.exchange
        if exchange is None:
            return
        if link.answers and not link.buffer and not exchange.retried:
            exchange.retried = True
            self.send(exchange)
        else:
            self._finish("the connection was lost")

    def _finish(self, failure: str | None) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if failure is not None:
            self.tally.fail(failure)
        elif exchange.due >= self.since:
            took = (time.monotonic() - exchange.due) * 1000
            self.tally.latencies.setdefault(exchange.path, []).append(took)
        self.idle(self)


async def drain(busy: Callable[[], int], tally: Tally) -> None:
    """Wait, within bounds, for the answers that are still out; what stays out has failed."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while busy() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    for _ in range(busy()):
        tally.fail("no answer")


async def run_open(options: argparse.Namespace) -> Tally:
    tally = Tally()
    waiting: deque[Exchange] = deque()
    idle: deque[Client] = deque()
    begin = time.monotonic() + 0.2
    since = begin + options.warm

    def free(client: Client) -> None:
        if waiting:
            client.send(waiting.popleft())
        else:
            idle.append(client)

    for _ in range(options.connections):
        idle.append(Client(options.port, tally, since, free))
    total = options.warm + options.seconds
    for request in schedule(options.seed, total, options.rate, options.slow, options.share):
        due = begin + request.at
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        exchange = Exchange(request.path, due)
        if idle:
            tally.lateness.append((time.monotonic() - due) * 1000)
            idle.popleft().send(exchange)
        else:
            waiting.append(exchange)
    await drain(lambda: options.connections - len(idle) + len(waiting), tally)
    return tally


async def run_closed(options: argparse.Namespace) -> Tally:
    tally = Tally()
    begin = time.monotonic()
    since = begin + options.warm
    end = since + options.seconds
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
            asyncio.get_running_loop().call_soon(client.send, Exchange(choose(), now))
        else:
            busy -= 1

    for _ in range(options.connections):
        Client(options.port, tally, since, again).send(Exchange(choose(), time.monotonic()))
    await asyncio.sleep(end - time.monotonic())
    await drain(lambda: busy, tally)
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
    options = parser.parse_args()
    tally = asyncio.run(run_open(options) if options.mode == "open" else run_closed(options))
    late = percentile(tally.lateness, 0.99) if tally.lateness else 0.0
    said = {
        "failed": tally.failed,
        "reconnects": tally.reconnects,
        "late": late,
        "reasons": tally.reasons,
    }
    print(json.dumps({**said, "latencies": tally.latencies}))


if __name__ == "__main__":
    main()
