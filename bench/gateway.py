"""Measure the worker's side of a request alone: take, environ, application, response.

    .venv/bin/python bench/gateway.py [requests]

There is no router here: requests are written into the channel in batches and the responses are
thrown away, both outside the time that is measured. Prints nanoseconds a request.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from remuda import _native

HELLO = b"Hello, World!\n"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(HELLO)))]
BATCH = 64

WRK = [(b"host", b"127.0.0.1:8000")]
BROWSER = [
    (b"host", b"example.org"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-US,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"cookie", b"session=0123456789abcdef0123456789abcdef; theme=dark"),
    (b"dnt", b"1"),
    (b"upgrade-insecure-requests", b"1"),
]

Start = Callable[..., Any]


def hello(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    start_response("200 OK", HEADERS)
    return [HELLO]


def generator(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
    start_response("200 OK", HEADERS)
    yield HELLO


class Closing:
    """What werkzeug returns: an iterable with a close method."""

    def __init__(self, blocks: list[bytes]) -> None:
        self.blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.blocks)

    def close(self) -> None:
        pass


def closing(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", HEADERS)
    return Closing([HELLO])


def fail(message: str, error: BaseException | None) -> None:
    raise SystemExit(f"{message}: {error!r}")


def measure(
    application: Callable[..., Any], fields: list[tuple[bytes, bytes]], requests: int
) -> float:
    router_files, worker_files = _native.channel_files(1)
    router = _native.RouterEnd(router_files)
    channel = _native.Channel(worker_files)
    gateway = _native.Wsgi(application, channel, errors=sys.stderr, on_error=fail)
    router.hello(1)
    message = router.encode(1 << 16, target="/", fields=fields)
    serve, take, clock = gateway.serve, channel.take, time.perf_counter_ns
    best = float("inf")
    for _ in range(5):
        total = 0
        for _ in range(max(1, requests // BATCH // 5)):
            router.send(message, copies=BATCH)
            began = clock()
            for _ in range(BATCH):
                request = take()
                assert request is not None
                serve(request)
            total += clock() - began
            if router.drain() != BATCH:
                raise SystemExit("responses are missing")
        best = min(best, total / max(1, requests // BATCH // 5) / BATCH)
    return best


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    for name, application in [("list", hello), ("generator", generator), ("closing", closing)]:
        for who, fields in [("1 header", WRK), ("8 headers", BROWSER)]:
            nanoseconds = measure(application, fields, requests)
            print(f"{name:10} {who:10} {nanoseconds:8.0f} ns/request")


if __name__ == "__main__":
    main()
