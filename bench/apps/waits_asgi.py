"""Waits 100 ms and answers, ASGI; everything but `/` answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import hello_asgi


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] == "http" and scope["path"] == "/":
        await asyncio.sleep(0.1)
    await hello_asgi.app(scope, receive, send)
