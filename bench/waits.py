"""1,000 clients at once whose requests wait 100 ms, one worker: how soon it serves them all."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import median

from bench import load, report
from bench.process import BenchError, serving
from bench.rounds import interleaved
from bench.servers import Server

NAME = "waits"
ROUNDS = 3
SECONDS = 4
ROWS = ["gunicorn-gevent", "remuda-gevent", "uvicorn", "granian-asgi", "remuda-asgi"]
APPS = {"wsgi": "waits:app", "asgi": "waits_asgi:app"}
CLIENTS = 1000
WAIT_SECONDS = 0.1
# Answers/s of the second second, of those of the best that puts no limit on itself.
AT_LEAST = 0.95
WINDOWS_A_SECOND = round(1 / 0.1)


@dataclass(frozen=True)
class Round:
    """Answers in each second from the first request on."""

    answers: list[int]
    seen: load.Generated

    def __str__(self) -> str:
        return " ".join(f"{count:,}" for count in self.answers)


def measure(server: Server, options: argparse.Namespace) -> Round:
    """The server is fresh: what it learns about its application, it learns in these seconds."""
    seconds = options.seconds or SECONDS
    with serving(
        server, APPS[server.interface], core=options.server_core, ready="/ready"
    ) as running:
        words = [f"--connections={CLIENTS}", "--share=0", "--warm=0"]
        seen = load.generate("closed", running.port, options.load_core, seconds, *words)
    if not seen.latencies.get("/"):
        raise BenchError(f"no answers: {seen.reasons}")
    if min(seen.latencies["/"]) < WAIT_SECONDS * 990:
        raise BenchError("the requests that wait did not wait")
    each = [
        sum(seen.windows[at : at + WINDOWS_A_SECOND])
        for at in range(0, seconds * WINDOWS_A_SECOND, WINDOWS_A_SECOND)
    ]
    return Round(each, seen)


def run(servers: list[Server], options: argparse.Namespace) -> None:
    count, seconds = options.rounds or ROUNDS, options.seconds or SECONDS
    rounds = interleaved(NAME, count, servers, lambda server, _: measure(server, options))
    report.heading(
        "Waits",
        f"{CLIENTS:,} clients from one moment on, each with one request at a time that waits "
        f"{WAIT_SECONDS * 1000:.0f} ms in the application; one worker, server and load on a core "
        f"each; answers in each second, latency in ms; {count} rounds; median (least..most). "
        f"{CLIENTS / WAIT_SECONDS:,.0f}/s would cost nothing.",
    )
    columns = ["server", *(f"second {number + 1}" for number in range(seconds))]
    columns += ["p50", "p99", "failed"]
    report.table(columns, [row(name, turns, seconds) for name, turns in rounds.items()])
    verdicts(rounds)


def row(name: str, turns: list[Round], seconds: int) -> list[str]:
    def at(share: float) -> str:
        return report.spread([report.percentile(t.seen.latencies["/"], share) for t in turns])

    return [
        name,
        *(report.spread([turn.answers[second] for turn in turns]) for second in range(seconds)),
        at(0.5),
        at(0.99),
        str(sum(turn.seen.failed for turn in turns)),
    ]


def verdicts(rounds: dict[str, list[Round]]) -> None:
    """Ours in its second second, beside the last second of the best peer of the interface."""
    for ours, peers in {
        "remuda-gevent": ["gunicorn-gevent"],
        "remuda-asgi": ["uvicorn", "granian-asgi"],
    }.items():
        theirs = [median(t.answers[-1] for t in rounds[peer]) for peer in peers if peer in rounds]
        if ours in rounds and theirs:
            ratio = median(turn.answers[1] for turn in rounds[ours]) / max(theirs)
            reached = report.verdict(ratio >= AT_LEAST)
            print(f"- {ours} a second after the start / best peer: {ratio:.2f}, {reached}")
    print()
