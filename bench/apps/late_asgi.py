"""Late binding, ASGI: `/slow` blocks the event loop for 500 ms, as a call that computes does.

Everything else answers at once (`app`) or computes for 150 us (`busy`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import hello_asgi
from late import compute


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] == "http" and scope["path"] == "/slow":
        time.sleep(0.5)
    await hello_asgi.app(scope, receive, send)


async def busy(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] == "http" and scope["path"] != "/slow":
        compute()
    await app(scope, receive, send)
