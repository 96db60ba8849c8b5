"""The bookkeeping of workers, without a process anywhere."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from remuda.backoff import PAUSES, Allowance, Backoff, Retry
from remuda.children import OUTAGE, REPLACED, Child, Children, State


class Clockwork:
    """Children, and a clock and process ids to go with them."""

    def __init__(self, target: int) -> None:
        self.children = Children(target)
        self.now = 1000.0
        self.last_pid = 0

    def fork(self, boot: float | None = 30.0) -> list[Child]:
        """Fork all that is missing now."""
        forked = []
        for generation in self.children.missing(self.now):
            deadline = None if boot is None else self.now + boot
            child = self.children.born(generation, self.now, deadline)
            self.last_pid += 1
            self.children.forked(child, self.last_pid)
            forked.append(child)
        return forked

    def ready(self, *children: Child) -> None:
        for child in children:
            assert self.children.ready(child, self.now)

    def die(self, *children: Child) -> None:
        for child in children:
            assert self.children.exited(child.pid, self.now) is child


def serving(target: int) -> tuple[Clockwork, list[Child]]:
    clockwork = Clockwork(target)
    children = clockwork.fork()
    clockwork.ready(*children)
    return clockwork, children


def test_as_many_are_missing_as_there_should_be():
    clockwork = Clockwork(3)
    assert clockwork.children.missing(clockwork.now) == [1, 1, 1]
    clockwork.fork()
    assert clockwork.children.missing(clockwork.now) == []


def test_ids_grow_and_are_never_used_twice():
    clockwork, (first, second) = serving(2)
    clockwork.die(first)
    (third,) = clockwork.fork()
    assert [first.id, second.id, third.id] == [1, 2, 3]
    assert third.age == 3


def test_a_worker_that_served_is_replaced_at_once_however_short_that_was():
    clockwork, (first, _) = serving(2)
    for _ in range(REPLACED):
        clockwork.die(first)
        (first,) = clockwork.fork()
        clockwork.ready(first)
        clockwork.now += 0.001


def test_workers_that_served_are_replaced_so_many_a_second_and_no_faster():
    clockwork, children = serving(4)
    began, born = clockwork.now, 0
    while clockwork.now < began + 10:
        if children:
            clockwork.die(*children)
        children = clockwork.fork()
        clockwork.ready(*children)
        born += len(children)
        # Nobody waits longer than half a second for a fork.
        due = clockwork.children.next_event(clockwork.now)
        if not children:
            assert due is not None
            assert clockwork.now < due <= clockwork.now + 0.5
        clockwork.now += 0.01
    assert REPLACED * 10 <= born <= REPLACED * 11 + 4


def test_all_workers_that_die_at_once_are_replaced_at_once():
    clockwork, children = serving(3 * REPLACED)
    clockwork.die(*children)
    assert len(clockwork.fork()) == 3 * REPLACED


def test_workers_that_never_become_ready_wait_longer_and_longer_while_others_serve():
    clockwork, (first, _) = serving(2)
    clockwork.now += 1
    clockwork.die(first)
    pauses = []
    for _ in range(len(PAUSES) + 2):
        (child,) = clockwork.fork()
        clockwork.now += 0.25
        clockwork.die(child)
        pauses.append(clockwork.children.backoff.not_before - clockwork.now)
        if pauses[-1] > 0:
            just_before = clockwork.now + pauses[-1] - 0.01
            assert clockwork.children.missing(just_before) == []
            assert clockwork.children.next_event(clockwork.now) == pytest.approx(
                clockwork.now + pauses[-1]
            )
        clockwork.now += pauses[-1]
    assert pauses == [*PAUSES, PAUSES[-1], PAUSES[-1]]


def test_with_nobody_ready_the_next_attempt_is_half_a_second_away_at_the_most():
    clockwork = Clockwork(4)
    clockwork.now += 1
    for _ in range(20):
        children = clockwork.fork()
        assert children
        clockwork.now += 0.25
        clockwork.die(*children)
        due = clockwork.children.next_event(clockwork.now)
        clockwork.now += OUTAGE if due is None else due - clockwork.now
        assert due is None or due <= clockwork.now + OUTAGE


def test_one_at_a_time_tries_whether_workers_boot_again():
    clockwork = Clockwork(4)
    children = clockwork.fork()
    clockwork.now += 0.1
    clockwork.die(*children)
    assert len(clockwork.fork()) == 4, "the first time may be by chance"
    clockwork.now += 0.1
    clockwork.die(*clockwork.children)
    for _ in range(3):
        clockwork.now += OUTAGE
        (child,) = clockwork.fork()
        assert clockwork.children.missing(clockwork.now + 100) == []
        clockwork.die(child)
    clockwork.now += OUTAGE
    (child,) = clockwork.fork()
    clockwork.ready(child)
    assert len(clockwork.fork()) == 3


def test_workers_that_crash_together_count_as_one_failure():
    clockwork = Clockwork(4)
    children = clockwork.fork()
    clockwork.now += 0.1
    clockwork.die(*children)
    assert clockwork.children.backoff.failures == 1


def test_a_worker_that_becomes_ready_ends_the_pauses():
    clockwork, (first, _second) = serving(2)
    clockwork.die(first)
    for failures in (1, 2):
        (child,) = clockwork.fork()
        clockwork.now += 0.1
        clockwork.die(child)
        assert clockwork.children.backoff.failures == failures
        clockwork.now = max(clockwork.now, clockwork.children.backoff.not_before)
    (child,) = clockwork.fork()
    clockwork.ready(child)
    assert clockwork.children.backoff.failures == 0
    clockwork.die(child)
    assert clockwork.children.missing(clockwork.now) == [1]


def test_a_worker_that_does_not_boot_in_time_is_overdue():
    clockwork = Clockwork(1)
    (child,) = clockwork.fork(boot=30.0)
    assert clockwork.children.overdue(clockwork.now + 29.9) == []
    assert clockwork.children.next_event(clockwork.now) == clockwork.now + 30
    assert clockwork.children.overdue(clockwork.now + 30) == [child]


def test_a_ready_worker_has_no_deadline():
    clockwork, (_,) = serving(1)
    assert clockwork.children.next_event(clockwork.now) is None
    assert clockwork.children.overdue(clockwork.now + 1e9) == []


def test_a_doomed_worker_is_replaced_before_it_is_dead():
    clockwork, (child,) = serving(1)
    clockwork.now += 10
    assert clockwork.children.doom(child, clockwork.now, clockwork.now + 1)
    assert clockwork.children.missing(clockwork.now) == [1]
    assert clockwork.children.overdue(clockwork.now + 1) == [child]
    assert not clockwork.children.doom(child, clockwork.now, clockwork.now + 9)


def test_one_less_retires_the_oldest():
    clockwork, (first, _, _) = serving(3)
    assert clockwork.children.adjust(-1) == (2, 3)
    assert clockwork.children.surplus() == [first]
    assert clockwork.children.retire(first, clockwork.now + 30)
    assert clockwork.children.surplus() == []
    assert clockwork.children.missing(clockwork.now) == []


def test_one_less_spares_a_ready_worker_while_another_still_boots():
    clockwork, (first, _second) = serving(2)
    clockwork.children.adjust(+1)
    (booting,) = clockwork.fork()
    clockwork.children.adjust(-1)
    assert clockwork.children.surplus() == [booting]
    assert first.state is State.READY


def test_there_is_always_at_least_one():
    clockwork, _ = serving(1)
    assert clockwork.children.adjust(-1) is None
    assert clockwork.children.target == 1


def test_one_more_is_missing_after_one_more_is_wanted():
    clockwork, _ = serving(2)
    assert clockwork.children.adjust(+1) == (3, 2)
    assert clockwork.children.missing(clockwork.now) == [1]


def test_a_spent_worker_serves_until_its_successor_is_ready():
    clockwork, (first, second) = serving(2)
    assert clockwork.children.spent(first)
    assert not clockwork.children.spent(first)
    assert clockwork.children.surplus() == []
    (successor,) = clockwork.fork()
    assert clockwork.children.surplus() == []
    clockwork.ready(successor)
    assert clockwork.children.surplus() == [first]
    clockwork.children.retire(first, clockwork.now + 30)
    assert clockwork.children.surplus() == []
    assert second.state is State.READY


def test_a_trial_that_is_ready_replaces_the_generation_before():
    clockwork, old = serving(2)
    assert clockwork.children.begin(3) == 2
    new = clockwork.fork()
    assert [child.generation for child in new] == [2, 2, 2]
    clockwork.ready(*new[:2])
    assert not clockwork.children.proven
    clockwork.ready(new[2])
    assert clockwork.children.proven
    assert clockwork.children.commit() == old
    assert clockwork.children.target == 3
    assert clockwork.children.missing(clockwork.now) == []
    assert clockwork.children.surplus() == []


def test_a_trial_that_is_given_up_changes_nothing():
    clockwork, old = serving(2)
    clockwork.children.begin(3)
    new = clockwork.fork()
    clockwork.ready(new[0])
    assert clockwork.children.give_up() == new
    assert clockwork.children.target == 2
    assert clockwork.children.missing(clockwork.now) == []
    assert all(child.state is State.READY for child in old)


def test_old_workers_that_die_during_a_trial_are_replaced_by_their_like():
    clockwork, (first, _) = serving(2)
    clockwork.now += 1
    clockwork.children.begin(2)
    clockwork.fork()
    clockwork.die(first)
    assert clockwork.children.missing(clockwork.now) == [1]


def test_a_failing_trial_causes_no_pause_for_the_generation_that_stays():
    clockwork, (first, _) = serving(2)
    clockwork.now += 1
    clockwork.children.begin(2)
    new = clockwork.fork()
    clockwork.die(new[0])
    clockwork.children.give_up()
    clockwork.die(first)
    assert clockwork.children.missing(clockwork.now) == [1]


def test_two_trials_at_a_time_are_a_mistake():
    clockwork, _ = serving(1)
    clockwork.children.begin(1)
    with pytest.raises(ValueError, match="under way"):
        clockwork.children.begin(1)


def test_a_process_of_someone_else_is_none_of_ours():
    clockwork, _ = serving(1)
    assert clockwork.children.exited(4711, clockwork.now) is None


def test_a_backoff_that_never_failed_does_not_wait():
    assert Backoff().not_before == float("-inf")


def test_what_is_owed_is_earned_one_after_the_other():
    allowance = Allowance(2, 10.0)
    assert allowance.owed(100.0) == 0
    for _ in range(5):
        allowance.spend(100.0)
    now, owed = 100.0, []
    while allowance.owed(now):
        owed.append(allowance.owed(now))
        assert allowance.owed(allowance.due(now) - 0.001) == owed[-1]
        now = allowance.due(now)
    assert owed == [3, 2, 1]
    assert now == pytest.approx(100.3)
    # It saves up to its bound, and no more.
    for _ in range(3):
        allowance.spend(1000.0)
    assert allowance.owed(1000.0) == 1


def test_a_retry_says_each_reason_once_until_it_works():
    retry = Retry()
    assert retry.worked() == 0
    assert retry.failed("no process", 100.0)
    assert retry.not_before == 100.5
    assert not retry.failed("no process", 100.5)
    assert retry.failed("no memory", 101.0)
    assert not retry.failed("no process", 101.5)
    assert retry.worked() == 4
    assert retry.not_before < 100
    assert retry.failed("no process", 200.0)


class Workers(RuleBasedStateMachine):
    """Whatever happens in whatever order, there are workers, and never too many."""

    children = Bundle("children")

    def __init__(self) -> None:
        super().__init__()
        self.clockwork = Clockwork(3)
        self.book = self.clockwork.children

    @rule(seconds=st.sampled_from([0.01, 0.5, 5.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.clockwork.now += seconds

    @rule(target=children)
    def fork(self) -> object:
        forked = self.clockwork.fork()
        return forked[0] if forked else None

    @rule()
    def those_that_boot_are_ready(self) -> None:
        for child in self.book:
            if child.state is State.BOOTING:
                self.clockwork.ready(child)

    @rule()
    def the_oldest_that_boots_is_ready(self) -> None:
        for child in self.book:
            if child.state is State.BOOTING:
                self.clockwork.ready(child)
                return

    @rule(child=consumes(children))
    def one_dies(self, child: Child | None) -> None:
        if child is not None and self.book.by_id(child.id) is child:
            self.clockwork.die(child)
            assert self.book.by_pid(child.pid) is None

    @rule()
    def those_that_retire_or_die_are_gone(self) -> None:
        for child in self.book:
            if not child.serving:
                self.clockwork.die(child)

    @rule(child=children)
    def one_is_spent(self, child: Child | None) -> None:
        if child is not None and self.book.by_id(child.id) is child:
            self.book.spent(child)

    @rule(child=children)
    def one_hangs(self, child: Child | None) -> None:
        if child is not None and self.book.by_id(child.id) is child:
            self.book.doom(child, self.clockwork.now, self.clockwork.now + 1)

    @rule(difference=st.sampled_from([-1, +1]))
    def adjust(self, difference: int) -> None:
        self.book.adjust(difference)

    @rule()
    def the_surplus_retires(self) -> None:
        def ready(generation: int | None) -> int:
            return sum(child.state is State.READY for child in self.book.of(generation))

        generations = [(self.book.generation, self.book.target)]
        if self.book.trial is not None:
            generations.append((self.book.trial, self.book.trial_target))
        before = [ready(generation) for generation, _ in generations]
        surplus = self.book.surplus()
        assert len({child.id for child in surplus}) == len(surplus)
        for child in surplus:
            assert self.book.retire(child, self.clockwork.now + 30)
        for (generation, target), number in zip(generations, before, strict=True):
            assert ready(generation) >= min(target, number)
        assert self.book.surplus() == []

    @precondition(lambda self: self.book.trial is None)
    @rule(number=st.integers(1, 4))
    def reload(self, number: int) -> None:
        self.book.begin(number)

    @precondition(lambda self: self.book.trial is not None)
    @rule()
    def the_reload_fails(self) -> None:
        for child in self.book.give_up():
            self.book.retire(child, self.clockwork.now + 30)

    @precondition(lambda self: self.book.proven)
    @rule()
    def the_reload_succeeds(self) -> None:
        for child in self.book.commit():
            self.book.retire(child, self.clockwork.now + 30)
        ready = [c for c in self.book.of(self.book.generation) if c.state is State.READY]
        assert len(ready) >= self.book.target

    @invariant()
    def after_a_fork_nothing_is_missing_and_everything_ends(self) -> None:
        assert self.book.target >= 1
        # Never is nothing due though something is missing, nor is it due too late.
        later = self.clockwork.now + PAUSES[-1] + self.book.replaced.owed(self.clockwork.now)
        fresh = [c for c in self.book.of(self.book.generation) if c.serving and not c.spent]
        missing = self.book.missing(later).count(self.book.generation)
        lacking = max(0, self.book.target - len(fresh))
        if self.book.backoff.failures > 1:
            booting = any(child.state is State.BOOTING for child in fresh)
            assert missing == min(lacking, 0 if booting else 1)
        else:
            assert missing == lacking
        # A pause that never ended would be an outage, and a wake-up that never came as well.
        assert self.book.backoff.not_before <= self.clockwork.now + PAUSES[-1]
        if missing and not self.book.missing(self.clockwork.now).count(self.book.generation):
            due = self.book.next_event(self.clockwork.now)
            assert due is not None
            assert due <= later
        for child in self.book:
            if child.state is not State.READY:
                assert child.deadline is not None
            assert self.book.by_pid(child.pid) is child
            assert self.book.by_id(child.id) is child


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
