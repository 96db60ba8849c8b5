"""Uploads without end: so many connections, each sends one body after the other as fast as it may.

`whole`: bodies of 16 MiB with a Content-Length. `tiny`: chunked bodies whose chunks hold one byte
each, 4 MiB of them. A body is answered before the next one begins; an answer that is not 200
counts as failed.

Prints one JSON object: seconds, bytes of bodies sent in them (chunk framing not counted), uploads
that were answered, and failed ones with their reasons.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

WHOLE = 16 * 2**20
TINY = 4 * 2**20
CHUNK = b"1\r\nx\r\n"
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Kind:
    """How a body goes out: the fields that announce it, a block of it, how often, its end.

    `weight` is the share of a block that is data.
    """

    fields: bytes
    block: bytes
    blocks: int
    end: bytes
    weight: float


def kinds() -> dict[str, Kind]:
    block = bytes(256 * 1024)
    chunks = CHUNK * (len(block) // len(CHUNK))
    tiny = TINY // (len(chunks) // len(CHUNK))
    return {
        "whole": Kind(b"Content-Length: %d" % WHOLE, block, WHOLE // len(block), b"", 1.0),
        "tiny": Kind(b"Transfer-Encoding: chunked", chunks, tiny, b"0\r\n\r\n", 1 / len(CHUNK)),
    }


@dataclass
class Tally:
    """What one connection saw."""

    sent: int = 0
    answered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def upload(link: socket.socket, kind: Kind, tally: Tally, end: float) -> bool:
    """Send one body and read its answer; False when the time is over before."""
    link.sendall(b"POST / HTTP/1.1\r\nHost: bench\r\n" + kind.fields + b"\r\n\r\n")
    view = memoryview(kind.block)
    for _ in range(kind.blocks):
        at = 0
        while at < len(view):
            if time.monotonic() > end:
                return False
            count = link.send(view[at:])
            tally.sent += count
            at += count
    link.sendall(kind.end)
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = link.recv(65536)
        if not part:
            raise ConnectionError("the connection ended before the answer")
        answer += part
    head, _, body = answer.lower().partition(b"\r\n\r\n")
    size = int(head.partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0])
    while len(body) < size:
        body += link.recv(65536)
    if not head.startswith(b"http/1.1 200"):
        raise ConnectionError(f"status {head.split(b' ', 2)[1].decode()}")
    tally.answered += 1
    return b"\r\nconnection: close" not in head


def keep_uploading(port: int, kind: Kind, tally: Tally, end: float) -> None:
    """One connection after the other; each carries as many uploads as the server lets it."""
    while time.monotonic() < end:
        try:
            address = ("127.0.0.1", port)
            with socket.create_connection(address, timeout=PATIENCE_SECONDS) as link:
                while time.monotonic() < end and upload(link, kind, tally, end):
                    pass
        except OSError as error:
            if time.monotonic() < end:
                tally.reasons[str(error) or repr(error)] += 1
                time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.uploads", description=__doc__)
    parser.add_argument("kind", choices=sorted(kinds()))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm", type=float, default=1.0, help="time before that, not counted")
    options = parser.parse_args()
    # Whoever measures latencies on the same core goes first.
    os.nice(10)
    kind = kinds()[options.kind]
    tallies = [Tally() for _ in range(options.connections)]
    since = time.monotonic() + options.warm
    end = since + options.seconds
    threads = [
        threading.Thread(target=keep_uploading, args=(options.port, kind, tally, end), daemon=True)
        for tally in tallies
    ]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, since - time.monotonic()))
    before, began = sum(tally.sent for tally in tallies), time.monotonic()
    time.sleep(max(0.0, end - time.monotonic()))
    sent, seconds = sum(tally.sent for tally in tallies) - before, time.monotonic() - began
    for thread in threads:
        thread.join(PATIENCE_SECONDS + 1)
    reasons: Counter[str] = Counter()
    for tally in tallies:
        reasons += tally.reasons
    print(
        json.dumps(
            {
                "seconds": seconds,
                "sent": sent * kind.weight,
                "answered": sum(tally.answered for tally in tallies),
                "failed": reasons.total(),
                "reasons": reasons,
            }
        )
    )


if __name__ == "__main__":
    main()
