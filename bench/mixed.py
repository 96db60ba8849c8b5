"""Mixed: 1 request in 20 waits 500 ms on Redis; what that does to the others' p99."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import median

from bench import load, process, report
from bench.process import BenchError
from bench.rounds import interleaved
from bench.servers import Server

NAME = "mixed"
ROUNDS = 2
SECONDS = 5
WARM_SECONDS = 2
ROWS = ["gunicorn-gevent", "remuda-gevent", "gunicorn-asgi", "remuda-asgi"]
APPS = {"wsgi": "redis_counter:app", "asgi": "redis_counter_quart:app"}
TARGETS = ["remuda-gevent", "remuda-asgi"]
AT_MOST = 2.0
WORKERS = 4
CLIENTS = 500
SHARE = 0.05
LEAST_WAIT_MS = 490.0


@dataclass(frozen=True)
class Round:
    """What the clients saw without the slow requests, and with them."""

    alone: load.Generated
    mixed: load.Generated

    @property
    def growth(self) -> float:
        return tail(self.mixed) / tail(self.alone)

    def __str__(self) -> str:
        return f"p99 {tail(self.alone):.0f} -> {tail(self.mixed):.0f} ms"


def tail(seen: load.Generated) -> float:
    return report.percentile(seen.latencies["/"], 0.99)


def measure(server: Server, store: int, options: argparse.Namespace) -> Round:
    """Raises BenchError where nothing was answered, or the slow ones were not slow."""
    environment = {"BENCH_REDIS_URL": process.redis_url(store, 2 * CLIENTS)}

    def generate(port: int, share: float, seconds: int) -> load.Generated:
        words = [f"--connections={CLIENTS}", "--slow=/wait", f"--share={share}"]
        seen = load.generate("closed", port, options.load_core, seconds, *words)
        if not seen.latencies.get("/"):
            raise BenchError(f"no answers: {seen.reasons}")
        return seen

    with process.serving(
        server,
        APPS[server.interface],
        workers=WORKERS,
        core=options.server_core,
        environment=environment,
    ) as running:
        # Not counted, so that first-time costs (Redis's connections) are not the first run's alone.
        generate(running.port, SHARE, WARM_SECONDS)
        seconds = options.seconds or SECONDS
        alone = generate(running.port, 0.0, seconds)
        turn = Round(alone, generate(running.port, SHARE, seconds))
    slow = turn.mixed.latencies.get("/wait")
    if not slow or min(slow) < LEAST_WAIT_MS:
        raise BenchError("the requests that wait on Redis did not wait")
    return turn


def run(servers: list[Server], options: argparse.Namespace) -> None:
    count = options.rounds or ROUNDS
    with process.redis_server(options.server_core) as store:
        rounds = interleaved(
            NAME, count, servers, lambda server, _: measure(server, store, options)
        )
    report.heading(
        "Mixed",
        f"{CLIENTS} clients, each with one request at a time over a keep-alive connection, "
        f"{WORKERS} workers and Redis on one core; a request is INCR and GET, or for {SHARE:.0%} a "
        f"BLPOP that waits 500 ms; {options.seconds or SECONDS} s each, {count} rounds; latency of "
        "the others in ms; median (least..most).",
    )
    columns = ["server", "p50 alone", "p99 alone", "p50 mixed", "p99 mixed", "p99 grows", "failed"]
    report.table(columns, [row(name, turns) for name, turns in rounds.items()])
    for name in TARGETS:
        if name in rounds:
            grows = median(turn.growth for turn in rounds[name])
            reached = report.verdict(grows < AT_MOST)
            print(f"- {name}: p99 grows less than {AT_MOST:g} times: {grows:.2f}, {reached}")
    print()


def row(name: str, turns: list[Round]) -> list[str]:
    def at(seen: list[load.Generated], share: float) -> str:
        return report.spread([report.percentile(one.latencies["/"], share) for one in seen])

    alone, mixed = [turn.alone for turn in turns], [turn.mixed for turn in turns]
    return [
        name,
        at(alone, 0.5),
        at(alone, 0.99),
        at(mixed, 0.5),
        at(mixed, 0.99),
        report.spread([turn.growth for turn in turns], 2),
        str(sum(seen.failed for seen in [*alone, *mixed])),
    ]
