"""A CPU quota of half a core, as containers have: requests for each second of processor time."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import load, procfs, report, trouble
from bench.process import BenchError, serving
from bench.rounds import interleaved
from bench.servers import Server

NAME = "quota"
ROUNDS = 3
SECONDS = 4
WARM_SECONDS = 1
ROWS = ["nginx", "granian-wsgi", "gunicorn-gthread", "uvicorn", "remuda-sync", "remuda-gevent"]
ROWS += ["remuda-asgi"]
APPS = {"wsgi": "flask_hello:app", "asgi": "fastapi_hello:app", "none": ""}
CONNECTIONS = 64
PERIOD_US, QUOTA_US = 100_000, 50_000
AT_LEAST = 0.95
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Way:
    """One run of wrk, and the processor time (s) that the server used in it."""

    result: load.Result
    cpu: float

    @property
    def each(self) -> float:
        """Requests for a second of processor time."""
        return self.result.requests / self.cpu


@dataclass(frozen=True)
class Round:
    free: Way
    held: Way

    def __str__(self) -> str:
        return f"{self.free.each:,.0f} and {self.held.each:,.0f} requests a CPU second"


@contextlib.contextmanager
def half_core() -> Iterator[list[str]]:
    """A control group with the quota; gives the command that runs another one in it.

    Raises BenchError where none can be made.
    """
    unified = (CGROUPS / "cgroup.controllers").exists()
    parent = CGROUPS if unified else CGROUPS / "cpu"
    group = parent / f"remuda-bench-{os.getpid()}"
    try:
        if unified and "cpu" not in (parent / "cgroup.subtree_control").read_text().split():
            raise BenchError(f"the cpu controller is not on in {parent}/cgroup.subtree_control")
        group.mkdir()
        try:
            if unified:
                (group / "cpu.max").write_text(f"{QUOTA_US} {PERIOD_US}")
            else:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(QUOTA_US))
            yield ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")]
        finally:
            remove(group)
    except OSError as error:
        raise BenchError(f"no control group with a CPU quota can be made here: {error}") from error


def remove(group: Path) -> None:
    """Its processes have ended; the kernel may take a moment to see that."""
    for _ in range(50):
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.02)
    raise BenchError(f"{group} cannot be removed")


def way(server: Server, prefix: list[str], options: argparse.Namespace) -> Way:
    with serving(
        server, APPS[server.interface], core=options.server_core, prefix=prefix
    ) as running:
        load.wrk(running.port, WARM_SECONDS, CONNECTIONS, options.load_core)
        pids = running.pids()
        before = procfs.cpu_seconds(pids)
        result = load.wrk(running.port, options.seconds or SECONDS, CONNECTIONS, options.load_core)
        return Way(result, procfs.cpu_seconds(pids) - before)


def measure(server: Server, options: argparse.Namespace) -> Round:
    """Raises BenchError where the quota did not hold."""
    with half_core() as prefix:
        held = way(server, prefix, options)
    share = held.cpu / held.result.seconds
    if not 0.3 < share < 0.6:
        raise BenchError(f"{server.name} used {share:.0%} of a core under a quota of 50%")
    return Round(way(server, [], options), held)


def run(servers: list[Server], options: argparse.Namespace) -> None:
    with trouble.noted(NAME):
        with half_core():
            pass  # It can be made here.
        compare(servers, options)


def compare(servers: list[Server], options: argparse.Namespace) -> None:
    count = options.rounds or ROUNDS
    rounds = interleaved(NAME, count, servers, lambda server, _: measure(server, options))
    report.heading(
        "Half a core",
        f"Flask's or FastAPI's hello (nginx: `return 200`), one worker on one core, "
        f"{CONNECTIONS} keep-alive connections; freely, and in a control group with a quota of "
        f"{QUOTA_US // 1000} ms in each {PERIOD_US // 1000} ms; {count} rounds; requests/s, and "
        "requests for each second of processor time that the server used; median (least..most). A "
        "server that spins while it has nothing to do uses up its quota with it.",
    )
    columns = ["server", "requests/s", "a CPU s", "with quota", "a CPU s", "ratio", "p99 ms"]
    columns += ["failed", f"at least {AT_LEAST:g}"]
    report.table(columns, [row(name, turns) for name, turns in rounds.items()])


def row(name: str, turns: list[Round]) -> list[str]:
    ratios = [turn.held.each / turn.free.each for turn in turns]
    return [
        name,
        report.spread([turn.free.result.rate for turn in turns]),
        report.spread([turn.free.each for turn in turns]),
        report.spread([turn.held.result.rate for turn in turns]),
        report.spread([turn.held.each for turn in turns]),
        report.spread(ratios, 2),
        f"{median(turn.held.result.p99 for turn in turns):.0f}",
        str(sum(turn.free.result.failed + turn.held.result.failed for turn in turns)),
        report.verdict(median(ratios) >= AT_LEAST) if name.startswith("remuda") else "",
    ]
