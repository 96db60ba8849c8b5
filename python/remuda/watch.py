"""Finding out that a process does not answer, and what it does instead."""

# pathlib would cost the arbiter 0.9 MiB.
# ruff: noqa: PTH123

from __future__ import annotations

import os

# How many questions in a row must stay without an answer.
TURNS = 4
# From so many percent of a processor on, whoever does not answer is spinning.
SPINNING = 80
STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting for a device",
    "T": "stopped",
    "t": "held by a debugger",
    "Z": "dead",
}


class Watch:
    """When to ask whether someone lives, and whether it has been silent for too long.

    It counts its own turns, not seconds: a clock may go on while the machine is suspended or all of
    us are frozen, and then whoever asks was as silent as whoever is asked. A turn that comes late
    begins the count anew.
    """

    def __init__(self, timeout: float, now: float) -> None:
        """`timeout` is how many seconds of silence are too many; 0 never asks."""
        self.timeout = timeout
        self.unanswered = 0
        # When the next question is due.
        self.due = now if timeout > 0 else None

    def answered(self) -> None:
        """It lives."""
        self.unanswered = 0

    def asks(self, now: float) -> bool:
        """Whether it must be asked now: at most once for each time that `due` has come."""
        if self.due is None or now < self.due:
            return False
        pause = self.timeout / TURNS
        if now - self.due > pause:
            self.unanswered = 0
        self.due = now + pause
        self.unanswered += 1
        return self.unanswered <= TURNS

    @property
    def silent(self) -> bool:
        """Whether the question after the last that it could have answered was due."""
        return self.unanswered > TURNS


class Sight:
    """What a process was seen doing: its state, and the seconds of a processor it has had."""

    def __init__(self, state: str, used: float, now: float) -> None:
        self.state = state
        self.used = used
        self.now = now

    def since(self, before: Sight | None) -> str:
        """In words, for the log: the state, and the share of a processor between the two."""
        name = STATES.get(self.state, "in an odd state")
        if before is None or self.now <= before.now:
            return f"{name} (state {self.state})"
        percent = round(100 * (self.used - before.used) / (self.now - before.now))
        if self.state == "R" and percent >= SPINNING:
            name = "spinning"
        return f"{name} (state {self.state}, {percent} % of a processor)"


def look(pid: int, now: float) -> Sight | None:
    """What a process does, from proc_pid_stat(5). None where that is not to be had."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name before it, in parentheses, may hold anything.
            fields = file.read().rpartition(b")")[2].split()
        used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return Sight(fields[0].decode(), used, now)
    except (OSError, IndexError, ValueError):
        return None


def place(pid: int) -> str:
    """The function of the kernel in which a process waits, where that may be known; else empty."""
    try:
        with open(f"/proc/{pid}/wchan", encoding="ascii") as file:
            name = file.read().strip()
    except (OSError, ValueError):
        return ""
    return "" if name == "0" else name
