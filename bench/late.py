"""Late binding: the fast requests' latency when 1 request in 20 takes 500 ms, at 60 a second."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from bench import load, report
from bench.process import BenchError, serving
from bench.rounds import interleaved
from bench.servers import Server

NAME = "late"
ROUNDS = 1
SECONDS = 20
ROWS = (
    "gunicorn-sync gunicorn-gthread granian-wsgi uwsgi waitress uvicorn granian-asgi hypercorn "
    "remuda-sync remuda-gthread"
).split()
TARGET_MS = 250.0
TARGET_OF = "remuda-sync"
APPS = {"wsgi": "late:app", "asgi": "late_asgi:app"}
SLOTS = 4
CONNECTIONS = 32
RATE = 60
SHARE = 0.05


@dataclass(frozen=True)
class Round:
    seen: load.Generated

    @property
    def fast(self) -> list[float]:
        return self.seen.latencies["/"]

    def __str__(self) -> str:
        middle, tail = (report.percentile(self.fast, share) for share in (0.5, 0.99))
        return f"p50 {middle:.1f} ms, p99 {tail:.0f} ms"


def measure(server: Server, options: argparse.Namespace) -> Round:
    with serving(server, APPS[server.interface], workers=SLOTS) as running:
        seen = load.generate(
            "open",
            running.port,
            None,
            options.seconds or SECONDS,
            f"--connections={CONNECTIONS}",
            f"--rate={RATE}",
            f"--share={SHARE}",
        )
    if not seen.latencies.get("/") or not seen.latencies.get("/slow"):
        raise BenchError(f"no answers: {seen.reasons}")
    return Round(seen)


def run(servers: list[Server], options: argparse.Namespace) -> None:
    count = options.rounds or ROUNDS
    rounds = interleaved(NAME, count, servers, lambda server: measure(server, options))
    report.heading(
        "Late binding",
        f"{SLOTS} processes that take one request at a time (waitress: {SLOTS} threads), "
        f"{CONNECTIONS} keep-alive connections, {RATE} requests/s due at random times (the same "
        f"for all), {SHARE:.0%} sleep 500 ms; {options.seconds or SECONDS} s, {count} rounds; "
        "latency in ms of the others, from when each was due; median (least..most) of the rounds.",
    )
    columns = ["server", "requests", "p50", "p90", "p99", "max", "reconnects", "failed"]
    report.table(columns, [row(name, turns) for name, turns in rounds.items()])
    if TARGET_OF in rounds:
        tails = [report.percentile(turn.fast, 0.99) for turn in rounds[TARGET_OF]]
        reached = report.percentile(tails, 0.5) <= TARGET_MS
        print(f"{TARGET_OF}'s p99 at most {TARGET_MS:.0f} ms: {report.verdict(reached)}\n")


def row(name: str, turns: list[Round]) -> list[str]:
    def at(share: float) -> str:
        return report.spread([report.percentile(turn.fast, share) for turn in turns], 1)

    return [
        name,
        str(sum(len(turn.fast) for turn in turns)),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        str(sum(turn.seen.reconnects for turn in turns)),
        str(sum(turn.seen.failed for turn in turns)),
    ]
