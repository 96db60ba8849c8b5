"""What a soak has found, as Markdown."""

from __future__ import annotations

import re
from collections import Counter

from bench.report import heading, table

from . import growth
from .kinds import KINDS
from .run import first_to_compare
from .stand import Results

# How many failures of a class are shown.
SHOWN = 10


def summary(found: dict[str, tuple[Results, dict[str, int]]]) -> bool:
    """Print it all. Whether anything is wrong."""
    classes = list(found)
    results = {name: result for name, (result, _) in found.items()}
    heading("Soak")
    rows = [
        [
            name,
            f"{result.sent.total():,}",
            str(result.excused.total()),
            str(len(result.failed)),
            str(result.crossed),
            str(len(result.faults)),
        ]
        for name, result in results.items()
    ]
    table(["class", "requests", "excused", "failed", "crossed", "faults"], rows)
    counts = [[kind, *(f"{results[name].sent[kind]:,}" for name in classes)] for kind in KINDS]
    table(["requests", *classes], counts)
    table(["done to them", *classes], tallied({name: each for name, (_, each) in found.items()}))
    table(["excused", *classes], tallied({name: each.excused for name, each in results.items()}))
    growths(results)
    is_wrong = False
    for name, result in results.items():
        before = result.rests[compared(result)]
        grown = growth.faults(before, result.rests[-1])
        is_wrong = is_wrong or bool(result.failed or result.faults or grown)
        complaints(name, result, grown)
    return is_wrong


def compared(result: Results) -> int:
    """Which of the rests growth is counted from."""
    rounds = len(result.rests)
    return min(first_to_compare(rounds), rounds) - 1


def tallied(counts: dict[str, dict[str, int]]) -> list[list[str]]:
    """A row for each name that any class has counted."""
    names = sorted({name for each in counts.values() for name in each})
    return [[name, *(str(each.get(name, 0)) for each in counts.values())] for name in names]


def growths(results: dict[str, Results]) -> None:
    """A row for each process of each class."""
    rows = []
    for name, result in results.items():
        first, last = result.rests[compared(result)], result.rests[-1]
        for process in first:
            before, now = first[process], last[process]
            rows.append(
                [
                    f"{name} {process}",
                    *(
                        f"{one / 1024:.1f} -> {other / 1024:.1f}"
                        for one, other in zip(before[:3], now[:3], strict=True)
                    ),
                    f"{before.descriptors} -> {now.descriptors}",
                ]
            )
    print("At rest, after the first quarter of the rounds and at the end; MiB. Of the workers the ")
    print("one that had the most, at the end of the load.\n")
    table(["process", "PSS", "RSS", "USS", "descriptors"], rows)


def complaints(name: str, result: Results, grown: list[str]) -> None:
    """The first of what is wrong with one class."""
    if not (result.failed or result.faults or grown):
        print(f"{name}: nothing failed.\n")
        return
    print(f"{name}:\n")
    reasons = Counter(f"{failure.kind}: {failure.what}" for failure in result.failed)
    for reason, count in reasons.most_common():
        print(f"- {count} {reason}")
    for failure in result.failed[:SHOWN]:
        print(f"- {failure.name}, {failure.until - failure.since:.2f} s: {failure.detail}")
    # Those that differ in a number only are the same.
    alike = Counter(re.sub("[0-9]+", "N", fault) for fault in result.faults)
    shown = {re.sub("[0-9]+", "N", fault): fault for fault in reversed(result.faults)}
    for fault in grown:
        print(f"- {fault}")
    for pattern, count in alike.most_common(SHOWN):
        print(f"- {count} times: {shown[pattern]}")
    print(flush=True)
