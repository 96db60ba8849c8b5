"""Hello on one core: every process of a server on one core, wrk on another."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import median

from bench import load, procfs, report
from bench.process import BenchError, get, serving
from bench.rounds import interleaved
from bench.servers import Server

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
BODY = b"Hello, World!\n"
CONNECTIONS = 64
WARM_SECONDS = 1


@dataclass(frozen=True)
class Round:
    """`cpu` is the server's processor time: seconds for the run, all its processes together."""

    result: load.Result
    cpu: float
    headers: int

    def __str__(self) -> str:
        return f"{self.result.rate:,.0f}/s"


def measure(server: Server, options: argparse.Namespace) -> Round:
    with serving(server, APPS[server.interface], core=options.server_core) as running:
        status, body, headers = get(running.port)
        if (status, body) != (200, BODY):
            raise BenchError(f"{server.name} answered {status} {body[:80]!r} to hello")
        load.wrk(running.port, WARM_SECONDS, CONNECTIONS, options.load_core)
        pids = running.pids()
        before = procfs.cpu_seconds(pids)
        result = load.wrk(running.port, options.seconds or SECONDS, CONNECTIONS, options.load_core)
        return Round(result, procfs.cpu_seconds(pids) - before, headers)


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
    columns = ["server", "requests/s", "p50 ms", "p99 ms", "core", "CPU µs/request"]
    columns += ["header bytes", "failed"]
    report.table(columns, [row(name, turns) for name, turns in rounds.items()])
    ratios(rounds)


def row(name: str, turns: list[Round]) -> list[str]:
    results = [turn.result for turn in turns]
    return [
        name,
        report.spread([result.rate for result in results]),
        f"{median(result.p50 for result in results):.2f}",
        f"{median(result.p99 for result in results):.2f}",
        f"{median(turn.cpu / turn.result.seconds for turn in turns):.0%}",
        f"{median(turn.cpu / turn.result.requests * 1e6 for turn in turns):.1f}",
        str(turns[0].headers),
        str(sum(result.failed for result in results)),
    ]


def ratios(rounds: dict[str, list[Round]]) -> None:
    rows = []
    for ours, theirs, least in TARGETS:
        if ours not in rounds or theirs not in rounds:
            continue
        pairs = zip(rounds[ours], rounds[theirs], strict=True)
        values = [mine.result.rate / other.result.rate for mine, other in pairs]
        reached = median(values) >= least
        rows.append(
            [f"{ours} / {theirs}", report.spread(values, 2), f"{least:g}", report.verdict(reached)]
        )
    if rows:
        print("Ratios of requests/s, round by round:\n")
        report.table(["pair", "ratio", "at least", "reached"], rows)
