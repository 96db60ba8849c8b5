"""What Linux says about processes: who belongs to a session, and what they use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may itself hold blanks and brackets."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def members(session: int) -> list[int]:
    """The pids of a session's processes, zombies left out."""
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = _stat(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return sorted(found)


def title(pid: int) -> str:
    """The command line as `ps` shows it."""
    raw = (PROC / str(pid) / "cmdline").read_bytes()
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def cpu_seconds(pids: list[int]) -> float:
    """Processor time, user and system, that these processes have used so far.

    A process that has gone counts nothing: its parent does not add it up here.
    """
    total = 0
    for pid in pids:
        try:
            fields = _stat(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


@dataclass(frozen=True)
class Memory:
    """Memory in KiB: proportional (shared pages divided among their users), private, resident."""

    pss: int
    uss: int
    rss: int

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.pss + other.pss, self.uss + other.uss, self.rss + other.rss)


def memory(pid: int) -> Memory:
    sizes: dict[str, int] = {}
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        sizes[name] = int(value.split()[0])
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Memory(sizes["Pss"], private, sizes["Rss"])


def reset_peak(pid: int) -> None:
    """Make VmHWM begin again at what is resident now (proc(5), clear_refs)."""
    (PROC / str(pid) / "clear_refs").write_text("5")


def _status(pid: int, field: str) -> int:
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    raise KeyError(f"/proc/{pid}/status has no {field}")


def resident(pid: int) -> int:
    """Resident memory in KiB."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> int:
    """The most resident memory in KiB since `reset_peak`."""
    return _status(pid, "VmHWM")


def busy_share(before: list[int], after: list[int]) -> float:
    """The share of all processors' time that was not idle between two readings of `cpu_times`."""
    spent = [late - early for early, late in zip(before, after, strict=True)]
    total = sum(spent)
    return 1 - (spent[3] + spent[4]) / total if total else 0.0


def cpu_times() -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq, steal: ticks of all processors together."""
    return [int(field) for field in (PROC / "stat").read_text().splitlines()[0].split()[1:9]]
