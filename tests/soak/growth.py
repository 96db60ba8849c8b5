"""Memory and descriptors of a server at rest, and how much more they may be at the end."""

from __future__ import annotations

from typing import NamedTuple

from bench import procfs

from integration.processes import descriptors
from integration.server import Server

# KiB of proportional (PSS) and of private memory (USS) by which a process may have grown. An
# allocator keeps what it was given in a peak; a leak of 1 KiB a request is far beyond.
MOST_KIB = {"arbiter": 2048, "router": 8192, "worker": 16384}
# How many descriptors more it may have.
MOST_DESCRIPTORS = 0


class Use(NamedTuple):
    """What one process uses; of the workers, the one that uses the most. Sizes in KiB."""

    pss: int
    rss: int
    uss: int
    descriptors: int


def use(pid: int) -> Use:
    """Of one process. Raises OSError when it has gone."""
    memory = procfs.memory(pid)
    return Use(memory.pss, memory.rss, memory.uss, len(descriptors(pid)))


def most(uses: list[Use]) -> Use:
    """The most of each."""
    return Use(*(max(values) for values in zip(*uses, strict=True)))


def used(server: Server) -> dict[str, Use]:
    """Of all processes of a server, by what they are."""
    workers = []
    for pid in server.workers:
        try:
            workers.append(use(pid))
        except OSError:
            continue  # It was recycled just now.
    return {"arbiter": use(server.pid), "router": use(server.router), "worker": most(workers)}


def faults(first: dict[str, Use], last: dict[str, Use]) -> list[str]:
    """What has grown beyond its bound."""
    found = []
    for name, bound in MOST_KIB.items():
        before, after = first[name], last[name]
        for what in ("pss", "uss"):
            growth = getattr(after, what) - getattr(before, what)
            if growth > bound:
                found.append(f"the {what} of the {name} grew by {growth} KiB, beyond {bound}")
        more = after.descriptors - before.descriptors
        if name != "worker" and more > MOST_DESCRIPTORS:
            found.append(f"the {name} has {more} descriptors more")
    return found
