"""What /proc tells of processes, and waiting for a condition."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Seconds that something may take which takes a fraction of one on an idle machine. Only a failing
# test ever waits so long.
PATIENCE = 20.0


def eventually(what: str, condition: Callable[[], T], within: float = PATIENCE) -> T:
    """Wait until `condition` gives something true, and give that.

    Raises AssertionError, which names `what`, after `within` seconds.
    """
    deadline = time.monotonic() + within
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(0.01)


def _stat(pid: int) -> list[str]:
    """The fields of proc_pid_stat(5) from the state on; empty when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name before it, in parentheses, may hold anything.
    return text.rpartition(")")[2].split()


def alive(pid: int) -> bool:
    """Whether the process runs: a zombie does not."""
    return _stat(pid)[:1] not in ([], ["Z"], ["X"])


def state(pid: int) -> str:
    """Its state, a letter: R runs, S sleeps, T is stopped, Z is a zombie; empty when gone."""
    return next(iter(_stat(pid)), "")


def start_time(pid: int) -> str:
    """When it was started, in ticks since the boot: with the pid it names a process for good."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def children(pid: int) -> list[int]:
    """The living children of a process, in the order of their birth."""
    found = []
    for number in _all():
        fields = _stat(number)
        if len(fields) > 19 and fields[0] not in "ZX" and int(fields[1]) == pid:
            found.append((int(fields[19]), number))
    return [number for _, number in sorted(found)]


def session(leader: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for number in _all():
        fields = _stat(number)
        if len(fields) > 3 and fields[0] not in "ZX" and int(fields[3]) == leader:
            found.append(number)
    return found


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def title(pid: int) -> str:
    """What ps(1) shows; empty when it is gone."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return command.rstrip(b"\0").replace(b"\0", b" ").decode()


def threads(pid: int) -> int:
    """How many threads it has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def memory(pid: int) -> int:
    """The bytes of memory that are its own: private pages, written or not."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            total += int(line.split()[1]) * 1024
    return total


def descriptors(pid: int) -> list[str]:
    """What its descriptors point at."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:
            continue
    return found
