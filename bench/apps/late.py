"""Late binding, WSGI: `/slow` holds its slot for 500 ms, everything else answers at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import hello


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.5)
    return hello.app(environ, start_response)
