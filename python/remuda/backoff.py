"""Growing pauses between attempts that fail: what dies at once is not forked without end."""

from __future__ import annotations

# Seconds before the next attempt, after one failure, two, three, ...
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


class Backoff:
    """Growing pauses between attempts that fail."""

    def __init__(self) -> None:
        self.failures = 0
        self.not_before = float("-inf")
        self.failed_at = float("-inf")

    def failed(self, born: float, now: float) -> None:
        """An attempt that began at `born` failed. Those that began together count once."""
        if self.failures and born < self.failed_at:
            return
        self.failures += 1
        self.failed_at = now
        self.not_before = now + PAUSES[min(self.failures, len(PAUSES)) - 1]

    def worked(self, born: float) -> None:
        """An attempt that began at `born` went well: forget the failures before it."""
        if born >= self.failed_at:
            self.failures = 0
            self.not_before = float("-inf")
