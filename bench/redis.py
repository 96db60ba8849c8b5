"""Flask and Redis: INCR then GET on each hit, 4 workers of every class, ab with 500 clients."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import median

from bench import load, process, report
from bench.process import BenchError
from bench.rounds import interleaved
from bench.servers import Server

NAME = "redis"
ROUNDS = 1
ROWS = [
    "gunicorn-sync",
    "remuda-sync",
    "gunicorn-gthread",
    "remuda-gthread",
    "gunicorn-gevent",
    "remuda-gevent",
    "gunicorn25-eventlet",
    "remuda-eventlet",
    "gunicorn-tornado",
    "remuda-tornado",
    "gunicorn-asgi",
    "remuda-asgi",
    "uwsgi",
    "granian-wsgi",
    "waitress",
]
PAIRS = [
    ("remuda-sync", "gunicorn-sync"),
    ("remuda-gthread", "gunicorn-gthread"),
    ("remuda-gevent", "gunicorn-gevent"),
    ("remuda-eventlet", "gunicorn25-eventlet"),
    ("remuda-tornado", "gunicorn-tornado"),
    ("remuda-asgi", "gunicorn-asgi"),
]
APPS = {"wsgi": "redis_counter:app", "asgi": "redis_counter_quart:app"}
WORKERS = 4
THREADS = 4
CLIENTS = 500


@dataclass(frozen=True)
class Round:
    result: load.Result

    def __str__(self) -> str:
        return f"{self.result.rate:,.0f}/s, p99 {self.result.p99:,.0f} ms"


def measure(server: Server, store: int, options: argparse.Namespace) -> Round:
    """Raises BenchError where Redis has counted fewer hits than ab has had answers."""
    environment = {"BENCH_REDIS_URL": process.redis_url(store)}
    app = APPS[server.interface]
    with process.serving(
        server, app, workers=WORKERS, threads=THREADS, environment=environment
    ) as running:
        load.ab(running.port, 200, 20, lasting=True)
        process.redis_command(store, "SET", "hits", "0")
        result = load.ab(running.port, options.requests, CLIENTS, lasting=True)
    hits = process.redis_command(store, "GET", "hits").split(b"\r\n")[1]
    if int(hits) < result.requests - result.failed:
        raise BenchError(f"{int(hits)} hits counted for {result.requests} answers")
    return Round(result)


def run(servers: list[Server], options: argparse.Namespace) -> None:
    count = options.rounds or ROUNDS
    with process.redis_server() as store:
        rounds = interleaved(
            NAME, count, servers, lambda server, _: measure(server, store, options)
        )
    report.heading(
        "Flask and Redis",
        f"INCR, then GET on each hit; {WORKERS} workers (gthread: {THREADS} threads each; "
        f"waitress: {WORKERS * THREADS} threads), `ab -r -n {options.requests} -c {CLIENTS}`; "
        f"{count} rounds; requests/s, times in ms; median (least..most). The asgi rows "
        "run the same in Quart with redis.asyncio.",
    )
    columns = ["server", "requests/s", "p50", "p99", "failed"]
    report.table(columns, [row(name, turns) for name, turns in rounds.items()])
    ratios(rounds)


def row(name: str, turns: list[Round]) -> list[str]:
    results = [turn.result for turn in turns]
    return [
        name,
        report.spread([result.rate for result in results]),
        f"{median(result.p50 for result in results):,.0f}",
        f"{median(result.p99 for result in results):,.0f}",
        str(sum(result.failed for result in results)),
    ]


def ratios(rounds: dict[str, list[Round]]) -> None:
    rows = []
    for ours, theirs in PAIRS:
        if ours not in rounds or theirs not in rounds:
            continue
        pairs = list(zip(rounds[ours], rounds[theirs], strict=True))
        rates = [mine.result.rate / other.result.rate for mine, other in pairs]
        tails = [mine.result.p99 / other.result.p99 for mine, other in pairs]
        failed = sum(turn.result.failed for turn in rounds[ours])
        reached = median(rates) > 1 and median(tails) < 1 and failed == 0
        cells = [report.spread(rates, 2), report.spread(tails, 2), str(failed)]
        rows.append([f"{ours} / {theirs}", *cells, report.verdict(reached)])
    if rows:
        print("Ratios, round by round (reached: more requests/s, lower p99, 0 failed):\n")
        report.table(["pair", "requests/s", "p99", "failed", "reached"], rows)
