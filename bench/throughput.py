"""wrk on one path: what the tables of a plain answer share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench import load, procfs, report
from bench.process import BenchError, get, serving
from bench.servers import Server

BODY = b"Hello, World!\n"
CONNECTIONS = 64
WARM_SECONDS = 1
COLUMNS = ["server", "requests/s", "p50 ms", "p99 ms", "core", "CPU µs/request"]
COLUMNS += ["header bytes", "failed"]


@dataclass(frozen=True)
class Round:
    """`cpu` is the server's processor time: seconds for the run, all its processes together."""

    result: load.Result
    cpu: float
    headers: int

    def __str__(self) -> str:
        return f"{self.result.rate:,.0f}/s, p99 {self.result.p99:.1f} ms"


@dataclass(frozen=True)
class Place:
    """Where a server and its load run: a core each, or (None) wherever the kernel puts them."""

    workers: int
    server: int | None
    load: int | None


def one_core(options: argparse.Namespace) -> Place:
    """One worker; the server has one core for all its processes, the load another."""
    return Place(1, options.server_core, options.load_core)


def measure(
    server: Server, app: str, place: Place, seconds: int, fields: Mapping[str, str] | None = None
) -> Round:
    """Raises BenchError where the server does not answer hello."""
    with serving(server, app, workers=place.workers, core=place.server) as running:
        status, body, headers = get(running.port)
        if (status, body) != (200, BODY):
            raise BenchError(f"{server.name} answered {status} {body[:80]!r} to hello")

        def wrk(seconds: int) -> load.Result:
            return load.wrk(running.port, seconds, CONNECTIONS, place.load, fields)

        wrk(WARM_SECONDS)
        pids = running.pids()
        before = procfs.cpu_seconds(pids)
        result = wrk(seconds)
        if result.requests == 0:
            raise BenchError(f"{server.name} gave no answer in {seconds} s")
        return Round(result, procfs.cpu_seconds(pids) - before, headers)


def row(name: str, turns: list[Round]) -> list[str]:
    """The cells of COLUMNS."""
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


def ratios(rounds: dict[str, list[Round]], targets: Sequence[tuple[str, str, float]]) -> None:
    """A table of requests/s of ours by theirs; `targets` are ours, theirs, at least."""
    rows = []
    for ours, theirs, least in targets:
        if ours not in rounds or theirs not in rounds:
            continue
        pairs = list(zip(rounds[ours], rounds[theirs], strict=True))
        rates = [mine.result.rate / other.result.rate for mine, other in pairs]
        tails = [mine.result.p99 / other.result.p99 for mine, other in pairs]
        cells = [report.spread(rates, 2), f"{least:g}", report.verdict(median(rates) >= least)]
        rows.append([f"{ours} / {theirs}", *cells, report.spread(tails, 2)])
    if rows:
        print("Ratios of requests/s, round by round, and of p99:\n")
        report.table(["pair", "ratio", "at least", "reached", "p99"], rows)
