"""Large bodies, WSGI: GET streams as many bytes as the query says, POST counts what it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

CHUNK = bytes(64 * 1024)


def zeros(size: int) -> Iterator[bytes]:
    while size > 0:
        yield CHUNK[:size] if size < len(CHUNK) else CHUNK
        size -= len(CHUNK)


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    if environ["REQUEST_METHOD"] == "GET":
        size = int(environ["QUERY_STRING"] or 0)
        headers = [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))]
        start_response("200 OK", headers)
        return zeros(size)
    total = 0
    while chunk := environ["wsgi.input"].read(len(CHUNK)):
        total += len(chunk)
    body = f"{total}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
