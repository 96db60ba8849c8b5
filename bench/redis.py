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
    "uvicorn",
    "remuda-asgi",
    "uwsgi",
    "granian-wsgi",
    "waitress",
]
# ours, theirs, requests/s at least, p99 at most
PAIRS = [
    ("remuda-sync", "gunicorn-sync", 1.0, 1.0),
    ("remuda-gthread", "gunicorn-gthread", 1.8, 0.7),
    ("remuda-gevent", "gunicorn-gevent", 1.8, 0.7),
    ("remuda-eventlet", "gunicorn25-eventlet", 1.8, 0.7),
    ("remuda-tornado", "gunicorn-tornado", 1.8, 0.7),
    ("remuda-asgi", "gunicorn-asgi", 2.5, 0.5),
    ("remuda-asgi", "uvicorn", 1.3, 0.5),
]
APPS = {"wsgi": "redis_counter:app", "asgi": "redis_counter_quart:app"}
WORKERS = 4
THREADS = 4
CLIENTS = 500
COLD_REQUESTS = 5_000


@dataclass(frozen=True)
class Round:
    """The first requests of a fresh server, and those after them."""

    cold: load.Result
    warm: load.Result

    @property
    def failed(self) -> int:
        return self.cold.failed + self.warm.failed

    def __str__(self) -> str:
        tails = f"p99 {self.cold.p99:,.0f} ms cold, {self.warm.p99:,.0f} warm"
        return f"{self.warm.rate:,.0f}/s, {tails}, {self.failed} failed"


def measure(server: Server, store: int, options: argparse.Namespace) -> Round:
    """Raises BenchError where Redis has counted fewer hits than ab has had answers."""
    # As it comes: redis-py's pool has a limit of its own (100 connections of a process).
    environment = {"BENCH_REDIS_URL": process.redis_url(store)}
    app = APPS[server.interface]
    with process.serving(
        server, app, workers=WORKERS, threads=THREADS, environment=environment
    ) as running:
        process.redis_command(store, "SET", "hits", "0")
        runs = [
            load.ab(running.port, requests, CLIENTS, lasting=True)
            for requests in (COLD_REQUESTS, options.requests)
        ]
    hits = process.redis_command(store, "GET", "hits").split(b"\r\n")[1]
    answered = sum(run.requests - run.failed for run in runs)
    if int(hits) < answered:
        raise BenchError(f"{int(hits)} hits counted for {answered} answers")
    return Round(*runs)


def run(servers: list[Server], options: argparse.Namespace) -> None:
    count = options.rounds or ROUNDS
    with process.redis_server() as store:
        rounds = interleaved(
            NAME, count, servers, lambda server, _: measure(server, store, options)
        )
    report.heading(
        "Flask and Redis",
        f"INCR, then GET on each hit; redis-py's default pool; {WORKERS} workers (gthread: "
        f"{THREADS} threads each; waitress: {WORKERS * THREADS} threads); at once after the start "
        f"`ab -r -n {COLD_REQUESTS} -c {CLIENTS}` (cold), then `ab -r -n {options.requests} "
        f"-c {CLIENTS}`; {count} rounds; requests/s, times in ms; median (least..most). The asgi "
        "rows and uvicorn run the same in Quart with redis.asyncio.",
    )
    columns = ["server", "requests/s", "p50", "p99", "p99 cold", "failed"]
    report.table(columns, [row(name, turns) for name, turns in rounds.items()])
    ratios(rounds)


def row(name: str, turns: list[Round]) -> list[str]:
    return [
        name,
        report.spread([turn.warm.rate for turn in turns]),
        f"{median(turn.warm.p50 for turn in turns):,.0f}",
        report.spread([turn.warm.p99 for turn in turns]),
        report.spread([turn.cold.p99 for turn in turns]),
        str(sum(turn.failed for turn in turns)),
    ]


def ratios(rounds: dict[str, list[Round]]) -> None:
    rows = []
    for ours, theirs, least, most in PAIRS:
        if ours not in rounds or theirs not in rounds:
            continue
        pairs = list(zip(rounds[ours], rounds[theirs], strict=True))
        rates = [mine.warm.rate / other.warm.rate for mine, other in pairs]
        warm = [mine.warm.p99 / other.warm.p99 for mine, other in pairs]
        cold = [mine.cold.p99 / other.cold.p99 for mine, other in pairs]
        failed = sum(turn.failed for turn in rounds[ours])
        tails = max(median(warm), median(cold))
        reached = median(rates) >= least and tails <= most and failed == 0
        cells = [report.spread(rates, 2), f"{least:g}", report.spread(warm, 2)]
        cells += [report.spread(cold, 2), f"{most:g}", str(failed), report.verdict(reached)]
        rows.append([f"{ours} / {theirs}", *cells])
    if rows:
        print("Ratios, round by round (reached: all three, and 0 failed):\n")
        columns = ["pair", "requests/s", "at least", "p99", "p99 cold", "at most", "failed"]
        report.table([*columns, "reached"], rows)
