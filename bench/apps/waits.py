"""Waits 100 ms and answers, WSGI; everything but `/` answers at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import hello


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/":
        time.sleep(0.1)
    return hello.app(environ, start_response)
