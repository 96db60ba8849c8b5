"""The rounds of a soak."""

from __future__ import annotations

import time
from pathlib import Path

from bench.report import note

from .stand import Results, Stand

# Seconds of load in a round; a line is printed after each.
ROUND = 30.0
LEAST_ROUNDS = 4


def first_to_compare(rounds: int) -> int:
    """After which round growth is counted from. Routers are killed before its beginning only."""
    return rounds // 4 + 1


def soak(
    directory: Path,
    classes: list[str],
    seconds: float,
    *,
    workers: int,
    clients: int,
    pause: float,
    application: str | None = None,
) -> dict[str, tuple[Results, dict[str, int]]]:
    """Run it: for each class its results, and how often what was done to it.

    In the first quarter of the rounds routers are killed as well. A process that is new has not
    grown, so none is killed later. After an interruption what the rounds until then have found.
    """
    rounds = max(LEAST_ROUNDS, round(seconds / ROUND))
    stands: list[Stand] = []
    try:
        for name in classes:
            stands.append(
                Stand(
                    directory / name,
                    name,
                    workers=workers,
                    clients=clients,
                    pause=pause,
                    application=application,
                )
            )
        began = time.monotonic()
        for number in range(rounds):
            for stand in stands:
                stand.begin(routers=number < first_to_compare(rounds) - 1)
            time.sleep(seconds / rounds)
            for stand in stands:
                stand.end()
            for stand in stands:
                stand.join()
            note(f"{time.monotonic() - began:4.0f} s: {'; '.join(map(line, stands))}")
        for stand in stands:
            stand.stop()
    except KeyboardInterrupt:
        note("interrupted")
    finally:
        for stand in stands:
            stand.kill()
    return {
        stand.name: (stand.results, dict(stand.chaos.done))
        for stand in stands
        if stand.results.rests
    }


def line(stand: Stand) -> str:
    """A server's state after a round."""
    results, last = stand.results, stand.results.rests[-1]
    return (
        f"{stand.name} {results.sent.total():,} requests, {results.excused.total()} excused, "
        f"{len(results.failed)} failed, {results.crossed} crossed, {len(results.faults)} faults, "
        f"router {last['router'].pss / 1024:.1f} MiB and {last['router'].descriptors} descriptors"
    )
