"""What is said of workers that die, and what the kernel's count says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from remuda.deaths import EVERY, FEW, SOON, WINDOW, Deaths
from remuda.oom import FRESH, LOOK, OomKills


def many(deaths: Deaths, number: int, now: float, how: str = "exited with code 7") -> list[bool]:
    told = []
    for _ in range(number):
        told.append(deaths.died(how, now))
        deaths.lost("GET /crash")
    return told


def test_a_few_deaths_are_told_one_by_one_and_no_more():
    deaths = Deaths()
    assert many(deaths, FEW + 3, 100.0) == [True] * FEW + [False] * 3
    assert deaths.lost("GET /") is False


def test_deaths_with_time_between_them_are_all_told():
    deaths = Deaths()
    for number in range(50):
        assert deaths.died("was killed by SIGKILL", 100.0 + number * WINDOW / (FEW - 1))
        assert deaths.lost("GET /")
        assert deaths.line(100.0 + number * WINDOW) is None
    assert deaths.due is None


def test_a_crash_loop_is_a_line_every_few_seconds_with_counts_and_requests():
    deaths = Deaths()
    many(deaths, FEW, 100.0)
    deaths.died("was killed by SIGSEGV", 100.5)
    deaths.lost("GET /other")
    assert deaths.line(100.5) is None
    assert deaths.due == 100.5 + SOON
    assert deaths.line(101.0) == (
        f"Workers die again and again: {FEW + 1} within 1.0 s"
        f" ({FEW}x exited with code 7, 1x was killed by SIGSEGV),"
        f" while they served {FEW}x GET /crash, 1x GET /other"
    )
    assert deaths.due == 101.0 + EVERY
    many(deaths, 40, 103.0)
    assert deaths.line(105.9) is None
    assert deaths.line(106.0) == (
        "Workers die again and again: 40 within 5.0 s (40x exited with code 7),"
        " while they served 40x GET /crash"
    )


def test_when_nobody_has_died_for_a_while_each_death_is_told_again():
    deaths = Deaths()
    many(deaths, FEW + 1, 100.0)
    assert deaths.line(101.0)
    assert deaths.line(101.0 + EVERY) is None
    assert deaths.due is None
    assert deaths.died("exited with code 7", 101.0 + WINDOW)


def test_what_was_not_told_is_told_at_the_end():
    deaths = Deaths()
    assert deaths.rest(99.0) is None
    many(deaths, FEW + 1, 100.0)
    assert f": {FEW + 1} within" in str(deaths.rest(100.1))
    assert deaths.rest(100.2) is None


def test_many_different_requests_and_ways_make_no_long_line():
    deaths = Deaths()
    for number in range(1000):
        deaths.died(f"exited with code {number}", 100.0)
        deaths.lost(f"GET /{number}")
    line = deaths.line(200.0)
    assert line is not None
    assert len(line) < 300
    assert "others" in line


@pytest.mark.parametrize(
    "text",
    [
        "low 0\nhigh 0\nmax 5\noom 3\noom_kill {}\noom_group_kill 0\n",
        "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",
        "nr_free_pages 1\noom_kill {}\npgfault 7\n",
    ],
    ids=["cgroup v2", "cgroup v1", "vmstat"],
)
def test_the_kernel_is_blamed_when_its_count_rose(tmp_path: Path, text: str):
    file = tmp_path / "events"
    file.write_text(text.format(3))
    kills = OomKills([str(tmp_path / "missing"), str(file)])
    assert not kills.struck(100.0)
    file.write_text(text.format(4))
    assert kills.struck(101.0)
    assert kills.struck(102.0), "it may have killed two"
    assert not kills.struck(101.0 + FRESH)


def test_a_kill_of_long_ago_explains_nothing(tmp_path: Path):
    file = tmp_path / "events"
    file.write_text("oom_kill 0\n")
    kills = OomKills([str(file)])
    file.write_text("oom_kill 1\n")
    kills.look(100.0)
    kills.look(100.0 + LOOK / 2)
    assert not kills.struck(100.0 + FRESH)


def test_without_a_count_nobody_is_blamed(tmp_path: Path):
    file = tmp_path / "events"
    file.write_text("oom 3\n")
    for paths in ([], [str(tmp_path / "missing")], [str(file)]):
        kills = OomKills(paths)
        kills.look(100.0)
        assert not kills.struck(101.0)


def test_this_machine_has_a_count():
    assert OomKills().path is not None
