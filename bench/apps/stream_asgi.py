"""Large bodies, ASGI: GET streams as many bytes as the query says, POST counts what it receives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from stream import zeros

Send = Callable[[dict[str, Any]], Awaitable[None]]


async def start(send: Send, kind: bytes, size: int) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send
) -> None:
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    if scope["method"] == "GET":
        size = int(scope["query_string"] or 0)
        await start(send, b"application/octet-stream", size)
        for chunk in zeros(size):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    total = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        total += len(event.get("body", b""))
        if not event.get("more_body", False):
            break
    body = f"{total}\n".encode()
    await start(send, b"text/plain", len(body))
    await send({"type": "http.response.body", "body": body})
