"""What people run: hello in FastAPI, Starlette, Litestar, Quart, Django and Flask."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from bench import report, throughput
from bench.rounds import interleaved
from bench.servers import Server
from bench.throughput import CONNECTIONS, Place

NAME = "frameworks"
ROUNDS = 3
SECONDS = 3
MANY = 4
WSGI = ["fastwsgi", "granian-wsgi", "gunicorn-sync", "remuda-sync"]
ASGI = ["uvicorn", "granian-asgi", "remuda-asgi"]
ROWS = [*WSGI, *ASGI]


@dataclass(frozen=True)
class Case:
    """A framework's hello, and what is wanted of it: ours, theirs, at least.

    `many` is wanted of several workers on both cores; without it that is not measured.
    """

    title: str
    app: str
    interface: str
    one: list[tuple[str, str, float]]
    many: list[tuple[str, str, float]] | None = None


def best_of_asgi(least: float) -> list[tuple[str, str, float]]:
    return [("remuda-asgi", peer, least) for peer in ("uvicorn", "granian-asgi")]


CASES = [
    Case(
        "FastAPI",
        "fastapi_hello:app",
        "asgi",
        best_of_asgi(1.1),
        [("remuda-asgi", "uvicorn", 1.5), ("remuda-asgi", "granian-asgi", 1.3)],
    ),
    Case("Starlette", "starlette_hello:app", "asgi", best_of_asgi(1.1)),
    Case("Litestar", "litestar_hello:app", "asgi", best_of_asgi(1.1)),
    Case("Quart", "quart_hello:app", "asgi", best_of_asgi(1.1)),
    Case("Django ASGI", "django_hello_asgi:app", "asgi", best_of_asgi(1.1)),
    Case(
        "Django",
        "django_hello:app",
        "wsgi",
        [("remuda-sync", "granian-wsgi", 1.2), ("remuda-sync", "fastwsgi", 1.0)],
        [("remuda-sync", "granian-wsgi", 1.7)],
    ),
    Case("Flask", "flask_hello:app", "wsgi", [("remuda-sync", "granian-wsgi", 1.6)]),
]
# One process, whatever it is asked for.
ALONE = {"fastwsgi"}


def run(servers: list[Server], options: argparse.Namespace) -> None:
    both = Place(MANY, None, None)
    for case in CASES:
        if options.case and not any(part in case.title.lower() for part in options.case):
            continue
        mine = [server for server in servers if server.interface == case.interface]
        compare(case, mine, throughput.one_core(options), "one worker on one core", options)
        if case.many is not None:
            several = [server for server in mine if server.name not in ALONE]
            compare(case, several, both, f"{MANY} workers on all cores", options)


def compare(
    case: Case, servers: list[Server], place: Place, where: str, options: argparse.Namespace
) -> None:
    """One table: a framework, a number of workers."""
    count, seconds = options.rounds or ROUNDS, options.seconds or SECONDS
    rounds = interleaved(
        f"{case.title}, {where}",
        count,
        servers,
        lambda server, _: throughput.measure(server, case.app, place, seconds),
    )
    if not rounds:
        return
    report.heading(
        f"{case.title}'s hello, {where}",
        f"{CONNECTIONS} keep-alive connections, `wrk -t1 -c{CONNECTIONS} -d{seconds}s` "
        f"{'on another core' if place.load is not None else 'on the same cores'}; {count} rounds; "
        "median (least..most).",
    )
    rows = [throughput.row(name, turns) for name, turns in rounds.items()]
    report.table(throughput.COLUMNS, rows)
    throughput.ratios(rounds, case.one if place.workers == 1 else case.many or [])
