"""Hello on one core: every process of a server on one core, wrk on another."""

from __future__ import annotations

import argparse

from bench import report, throughput
from bench.rounds import interleaved
from bench.servers import Server
from bench.throughput import CONNECTIONS, Round

NAME = "hello"
ROUNDS = 5
SECONDS = 3
ROWS = [
    "nginx",
    "fastwsgi",
    "granian-wsgi",
    "gunicorn-sync",
    "gunicorn-gthread",
    "gunicorn-gevent",
    "gunicorn-tornado",
    "remuda-sync",
    "remuda-gthread",
    "remuda-gevent",
    "remuda-eventlet",
    "remuda-tornado",
    "granian-asgi",
    "uvicorn",
    "gunicorn-asgi",
    "remuda-asgi",
]

# ours, theirs, at least
TARGETS = [
    ("remuda-sync", "nginx", 0.85),
    ("remuda-sync", "fastwsgi", 1.1),
    ("remuda-sync", "granian-wsgi", 1.7),
    ("remuda-sync", "gunicorn-sync", 20.0),
    ("remuda-sync", "gunicorn-gthread", 17.0),
    ("remuda-sync", "gunicorn-gevent", 14.0),
    ("remuda-gevent", "gunicorn-gevent", 7.0),
    ("remuda-eventlet", "gunicorn-gevent", 5.0),
    ("remuda-tornado", "gunicorn-tornado", 8.0),
    ("remuda-asgi", "gunicorn-asgi", 2.2),
    ("remuda-asgi", "uvicorn", 1.5),
    ("remuda-asgi", "granian-asgi", 1.3),
]
APPS = {"wsgi": "hello:app", "asgi": "hello_asgi:app", "none": ""}


def measure(server: Server, options: argparse.Namespace) -> Round:
    place = throughput.one_core(options)
    return throughput.measure(server, APPS[server.interface], place, options.seconds or SECONDS)


def run(servers: list[Server], options: argparse.Namespace) -> None:
    count = options.rounds or ROUNDS
    rounds = interleaved(NAME, count, servers, lambda server, _: measure(server, options))
    report.heading(
        "Hello on one core",
        f"One worker, {CONNECTIONS} keep-alive connections, all of a server's processes on one "
        f"core, `wrk -t1 -c{CONNECTIONS} -d{options.seconds or SECONDS}s` on another; {count} "
        "rounds, the servers taking turns; median (least..most). `core` is how much of its core "
        "the server used: below 95% the load or something else on the machine was the limit.",
    )
    rows = [throughput.row(name, turns) for name, turns in rounds.items()]
    report.table(throughput.COLUMNS, rows)
    throughput.ratios(rounds, TARGETS)
