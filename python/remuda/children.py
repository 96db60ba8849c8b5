"""Who is alive, and what to do about it: bookkeeping without fork or I/O.

The arbiter tells it what happened (`forked`, `ready`, `exited`, ...) and asks what to do next
(`missing`, `surplus`, `overdue`). All times are seconds of one monotonic clock, and are given,
never read.

    BOOTING ──ready──► READY ──retire──► RETIRING ──► (exited)
       │                 │                   │
       └─────────────────┴──────doom─────────┴──► DYING ──► (exited)

A *generation* is the workers of one configuration. A reload is a *trial* generation beside the
current one: it replaces the current one when all of it is ready, and is given up when one of it
dies.
"""

from __future__ import annotations

from enum import Enum

from .backoff import Allowance, Backoff

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from typing import Any

    from .logfile import HandOver

# So many that served are replaced at once (or all of them, if there are more), and so many a second
# after that.
REPLACED = 10
# With nobody ready, the next attempt is no further away than that, in seconds.
OUTAGE = 0.5


class State(Enum):
    """What a child is doing, as the arbiter knows it."""

    BOOTING = "booting"
    READY = "ready"
    RETIRING = "retiring"
    DYING = "dying"


class Child:
    """One worker process, as the arbiter sees it. Hooks are given it as their `worker`."""

    def __init__(self, number: int, generation: int, born: float, deadline: float | None) -> None:
        self.id = number
        self.generation = generation
        self.born = born
        # What `deadline` bounds depends on the state: the boot, the last requests, the death.
        self.deadline = deadline
        self.pid = 0
        self.state = State.BOOTING
        self.ready_at: float | None = None
        # It has been given max_requests: it serves until a successor is ready.
        self.spent = False
        # We sent SIGKILL: its death by it is no sign of too little memory.
        self.killed = False
        # It was sent away through no fault of its own.
        self.dismissed = False
        # The logs were rotated while it booted: it reopens them when it is ready.
        self.reopens = False
        # Carried along for the arbiter and for hooks.
        self.cfg: Any = None
        self.log: Any = None
        self.ends: tuple[int, ...] = ()
        # How it gets the log that was opened anew, where it cannot open it itself.
        self.hand_over: HandOver | None = None
        self.slots = 1
        self.streams = self.evented = False
        self.max_requests = 0
        # While its class is not known: where it says what its application is, and what it said.
        self.link: socket.socket | None = None
        self.kind: str | None = None

    @property
    def age(self) -> int:
        """The order of birth: gunicorn's name for it."""
        return self.id

    @property
    def serving(self) -> bool:
        """Whether it serves, or will."""
        return self.state in (State.BOOTING, State.READY)

    def __repr__(self) -> str:
        return f"<Child {self.id} pid:{self.pid} {self.state.value} generation:{self.generation}>"


class Children:
    """The workers: those alive, and how many there should be."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.generation = 1
        self.trial: int | None = None
        self.trial_target = 0
        self.ever_ready = False
        self.backoff = Backoff()
        self.replaced = Allowance(max(REPLACED, target), REPLACED)
        self._by_id: dict[int, Child] = {}
        self._by_pid: dict[int, Child] = {}
        self._last_id = 0
        self._last_generation = 1

    # What there is

    def __iter__(self) -> Iterator[Child]:
        """Oldest first."""
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def by_id(self, number: int) -> Child | None:
        """The child of this id, if it is alive."""
        return self._by_id.get(number)

    def by_pid(self, pid: int) -> Child | None:
        """The child of this process id, if it is alive."""
        return self._by_pid.get(pid)

    def of(self, generation: int | None) -> list[Child]:
        """All of one generation, oldest first."""
        return [child for child in self._by_id.values() if child.generation == generation]

    # What happened

    def born(self, generation: int, now: float, deadline: float | None) -> Child:
        """A new child, about to be forked. `deadline` is when it must be ready."""
        self._last_id += 1
        return Child(self._last_id, generation, now, deadline)

    def forked(self, child: Child, pid: int) -> None:
        """The child lives."""
        child.pid = pid
        self._by_id[child.id] = child
        self._by_pid[pid] = child

    def ready(self, child: Child, now: float) -> bool:
        """The child has loaded its application. False when that was known, or matters no more."""
        if child.state is not State.BOOTING:
            return False
        child.state = State.READY
        child.ready_at = now
        child.deadline = None
        self.ever_ready = True
        if child.generation == self.generation:
            self.backoff.worked(child.born)
        return True

    def spent(self, child: Child) -> bool:
        """The child has been given `max_requests`: it needs a successor. False when known."""
        if child.state is not State.READY or child.spent:
            return False
        child.spent = True
        return True

    def retire(self, child: Child, deadline: float) -> bool:
        """The child gets no more requests, and has until `deadline` for those it holds."""
        if not child.serving:
            return False
        child.state = State.RETIRING
        child.deadline = deadline
        return True

    def doom(self, child: Child, now: float, deadline: float) -> bool:
        """The child is to die: nothing is expected of it, and at `deadline` it is killed."""
        if child.state is State.DYING:
            return False
        if child.serving:
            self._count(child, now)
        child.state = State.DYING
        child.deadline = deadline
        return True

    def dismiss(self, child: Child, deadline: float) -> None:
        """The child is to die through no fault of its own."""
        child.state = State.DYING
        child.deadline = deadline
        child.dismissed = True

    def exited(self, pid: int, now: float) -> Child | None:
        """A process was reaped. Its child, as it was when it died; None when it is none of ours."""
        child = self._by_pid.pop(pid, None)
        if child is None:
            return None
        del self._by_id[child.id]
        if child.serving:
            self._count(child, now)
        return child

    def _count(self, child: Child, now: float) -> None:
        """Count the end of `child`, which should have gone on, towards the pauses."""
        if child.generation != self.generation:
            return
        if child.ready_at is None:
            self.backoff.failed(child.born, now)
        else:
            self.replaced.spend(now)

    # How many there should be

    def adjust(self, difference: int) -> tuple[int, int] | None:
        """One more or one less, at least 1: the number now and before, None when it stays."""
        old = self.target
        self.target = max(1, old + difference)
        if self.trial is not None:
            self.trial_target = max(1, self.trial_target + difference)
        return None if self.target == old else (self.target, old)

    def begin(self, target: int) -> int:
        """Begin a trial generation of `target` workers: its number."""
        if self.trial is not None:
            raise ValueError("a trial is under way")
        self._last_generation += 1
        self.trial = self._last_generation
        self.trial_target = target
        return self.trial

    @property
    def proven(self) -> bool:
        """Whether all of the trial generation is ready."""
        ready = sum(child.state is State.READY for child in self.of(self.trial))
        return self.trial is not None and ready >= self.trial_target

    def commit(self) -> list[Child]:
        """The trial generation is the current one now. The children before it, to be retired."""
        if self.trial is None:
            raise ValueError("there is no trial")
        self.generation, self.trial = self.trial, None
        self.target = self.trial_target
        self.backoff = Backoff()
        self.replaced = Allowance(max(REPLACED, self.target), REPLACED)
        return [c for c in self if c.generation != self.generation and c.serving]

    def give_up(self) -> list[Child]:
        """The trial has failed, the current generation stays. Its children, to be sent away."""
        trial, self.trial = self.trial, None
        return [child for child in self.of(trial) if child.serving]

    # What to do next

    def missing(self, now: float) -> list[int]:
        """One generation for each worker to be forked now."""
        missing = []
        if now >= self._not_before():
            missing += [self.generation] * self._allowed(now)
        if self.trial is not None:
            missing += [self.trial] * self._lacking(self.trial, self.trial_target)
        return missing

    def surplus(self) -> list[Child]:
        """Those to retire: too many (the oldest first), or spent and succeeded.

        Never so many that fewer ready ones are left than there should be workers.
        """
        surplus = self._surplus(self.generation, self.target)
        if self.trial is not None:
            surplus += self._surplus(self.trial, self.trial_target)
        return surplus

    def overdue(self, now: float) -> list[Child]:
        """Those whose deadline has passed."""
        return [c for c in self if c.deadline is not None and c.deadline <= now]

    def next_event(self, now: float) -> float | None:
        """When to look again though nothing happened."""
        times = [child.deadline for child in self if child.deadline is not None]
        if self._lacking(self.generation, self.target):
            times += [when for when in (self._not_before(), self.replaced.due(now)) if when > now]
        return min(times, default=None)

    def _not_before(self) -> float:
        """When the next one may be forked, as far as failures to boot count."""
        when = self.backoff.not_before
        if any(child.state is State.READY for child in self._by_id.values()):
            return when
        return min(when, self.backoff.failed_at + OUTAGE)

    def _allowed(self, now: float) -> int:
        """How many of those that are missing may be forked now."""
        allowed = self._lacking(self.generation, self.target) - self.replaced.owed(now)
        if self.backoff.failures > 1:
            # It is not by chance: one is enough to find out when it works again.
            booting = any(c.state is State.BOOTING for c in self.of(self.generation))
            allowed = min(allowed, 0 if booting else 1)
        return max(0, allowed)

    def _lacking(self, generation: int, target: int) -> int:
        fresh = sum(child.serving and not child.spent for child in self.of(generation))
        return max(0, target - fresh)

    def _surplus(self, generation: int, target: int) -> list[Child]:
        children = self.of(generation)
        booting = [child for child in children if child.state is State.BOOTING]
        ready = [child for child in children if child.state is State.READY]
        spent = [child for child in ready if child.spent]
        fresh = [child for child in ready if not child.spent]
        # The spent are needed as long as the fresh ready ones are too few.
        surplus = spent[: max(0, min(len(spent), len(ready) - target))]
        too_many = max(0, len(fresh) + len(booting) - target)
        # The oldest go, but not while those to stay are still booting: these may never be ready.
        ready_to_go = fresh[: max(0, len(fresh) - target)]
        surplus += ready_to_go
        rest = too_many - len(ready_to_go)
        if rest > 0:
            surplus += booting[-rest:]
        return surplus
