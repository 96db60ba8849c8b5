"""What is printed: Markdown tables on stdout, progress on stderr."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable, Sequence


def note(text: str) -> None:
    """Progress and remarks, for the one who watches."""
    print(text, file=sys.stderr, flush=True)


def heading(text: str, *remarks: str) -> None:
    print(f"\n## {text}\n", flush=True)
    for remark in remarks:
        print(f"{remark}\n", flush=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A Markdown table; the first column is text, the others are numbers."""
    body = [list(row) for row in rows]
    widths = [max(len(row[at]) for row in [list(columns), *body]) for at in range(len(columns))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in [list(columns), rule, *body]:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("| " + " | ".join([first, *rest]) + " |")
    print(flush=True)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median, with the least and the most where there was more than one round."""
    if not values:
        return "-"
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}..{max(values):,.{digits}f})"


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; `share` is 0..1."""
    if not values:
        raise ValueError("a percentile of nothing")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def verdict(reached: bool) -> str:
    return "yes" if reached else "NO"
