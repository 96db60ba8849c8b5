"""When to try again, so that nothing is forked without end: three kinds of pause.

Workers that never become ready wait longer and longer (`Backoff`). Those that served are replaced
at once, but not too many a second (`Allowance`). Where the machine has no process or descriptor to
give, it is asked again after a moment (`Retry`).
"""

from __future__ import annotations

import math

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


class Allowance:
    """So many at once, and so many a second after that.

    What is beyond it is owed: it was spent, and is earned later.
    """

    def __init__(self, at_once: int, a_second: float) -> None:
        self._most = float(at_once)
        self._rate = a_second
        self._left = self._most
        self._seen = float("-inf")

    def spend(self, now: float) -> None:
        """One more."""
        self._earn(now)
        self._left -= 1

    def owed(self, now: float) -> int:
        """How many must wait now."""
        self._earn(now)
        # What is missing for lack of precision alone is not owed.
        return max(0, math.ceil(-self._left - 1e-6))

    def due(self, now: float) -> float:
        """When there is one less to wait; `now` when none does."""
        owed = self.owed(now)
        # With one less to wait, what is left is 1 - owed.
        return self._seen + (1 - owed - self._left) / self._rate if owed else now

    def _earn(self, now: float) -> None:
        if now > self._seen:
            self._left = min(self._most, self._left + (now - self._seen) * self._rate)
            self._seen = now


class Retry:
    """What fails for want of something that the machine may have again in a moment."""

    # Seconds between attempts.
    PAUSE = 0.5

    def __init__(self) -> None:
        self.not_before = float("-inf")
        self._failures = 0
        self._said: set[str] = set()

    def failed(self, why: str, now: float) -> bool:
        """It failed. Whether that is news, and to be said."""
        self.not_before = now + self.PAUSE
        self._failures += 1
        is_news = why not in self._said
        self._said.add(why)
        return is_news

    def worked(self) -> int:
        """It went well. How often it had failed before."""
        failures, self._failures = self._failures, 0
        self._said.clear()
        self.not_before = float("-inf")
        return failures
