"""The classic comparison: Flask's hello, 4 workers, ab with 500 clients."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import median

from bench import load, report
from bench.process import serving
from bench.rounds import interleaved
from bench.servers import Server

NAME = "ab"
ROUNDS = 1
ROWS = ["gunicorn-sync", "flask-run", "remuda-sync"]
OURS = "remuda-sync"
# theirs, at least
TARGETS = [("gunicorn-sync", 1.5), ("flask-run", 4.0)]
WORKERS = 4
CLIENTS = 500
SHORT_ROUNDS = 3


@dataclass(frozen=True)
class Round:
    short: list[load.Result]
    long: load.Result

    def __str__(self) -> str:
        return f"{median(run.rate for run in self.short):,.0f}/s, {self.long.rate:,.0f}/s"


def measure(server: Server, options: argparse.Namespace) -> Round:
    """No core is set aside here: the server and ab share the machine, as people run it."""
    with serving(server, "flask_hello:app", workers=WORKERS) as running:
        load.ab(running.port, 200, 20, lasting=True)  # every worker has answered once
        short = [load.ab(running.port, CLIENTS, CLIENTS, lasting=True) for _ in range(SHORT_ROUNDS)]
        return Round(short, load.ab(running.port, options.requests, CLIENTS, lasting=True))


def run(servers: list[Server], options: argparse.Namespace) -> None:
    count = options.rounds or ROUNDS
    rounds = interleaved(NAME, count, servers, lambda server, _: measure(server, options))
    report.heading(
        "The classic comparison",
        f"Flask's hello, {WORKERS} workers, a connection for each request: `ab -r -n 500 -c 500` "
        f"({SHORT_ROUNDS} times) and `ab -r -n {options.requests} -c {CLIENTS}`; {count} rounds; "
        "requests/s, times in ms; median (least..most).",
    )
    columns = ["server", "n=500", "p99", "failed", f"n={options.requests}", "p50", "p99", "failed"]
    report.table(columns, [row(name, turns) for name, turns in rounds.items()])
    ratios(rounds)


def row(name: str, turns: list[Round]) -> list[str]:
    short = [run for turn in turns for run in turn.short]
    long = [turn.long for turn in turns]
    return [
        name,
        report.spread([run.rate for run in short]),
        f"{median(run.p99 for run in short):,.0f}",
        str(sum(run.failed for run in short)),
        report.spread([run.rate for run in long]),
        f"{median(run.p50 for run in long):,.0f}",
        f"{median(run.p99 for run in long):,.0f}",
        str(sum(run.failed for run in long)),
    ]


def ratios(rounds: dict[str, list[Round]]) -> None:
    rows = []
    for theirs, least in TARGETS:
        if OURS not in rounds or theirs not in rounds:
            continue
        pairs = list(zip(rounds[OURS], rounds[theirs], strict=True))
        short = [
            mine.rate / other.rate
            for ours, peer in pairs
            for mine, other in zip(ours.short, peer.short, strict=True)
        ]
        long = [ours.long.rate / peer.long.rate for ours, peer in pairs]
        failed = sum(run.failed for turn in rounds[OURS] for run in [*turn.short, turn.long])
        reached = min(median(short), median(long)) >= least and failed == 0
        cells = [report.spread(short, 2), report.spread(long, 2), f"{least:g}"]
        rows.append([f"{OURS} / {theirs}", *cells, report.verdict(reached)])
    if rows:
        print("Ratios of requests/s, round by round (reached: both, and 0 failed):\n")
        report.table(["pair", "short", "long", "at least", "reached"], rows)
