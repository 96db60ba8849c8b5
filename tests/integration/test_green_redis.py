"""Applications that wait on Redis, under gevent and eventlet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from green_driver import CLASSES, Server
from redis_server import HOW, MISSING, redis_server

pytestmark = pytest.mark.skipif(MISSING, reason=HOW)

APPLICATION = """
import redis
client = redis.Redis(port=PORT, max_connections=1000)

def app(environ, start_response):
    if environ["PATH_INFO"] == "/gate":
        answer = client.blpop("gate", timeout=60)[1]
    else:
        # No replica will ever confirm: Redis answers after 100 ms.
        client.wait(1, 100)
        answer = b"%d" % client.incr("hits")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer]
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with redis_server(tmp_path) as port:
        yield port


async def requests(port: int, count: int, path: str) -> list[bytes]:
    """So many requests at once, each over a connection of its own; their bodies."""

    async def one() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = await asyncio.wait_for(reader.read(), 60)
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), answer
        return body

    return list(await asyncio.gather(*(one() for _ in range(count))))


@pytest.fixture(params=CLASSES)
def server(request: pytest.FixtureRequest, tmp_path: Path, port: int) -> Iterator[Server]:
    server = Server(tmp_path, APPLICATION.replace("PORT", str(port)), "-k", request.param)
    yield server
    server.stop()


def test_a_thousand_requests_wait_on_redis_at_the_same_time(server: Server, port: int) -> None:
    client = redis.Redis(port=port)

    async def all_of_them() -> list[bytes]:
        waiting = asyncio.create_task(requests(server.port, 1000, "/gate"))
        while client.info("clients")["blocked_clients"] < 1000:
            assert not waiting.done(), waiting.result()
            await asyncio.sleep(0.02)
        client.rpush("gate", *range(1000))
        return await waiting

    bodies = asyncio.run(asyncio.wait_for(all_of_them(), 60))
    assert sorted(map(int, bodies)) == list(range(1000))


def test_a_thousand_waits_of_100_ms_overlap(server: Server) -> None:
    asyncio.run(requests(server.port, 1000, "/"))  # the connections to Redis are made
    begun = time.monotonic()
    bodies = asyncio.run(requests(server.port, 1000, "/"))
    seconds = time.monotonic() - begun
    print(f"1,000 requests of 100 ms in {seconds:.2f} s")
    assert sorted(map(int, bodies)) == list(range(1001, 2001))
    assert seconds < 50  # one after the other they take 100
