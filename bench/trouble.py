"""A server that cannot be measured is named, and does not end the run of the others."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator

from bench import report
from bench.process import BenchError

seen: list[str] = []


@contextlib.contextmanager
def noted(name: str) -> Iterator[None]:
    """Remember what went wrong inside, for the end of the report and the exit code."""
    try:
        yield
    except (BenchError, OSError, http.client.HTTPException) as error:
        text = f"{name}: {error or repr(error)}"
        report.note(f"bench: {text}")
        seen.append(text)


def summary() -> None:
    if seen:
        report.heading("What could not be measured")
        for text in seen:
            lines = [line for line in text.splitlines() if line.strip()]
            print(f"- {' ... '.join(dict.fromkeys([lines[0], lines[-1].strip()]))}")
