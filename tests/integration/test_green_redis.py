"""Applications that wait on Redis, under gevent and eventlet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from green_driver import CLASSES, Server
from redis_server import HOW, MISSING, redis_server

pytestmark = pytest.mark.skipif(MISSING, reason=HOW)

APPLICATION = """
import redis
client = redis.Redis(port=PORT, max_connections=1000)
inside = most = 0

def app(environ, start_response):
    global inside, most
    inside += 1
    most = max(most, inside)
    # No replica will ever confirm: Redis answers after 100 ms.
    answer = client.wait(1, 100)
    inside -= 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d %d %d" % (answer, most, client.incr("hits"))]
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with redis_server(tmp_path) as port:
        yield port


async def requests(port: int, count: int) -> list[bytes]:
    """So many requests at once, each over a connection of its own; their bodies."""

    async def one() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 60)
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), answer
        return body

    return list(await asyncio.gather(*(one() for _ in range(count))))


@pytest.mark.parametrize("name", CLASSES)
def test_a_thousand_requests_wait_on_redis_at_the_same_time(
    name: str, tmp_path: Path, port: int
) -> None:
    server = Server(tmp_path, APPLICATION.replace("PORT", str(port)), "-k", name)
    try:
        asyncio.run(requests(server.port, 1000))  # the connections to Redis are made
        begun = time.monotonic()
        bodies = asyncio.run(requests(server.port, 1000))
        seconds = time.monotonic() - begun
    finally:
        server.stop()
    print(f"{name}: 1,000 requests of 100 ms in {seconds:.2f} s")
    waited, most, hits = zip(*(map(int, body.split()) for body in bodies), strict=True)
    assert set(waited) == {0}
    # One after the other they would take 100 s.
    assert max(most) > 500
    assert sorted(hits) == list(range(1001, 2001))
    assert seconds < 10
