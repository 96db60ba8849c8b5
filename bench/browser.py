"""A browser's request: 12 fields, one of them a cookie of 1.5 KiB, to the plain hello."""

from __future__ import annotations

import argparse

from bench import report, throughput
from bench.rounds import interleaved
from bench.servers import Server
from bench.throughput import CONNECTIONS

NAME = "browser"
ROUNDS = 5
SECONDS = 3
ROWS = [
    "nginx",
    "fastwsgi",
    "granian-wsgi",
    "gunicorn-sync",
    "remuda-sync",
    "uvicorn",
    "granian-asgi",
    "remuda-asgi",
]
APPS = {"wsgi": "hello:app", "asgi": "hello_asgi:app", "none": ""}
TARGETS = [
    ("remuda-sync", "nginx", 1.1),
    ("remuda-sync", "fastwsgi", 1.3),
    ("remuda-sync", "granian-wsgi", 1.3),
    ("remuda-asgi", "uvicorn", 1.3),
    ("remuda-asgi", "granian-asgi", 1.3),
]
COOKIE_BYTES = 1536
# With Host, which wrk sends by itself, these are twelve.
FIELDS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://www.example.org/some/page?with=a&query=of-its-own",
    "DNT": "1",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Cookie": ("session=" + "0123456789abcdef" * (COOKIE_BYTES // 16))[:COOKIE_BYTES],
}


def run(servers: list[Server], options: argparse.Namespace) -> None:
    count, seconds = options.rounds or ROUNDS, options.seconds or SECONDS
    place = throughput.one_core(options)
    rounds = interleaved(
        NAME,
        count,
        servers,
        lambda server, _: throughput.measure(
            server, APPS[server.interface], place, seconds, FIELDS
        ),
    )
    report.heading(
        "A browser's request",
        f"{len(FIELDS) + 1} fields, a cookie of {COOKIE_BYTES} bytes; the plain hello, one worker, "
        f"{CONNECTIONS} keep-alive connections, server and wrk on a core each; {count} rounds of "
        f"{seconds} s; median (least..most).",
    )
    rows = [throughput.row(name, turns) for name, turns in rounds.items()]
    report.table(throughput.COLUMNS, rows)
    throughput.ratios(rounds, TARGETS)
