"""The counter of redis_counter.py for ASGI: Quart and redis.asyncio."""

from __future__ import annotations

import os

import redis.asyncio
from quart import Quart, Response

app = Quart(__name__)
store = redis.asyncio.Redis.from_url(os.environ["BENCH_REDIS_URL"])


@app.route("/")
async def count() -> Response:
    await store.incr("hits")
    return Response(f"{int(await store.get('hits')):012d}\n", mimetype="text/plain")


@app.route("/wait")
async def wait() -> Response:
    if await store.blpop(["nobody-pushes-here"], timeout=0.5) is not None:
        raise RuntimeError("the list that nobody pushes to had an element")
    return Response("waited\n", mimetype="text/plain")
