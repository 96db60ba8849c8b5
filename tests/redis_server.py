"""A redis-server of the tests' own."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from arbiter_driver import eventually

MISSING = shutil.which("redis-server") is None
HOW = "needs redis-server: apt-get install redis-server"


@contextmanager
def redis_server(directory: Path) -> Iterator[int]:
    """Run one on a port of its own, with nothing on disk; gives the port."""
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with (directory / "redis.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *("redis-server", "--bind", "127.0.0.1", "--port", str(port)),
                    *("--save", "", "--appendonly", "no", "--dir", str(directory)),
                    *("--maxclients", "5000", "--tcp-backlog", "2048"),
                ],
                stdout=log,
                stderr=log,
            )
        try:
            # Someone else may have taken the port meanwhile: then it exits.
            eventually("redis answers", partial(_answers_or_is_dead, process, port))
            if process.poll() is None:
                yield port
                return
        finally:
            process.terminate()
            process.wait(10)
    raise AssertionError((directory / "redis.log").read_text())


def _answers_or_is_dead(process: subprocess.Popen[bytes], port: int) -> bool:
    return process.poll() is not None or _answers(port)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"PING\r\n")
            return client.recv(100) == b"+PONG\r\n"
    except OSError:
        return False
