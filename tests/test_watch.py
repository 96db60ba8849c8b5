"""Finding out that a process does not answer, and what it does instead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from arbiter_driver import eventually
from remuda.watch import TURNS, Watch, look

TIMEOUT = 8.0
PAUSE = TIMEOUT / TURNS


def silence(watch: Watch, now: float, turns: int) -> float:
    """Ask so many times, without an answer; when the last was."""
    for _ in range(turns):
        assert watch.due is not None
        now = watch.due
        assert watch.asks(now)
        assert not watch.asks(now), "one question is enough"
        assert not watch.silent
    return now


def test_whoever_answers_none_of_the_questions_of_a_timeout_is_silent():
    watch = Watch(TIMEOUT, 100.0)
    assert watch.due == 100.0
    last = silence(watch, 100.0, TURNS)
    assert last == 100.0 + TIMEOUT - PAUSE
    assert not watch.asks(last + PAUSE)
    assert watch.silent


def test_an_answer_begins_the_count_anew():
    watch = Watch(TIMEOUT, 0.0)
    for _ in range(3):
        last = silence(watch, 0.0, TURNS)
        watch.answered()
    assert watch.due == last + PAUSE


def test_nobody_is_asked_before_it_is_due():
    watch = Watch(TIMEOUT, 0.0)
    assert watch.asks(0.0)
    assert not watch.asks(PAUSE - 0.001)
    assert watch.asks(PAUSE)


@pytest.mark.parametrize("gap", [PAUSE * 2.1, 3600.0])
@pytest.mark.parametrize("turns", range(1, TURNS + 1))
def test_a_turn_that_comes_late_begins_the_count_anew(gap, turns):
    watch = Watch(TIMEOUT, 0.0)
    last = silence(watch, 0.0, turns)
    # Everybody was suspended; whoever was asked is still not awake.
    assert watch.asks(last + gap)
    assert watch.unanswered == 1
    last = silence(watch, last + gap, TURNS - 1)
    assert not watch.asks(last + PAUSE)
    assert watch.silent


def test_a_turn_that_is_a_little_late_counts():
    watch, now = Watch(TIMEOUT, 0.0), 0.0
    for _ in range(TURNS):
        assert watch.asks(now)
        now += PAUSE * 1.9
    assert not watch.asks(now)
    assert watch.silent


def test_a_timeout_of_0_never_asks():
    watch = Watch(0, 0.0)
    assert watch.due is None
    assert not watch.asks(1e9)
    assert not watch.silent


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")  # noqa: PTH110
def test_what_a_process_does_is_seen():
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = look(process.pid, time.monotonic())
        assert before is not None

        def spins() -> bool:
            now = look(process.pid, time.monotonic())
            assert now is not None
            return now.state == "R" and now.used > before.used

        eventually("it uses the processor", spins)
        used = look(process.pid, 10.0)
        assert used is not None
        # As if it had used all that there was: the machine may be busy with others.
        used.now = before.now + (used.used - before.used)
        used.state = "R"
        assert used.since(before) == "spinning (state R, 100 % of a processor)"
        process.send_signal(signal.SIGSTOP)
        eventually("it is stopped", lambda: look(process.pid, 0.0).state == "T")
        stopped = look(process.pid, 50.0)
        assert stopped is not None
        assert stopped.since(look(process.pid, 40.0)) == "stopped (state T, 0 % of a processor)"
        assert stopped.since(None) == "stopped (state T)"
    finally:
        process.kill()
        process.wait()
    assert look(process.pid, 0.0) is None
