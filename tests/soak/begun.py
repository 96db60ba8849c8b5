"""Which process began which request: the application's own witness, a file a process.

The client learns from it whether a request that failed was in the hands of a worker that was
killed, and that none was begun twice.
"""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from pathlib import Path

# In the working directory of the server, which the one who starts it makes.
DIRECTORY = "begun"


@functools.cache
def _file(pid: int) -> int:
    return os.open(f"{DIRECTORY}/{pid}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def note(request: str) -> None:
    """Say that this process begins the request: in one write, whenever it is killed."""
    os.write(_file(os.getpid()), f"{request}\n".encode())


def collect(directory: Path) -> dict[str, list[int]]:
    """For each request the processes that began it, since the last time. Nothing may be running."""
    found: dict[str, list[int]] = defaultdict(list)
    for file in (directory / DIRECTORY).iterdir():
        for request in file.read_text().splitlines():
            found[request].append(int(file.name))
        os.truncate(file, 0)
    return found
