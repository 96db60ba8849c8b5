"""The end: TERM lets everyone finish, INT and QUIT do not. Each phase has a deadline."""

from __future__ import annotations

import signal
from enum import Enum

from .children import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .arbiter import Arbiter

# Seconds for the router to say `stopped` after it has cut what was left, and for the workers to
# exit when nothing is asked of them any more.
SLACK = 1.0
# Seconds that a child has when it is to exit at once.
AT_ONCE = 2.0
# Seconds that a router may leave questions without an answer while it drains.
ANSWER = 3.0
# Seconds that it has to go when nobody finishes anything.
QUIT = 0.5
# Seconds until a child that does not even die of SIGKILL (it hangs in the kernel) is left behind.
IMMORTAL = 5.0


class Phase(Enum):
    """What is being waited for."""

    DRAINING = "the router serves what came"
    FINISHING = "the workers exit"
    LEAVING = "the router exits"
    OVER = "nothing"


class Shutdown:
    """A shutdown under way."""

    def __init__(self, arbiter: Arbiter, exit_code: int) -> None:
        self.arbiter = arbiter
        self.exit_code = exit_code
        self.phase = Phase.DRAINING
        self.graceful = False
        self.began = self.deadline = 0.0

    def gracefully(self, now: float) -> None:
        """TERM: no new connections; serve what came; then the workers."""
        arbiter = self.arbiter
        grace = arbiter.config.graceful_timeout
        self.graceful = True
        self.began = now
        self.deadline = now + grace
        arbiter.router.resume()
        arbiter.router.send({"type": "stop", "grace": grace})
        # It must answer soon now: whoever sent TERM may send KILL in ten seconds.
        arbiter.router.watch(min(arbiter.config.router_timeout, ANSWER), now)
        self._close_listeners()

    def at_once(self, now: float) -> None:
        """INT, QUIT, or a second TERM: nobody finishes anything."""
        self.graceful = False
        self.deadline = now
        self.phase = Phase.FINISHING
        self._close_listeners()
        self.arbiter.router.resume()
        self.arbiter.router.send({"type": "quit"})
        for child in self.arbiter.children:
            self.arbiter.signal(child, signal.SIGQUIT)
            # One that is stopped would not see it.
            self.arbiter.signal(child, signal.SIGCONT)
            self.arbiter.children.dismiss(child, now + AT_ONCE)

    def router_stopped(self, now: float) -> None:
        """The router holds no connection any more, or there is none."""
        if self.phase is Phase.DRAINING:
            self._finish(now)

    def advance(self, now: float) -> None:
        """Go on to the next phase when this one is done or has taken too long."""
        arbiter = self.arbiter
        if self.phase is Phase.DRAINING and (
            arbiter.router.pid is None or now >= self.deadline + SLACK
        ):
            if arbiter.router.pid is not None:
                arbiter.log.warning("The router has not drained in time")
            self._finish(now)
        if self.phase is Phase.FINISHING:
            immortal = now >= self.deadline + AT_ONCE + IMMORTAL
            if immortal:
                for child in arbiter.children:
                    arbiter.log.error("Worker (pid:%s) does not die: left behind", child.pid)
            if immortal or not len(arbiter.children):
                self.phase = Phase.LEAVING
                self.deadline = now + (AT_ONCE if self.graceful else QUIT)
                arbiter.router.send({"type": "quit"})
        if self.phase is Phase.LEAVING:
            if arbiter.router.pid is not None and now >= self.deadline:
                if not arbiter.router.killed:
                    arbiter.log.warning("The router does not exit: killed")
                    arbiter.router.kill()
                    self.deadline = now + IMMORTAL
                else:
                    arbiter.log.error(
                        "Router (pid:%s) does not die: left behind", arbiter.router.pid
                    )
                    self.phase = Phase.OVER
            if arbiter.router.pid is None:
                self.phase = Phase.OVER

    @property
    def over(self) -> bool:
        """Whether everyone is gone."""
        return self.phase is Phase.OVER

    @property
    def serving(self) -> bool:
        """Whether requests are still served, so that dead workers are replaced."""
        return self.phase is Phase.DRAINING

    def next_event(self) -> float | None:
        """When to look again though nothing happened."""
        if self.phase is Phase.DRAINING:
            return self.deadline + SLACK
        if self.phase is Phase.FINISHING:
            return self.deadline + AT_ONCE + IMMORTAL
        return self.deadline

    def _finish(self, now: float) -> None:
        """Nobody is connected any more: the workers finish what they still do, and exit."""
        self.phase = Phase.FINISHING
        self.deadline = max(self.deadline, now + SLACK)
        for child in self.arbiter.children:
            if child.state is not State.DYING:
                self.arbiter.signal(child, signal.SIGTERM)
                self.arbiter.children.dismiss(child, self.deadline)

    def _close_listeners(self) -> None:
        self.arbiter.listeners.close()
        self.arbiter.listeners.unlink()
