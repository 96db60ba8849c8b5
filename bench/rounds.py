"""Servers taking turns: A B C, A B C, so that a drift of the machine meets all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bench import report, trouble
from bench.servers import Server

T = TypeVar("T")


def interleaved(
    bench: str, count: int, servers: list[Server], measure: Callable[[Server, int], T]
) -> dict[str, list[T]]:
    """`count` measurements of each server; `measure` gets the server and the round, from 0.

    One that fails once is left out, and noted."""
    results: dict[str, list[T]] = {server.name: [] for server in servers}
    for turn in range(count):
        for server in servers:
            if len(results[server.name]) < turn:
                continue
            with trouble.noted(f"{bench}, {server.name}"):
                result = measure(server, turn)
                results[server.name].append(result)
                report.note(f"{bench} {turn + 1}/{count} {server.name}: {result}")
    return {name: turns for name, turns in results.items() if len(turns) == count}
