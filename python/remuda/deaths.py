"""What is said of workers that die: each of a few, and of many a line every few seconds."""

from __future__ import annotations

from collections import Counter, deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# So many deaths within so many seconds are told one by one.
FEW = 5
WINDOW = 10.0
# Seconds until the rest is told, the first time: what they were doing is known a moment later.
SOON = 0.5
# ... and from then on.
EVERY = 5.0
# How many ways to die, and requests, a line names.
NAMED = 3
# How many different requests are counted.
COUNTED = 64


class Deaths:
    """The deaths that nobody expected."""

    def __init__(self) -> None:
        # When and how the last ones died.
        self._last: deque[tuple[float, str]] = deque(maxlen=FEW + 1)
        # When the next line is due; None while each death is told.
        self.due: float | None = None
        self._since = 0.0
        self._ways: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()

    def died(self, how: str, now: float) -> bool:
        """A worker has died. Whether to tell it: else it is part of a later line."""
        if self._last and now - self._last[-1][0] >= WINDOW:
            self._last.clear()
            self._requests.clear()
        self._last.append((now, how))
        if self.due is not None:
            self._ways[how] += 1
            return False
        since = self._last[0][0]
        if len(self._last) <= FEW or now - since >= WINDOW:
            return True
        self.due, self._since = now + SOON, since
        # The first line tells of all, so that its numbers are whole.
        self._ways.update(way for _, way in self._last)
        return False

    def lost(self, what: str) -> bool:
        """These requests were lost by a death. Whether to tell it."""
        if what in self._requests or len(self._requests) < COUNTED:
            self._requests[what] += 1
        return self.due is None

    def line(self, now: float) -> str | None:
        """What is due to be said of all that was not told."""
        if self.due is None or now < self.due:
            return None
        return self._tell(now)

    def rest(self, now: float) -> str | None:
        """The same, when it is not due, but the end."""
        return None if self.due is None else self._tell(now)

    def _tell(self, now: float) -> str | None:
        number = self._ways.total()
        if not number:
            # Nobody has died since the last line: the next one is told again.
            self.due = None
            return None
        text = f"Workers die again and again: {number} within {max(now - self._since, 0.1):.1f} s"
        text += f" ({_most(self._ways)})"
        if self._requests:
            text += f", while they served {_most(self._requests)}"
        self._ways.clear()
        self._requests.clear()
        self.due, self._since = now + EVERY, now
        return text


def _most(counter: Counter[str]) -> str:
    parts = [f"{number}x {name}" for name, number in counter.most_common(NAMED)]
    return ", ".join([*parts, *_others(len(counter) - NAMED)])


def _others(number: int) -> Iterable[str]:
    return [f"{number} others"] if number > 0 else []
