"""When the requests of an open-loop run are due, and what one ideal queue makes of them."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Due:
    """One request: seconds after the beginning, and its path."""

    at: float
    path: str


def schedule(seed: int, seconds: float, rate: float, slow: str, share: float) -> list[Due]:
    """Requests at random times (a Poisson process of `rate` a second), `share` of them slow."""
    times = random.Random(f"times of {seed}")
    kinds = random.Random(f"kinds of {seed}")
    found = []
    at = times.expovariate(rate)
    while at < seconds:
        found.append(Due(at, slow if kinds.random() < share else "/"))
        at += times.expovariate(rate)
    return found


def ideal(
    due: list[Due],
    slots: int,
    slow: str,
    slow_seconds: float,
    warm: float,
    fast_seconds: float = 0.0,
) -> list[float]:
    """Latencies (ms) of the requests that are not slow, where one queue feeds every slot.

    No server with as many slots, taking requests in order, can do better. `slow_seconds` and
    `fast_seconds` are how long the two kinds hold their slot. The first `warm` seconds do not
    count.
    """
    free = [0.0] * slots
    latencies = []
    for request in due:
        begin = max(heapq.heappop(free), request.at)
        end = begin + (slow_seconds if request.path == slow else fast_seconds)
        heapq.heappush(free, end)
        if request.path != slow and request.at >= warm:
            latencies.append((end - request.at) * 1000)
    return latencies
