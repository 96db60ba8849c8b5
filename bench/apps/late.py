"""Late binding, WSGI: `/slow` holds its slot for 500 ms.

Everything else answers at once (`app`) or computes for 150 us (`busy`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import hello


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.5)
    return hello.app(environ, start_response)


def compute() -> None:
    """Keep the processor for 150 us of this thread's time."""
    end = time.thread_time_ns() + 150_000
    while time.thread_time_ns() < end:
        pass


def busy(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    if environ["PATH_INFO"] != "/slow":
        compute()
    return app(environ, start_response)
