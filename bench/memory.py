"""Memory: what all of a server's processes take after some hundred requests."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import median

from bench import procfs, report
from bench.process import BenchError, get, serving
from bench.rounds import interleaved
from bench.servers import Server

NAME = "memory"
ROUNDS = 1
ROWS = [
    "nginx",
    "fastwsgi",
    "granian-wsgi",
    "waitress",
    "uwsgi",
    "gunicorn-sync",
    "gunicorn-gthread",
    "gunicorn-gevent",
    "gunicorn25-eventlet",
    "gunicorn-tornado",
    "uvicorn",
    "gunicorn-asgi",
    "granian-asgi",
    "hypercorn",
    "remuda-sync",
    "remuda-gthread",
    "remuda-gevent",
    "remuda-eventlet",
    "remuda-tornado",
    "remuda-asgi",
]
APPS = {"wsgi": "hello:app", "asgi": "hello_asgi:app", "none": ""}
REQUESTS = 500
OURS, THEIRS = "remuda-sync", "gunicorn-sync"
ROUTER_MIB = 8.0


@dataclass(frozen=True)
class Round:
    """Memory by process: the title that the process has, and what it takes."""

    processes: list[tuple[str, procfs.Memory]]

    @property
    def total(self) -> procfs.Memory:
        return sum((memory for _, memory in self.processes), procfs.Memory(0, 0, 0))

    @property
    def router(self) -> procfs.Memory | None:
        found = [memory for title, memory in self.processes if title.startswith("remuda: router")]
        return found[0] if found else None

    def __str__(self) -> str:
        return f"{self.total.pss / 1024:.1f} MiB"


def measure(server: Server) -> Round:
    with serving(server, APPS[server.interface], threads=4) as running:
        for _ in range(REQUESTS):
            status, _, _ = get(running.port)
            if status != 200:
                raise BenchError(f"{server.name} answered {status} to hello")
        return Round([(procfs.title(pid), procfs.memory(pid)) for pid in running.pids()])


def run(servers: list[Server], options: argparse.Namespace) -> None:
    count = options.rounds or ROUNDS
    rounds = interleaved(NAME, count, servers, lambda server, _: measure(server))
    report.heading(
        "Memory",
        f"Hello, one worker, after {REQUESTS} requests, in MiB, all of a server's processes: PSS "
        "(shared pages divided among those who share them), USS (private pages alone) and RSS "
        f"(shared pages counted each time); {count} rounds; median (least..most).",
    )
    columns = ["server", "processes", "PSS", "USS", "RSS"]
    report.table(columns, [row(name, turns) for name, turns in rounds.items()])
    targets(rounds)


def mebibytes(sizes: list[int]) -> str:
    return report.spread([size / 1024 for size in sizes], 1)


def row(name: str, turns: list[Round]) -> list[str]:
    totals = [turn.total for turn in turns]
    return [
        name,
        str(len(turns[0].processes)),
        mebibytes([total.pss for total in totals]),
        mebibytes([total.uss for total in totals]),
        mebibytes([total.rss for total in totals]),
    ]


def targets(rounds: dict[str, list[Round]]) -> None:
    if OURS not in rounds:
        return
    parts = [
        [title or "?", f"{memory.pss / 1024:.1f}", f"{memory.uss / 1024:.1f}"]
        for title, memory in rounds[OURS][-1].processes
    ]
    print(f"{OURS}, process by process (the last round):\n")
    report.table(["process", "PSS", "USS"], parts)
    routers = [turn.router for turn in rounds[OURS]]
    sizes = [router.pss / 1024 for router in routers if router is not None]
    if len(sizes) != len(routers):
        raise BenchError(f"no process of {OURS} has the title 'remuda: router'")
    reached = report.verdict(median(sizes) <= ROUTER_MIB)
    print(f"- router alone, at most {ROUTER_MIB:g} MiB: {median(sizes):.1f}, {reached}")
    if THEIRS in rounds:
        ours = median(turn.total.pss for turn in rounds[OURS])
        theirs = median(turn.total.pss for turn in rounds[THEIRS])
        reached = report.verdict(ours <= theirs)
        print(f"- {OURS} / {THEIRS}, at most 1: {ours / theirs:.2f}, {reached}\n")
