"""Open loop: latency at 50 % and 80 % of the best peer's capacity, counted from when it was due."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import median

from bench import load, report, throughput
from bench.process import BenchError, serving
from bench.rounds import interleaved
from bench.servers import Server

NAME = "open"
ROUNDS = 7
SECONDS = 4
WARM_SECONDS = 1
CAPACITY_ROUNDS = 3
CAPACITY_SECONDS = 2
CONNECTIONS = 128
SHARES = (0.5, 0.8)
# For each interface its application, and the row that is compared with the best of the others.
CASES = {"wsgi": ("Flask", "flask_hello:app", "remuda-sync")}
CASES["asgi"] = ("FastAPI", "fastapi_hello:app", "remuda-asgi")
ROWS = ["fastwsgi", "granian-wsgi", "gunicorn-gthread", "remuda-sync"]
ROWS += ["uvicorn", "granian-asgi", "remuda-asgi"]
AT_MOST = 1.1
# Beyond this the generator itself was the limit, and its latencies are nobody's.
LATE_MS = 1.0
TAILS = (0.5, 0.99, 0.999)


@dataclass(frozen=True)
class Round:
    """What the clients saw at each share of the capacity."""

    seen: dict[float, load.Generated]

    def at(self, share: float, tail: float) -> float:
        """Latency in ms."""
        return report.percentile(self.seen[share].latencies["/"], tail)

    def __str__(self) -> str:
        return ", ".join(
            f"{share:.0%}: p50 {self.at(share, 0.5):.2f}, p99 {self.at(share, 0.99):.2f} ms"
            for share in self.seen
        )


def capacity(peers: list[Server], app: str, options: argparse.Namespace) -> float:
    """Requests/s of the best of them in a closed loop, a median each."""
    place = throughput.one_core(options)
    rounds = interleaved(
        f"{NAME}, capacity",
        CAPACITY_ROUNDS,
        peers,
        lambda server, _: throughput.measure(server, app, place, CAPACITY_SECONDS),
    )
    rates = {
        name: median(turn.result.rate for turn in turns) for name, turns in rounds.items() if turns
    }
    if not rates:
        raise BenchError(f"no peer serves {app}: nothing to take a share of")
    return max(rates.values())


def measure(server: Server, app: str, rate: float, turn: int, options: argparse.Namespace) -> Round:
    with serving(server, app, core=options.server_core) as running:
        seen = {}
        for share in SHARES:
            words = [f"--rate={rate * share:.0f}", f"--warm={WARM_SECONDS}", "--share=0", "--spin"]
            words += [f"--connections={CONNECTIONS}", f"--seed={turn}"]
            seconds = options.seconds or SECONDS
            one = load.generate("open", running.port, options.load_core, seconds, *words)
            if not one.latencies.get("/"):
                raise BenchError(f"no answers: {one.reasons}")
            if one.late > LATE_MS:
                report.note(f"{NAME}: the generator was {one.late:.1f} ms late; not quiet enough")
            seen[share] = one
        return Round(seen)


def run(servers: list[Server], options: argparse.Namespace) -> None:
    count = options.rounds or ROUNDS
    for interface, (title, app, ours) in CASES.items():
        mine = [server for server in servers if server.interface == interface]
        peers = [server for server in mine if not server.name.startswith("remuda")]
        if not mine:
            continue
        rate = capacity(peers, app, options)
        rounds = interleaved(
            f"{NAME}, {title}",
            count,
            mine,
            lambda server, turn, app=app, rate=rate: measure(server, app, rate, turn, options),
        )
        report.heading(
            f"{title}'s hello in an open loop",
            f"Requests due at random times, at {' and '.join(f'{s:.0%}' for s in SHARES)} of the "
            f"{rate:,.0f}/s of the best peer, over {CONNECTIONS} keep-alive connections; latency "
            f"in ms from when each was due; {count} rounds of {options.seconds or SECONDS} s, a "
            "core each for server and load; median (least..most). `late` is the 99th percentile "
            "of what the generator itself was late.",
        )
        for share in SHARES:
            print(f"At {share:.0%}, {rate * share:,.0f}/s:\n")
            columns = ["server", "p50", "p99", "p99.9", "late", "failed"]
            report.table(columns, [row(name, turns, share) for name, turns in rounds.items()])
            verdicts(rounds, ours, share)


def row(name: str, turns: list[Round], share: float) -> list[str]:
    seen = [turn.seen[share] for turn in turns]
    return [
        name,
        *(report.spread([turn.at(share, tail) for turn in turns], 2) for tail in TAILS),
        f"{median(one.late for one in seen):.2f}",
        str(sum(one.failed for one in seen)),
    ]


def verdicts(rounds: dict[str, list[Round]], ours: str, share: float) -> None:
    """Ours beside the best peer's median, for p50 and p99."""
    middles = {
        name: [median(turn.at(share, tail) for turn in turns) for tail in TAILS]
        for name, turns in rounds.items()
    }
    peers = [values for name, values in middles.items() if not name.startswith("remuda")]
    if ours not in middles or not peers:
        return
    for at, name in enumerate(("p50", "p99")):
        best = min(values[at] for values in peers)
        ratio = middles[ours][at] / best
        reached = report.verdict(ratio <= AT_MOST)
        print(f"- {ours}'s {name} at most {AT_MOST:g} of the best peer's: {ratio:.2f}, {reached}")
    print()
