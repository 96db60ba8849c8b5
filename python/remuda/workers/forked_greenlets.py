"""Greenlets in a process that was forked from theirs.

Threads do not outlive a fork: the child has the one that forked. Greenlets do, and would go on in
both processes as soon as the child lets its hub run: each request that waits would be served again,
on the same connections to databases. Here they are as threads are. They cannot be ended, for that
would run their `finally` blocks; so they are kept, and whoever is switched to goes back at once.
"""

from __future__ import annotations

import gc

import greenlet

from .. import forks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    Switch = tuple[greenlet.greenlet, greenlet.greenlet]
    Trace = Callable[[Literal["switch", "throw"], Switch], object]


class ForkedGreenlets:
    """Keeps all greenlets but the one that forked, and the hub, from going on in the child."""

    def __init__(self, hub: greenlet.greenlet) -> None:
        """`hub` is the greenlet of the child's hub."""
        self._hub = hub
        self._forker = greenlet.getcurrent()
        self._others = {
            found
            for found in gc.get_objects()
            if isinstance(found, greenlet.greenlet) and found not in (hub, self._forker)
        }
        self._before: Trace | None = greenlet.settrace(self._on_switch)

    def _on_switch(self, event: Literal["switch", "throw"], switch: Switch) -> None:
        """Called in the greenlet that was switched to, before it goes on."""
        if self._before is not None:
            self._before(event, switch)
        if self._forker.dead:
            forks.leave(getattr(self._forker, "exception", None))
        origin, target = switch
        if target in self._others:
            back = self._hub if origin.dead else origin
            while True:
                back.switch()
