"""The soak in short, and that it sees what it is there to see."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soak import growth, report, run
from soak.kinds import KINDS
from soak.stand import Results
from soak.verdict import Failure, Strike, excuse

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="the soak reads Linux's /proc"
)


@pytest.mark.timeout(400)
def test_nothing_fails_or_crosses_in_a_short_soak(tmp_path: Path) -> None:
    found = run.soak(tmp_path / "servers", ["gthread"], 12, workers=3, clients=8, pause=1)
    is_wrong = report.summary(found)
    results, done = found["gthread"]
    assert not is_wrong
    # It was a soak.
    assert len(results.sent) > len(KINDS) / 2
    assert {"kill router", "kill worker"} <= set(done)
    assert results.excused


@pytest.mark.timeout(400)
def test_a_soak_sees_crossed_and_failed_requests(tmp_path: Path) -> None:
    found = run.soak(
        tmp_path / "servers",
        ["gthread"],
        4,
        workers=2,
        clients=8,
        pause=60,
        application="soak.broken_app:app",
    )
    results, _ = found["gthread"]
    whats = {failure.what for failure in results.failed}
    assert {"crossed", "wrong", "503", "500"} <= whats
    assert results.crossed > 0
    assert any("RuntimeError: on purpose" in fault for fault in results.faults)
    assert report.summary(found)


FAILURE = Failure("hello", "a-1", "502", "", 0, since=10.0, until=11.0, connected=5.0)
KILL = Strike("worker", 7, since=10.5, until=10.6)
ROUTER = Strike("router", 8, since=10.5, until=10.6)


@pytest.mark.parametrize(
    ("failure", "strike", "hands", "is_excused"),
    [
        (FAILURE, KILL, {"a-1": [7]}, True),
        (FAILURE._replace(what="cut"), KILL, {"a-1": [7]}, True),
        (FAILURE, KILL, {"a-1": [9]}, False),
        (FAILURE, KILL, {}, False),
        (FAILURE._replace(what="500"), KILL, {"a-1": [7]}, False),
        (FAILURE._replace(what="crossed"), KILL, {"a-1": [7]}, False),
        (FAILURE._replace(what="silent"), KILL, {"a-1": [7]}, False),
        (FAILURE._replace(what="reset"), KILL, {"a-1": [7]}, False),
        (FAILURE._replace(what="reset", kind="upload"), KILL, {"a-1": [7]}, True),
        (FAILURE._replace(since=10.7), KILL, {"a-1": [7]}, False),
        (FAILURE._replace(until=10.4), KILL, {"a-1": [7]}, False),
        (FAILURE._replace(what="reset"), ROUTER, {}, True),
        (FAILURE, ROUTER, {"a-1": [8]}, False),
        # A connection from before the kill; the request came after it.
        (FAILURE._replace(what="reset", since=10.9), ROUTER, {}, True),
        (FAILURE._replace(what="reset", since=10.9, connected=10.8), ROUTER, {}, False),
        (FAILURE._replace(what="connect"), ROUTER, {}, False),
    ],
)
def test_a_kill_explains_only_what_was_in_the_hands_of_who_was_killed(
    failure: Failure, strike: Strike, hands: dict[str, list[int]], is_excused: bool
) -> None:
    assert (excuse(failure, [strike], hands) is strike) == is_excused


def test_growth_beyond_its_bound_is_a_fault() -> None:
    use = growth.Use(pss=9000, rss=9000, uss=9000, descriptors=20)
    rest = {"arbiter": use, "router": use, "worker": use}
    assert growth.faults(rest, rest) == []
    heavier = use._replace(uss=use.uss + growth.MOST_KIB["router"] + 1)
    assert len(growth.faults(rest, {**rest, "router": heavier})) == 1
    fuller = use._replace(descriptors=21)
    assert len(growth.faults(rest, {**rest, "arbiter": fuller})) == 1


def test_a_soak_without_a_fault_is_not_wrong_and_one_failure_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    use = growth.Use(9000, 9000, 9000, 20)
    results = Results(rests=[{"arbiter": use, "router": use, "worker": use}] * 4)
    assert not report.summary({"sync": (results, {})})
    results.failed.append(FAILURE)
    assert report.summary({"sync": (results, {})})
    assert "1 hello: 502" in capsys.readouterr().out
