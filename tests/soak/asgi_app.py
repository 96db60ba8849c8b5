"""What the soak asks of an ASGI application, in FastAPI."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse

from soak import begun
from soak.bodies import pieces, whole

app = FastAPI()


class Named:
    """Every path ends with the request's name, which the field X-Id says again, both ways."""

    def __init__(self, inner: Callable[..., Awaitable[None]]) -> None:
        self.inner = inner

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        name = scope["path"].rpartition("/")[2]
        begun.note(name)
        said = dict(scope["headers"]).get(b"x-id", b"nobody").decode()

        async def signed(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-id", name.encode())]
            await send(message)

        if said != name:
            complaint = PlainTextResponse(f"{name} came with the fields of {said}", 409)
            await complaint(scope, receive, signed)
        else:
            await self.inner(scope, receive, signed)


app.add_middleware(Named)


@app.get("/hello/{name}", response_class=PlainTextResponse)
async def hello(name: str) -> str:
    return f"hello {name}"


@app.get("/wait/{name}", response_class=PlainTextResponse)
def wait(name: str, seconds: float) -> str:
    """A plain function: FastAPI calls it in a thread."""
    time.sleep(seconds)
    return f"waited {name}"


@app.post("/digest/{name}")
async def digest(name: str, request: Request) -> dict[str, Any]:
    length, sha256 = 0, hashlib.sha256()
    async for piece in request.stream():
        length += len(piece)
        sha256.update(piece)
    return {"name": name, "length": length, "sha256": sha256.hexdigest()}


@app.post("/echo/{name}")
async def echo(name: str, request: Request) -> Response:
    return Response(await request.body(), media_type="application/octet-stream")


@app.get("/block/{name}")
async def block(name: str, size: int) -> Response:
    return Response(whole(name, size))


@app.get("/stream/{name}")
async def stream(name: str, size: int) -> StreamingResponse:
    return StreamingResponse(pieces(name, size))


@app.get("/file/{name}")
async def file(name: str, file: str) -> FileResponse:
    return FileResponse(f"files/{file}")


@app.get("/events/{name}")
async def events(name: str, count: int) -> StreamingResponse:
    async def each() -> AsyncIterator[str]:
        for number in range(count):
            yield f"data: {name} {number}\n\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(each(), media_type="text/event-stream")
