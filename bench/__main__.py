"""`python -m bench hello --only remuda --rounds 3`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from types import FrameType, ModuleType

from bench import (
    ab,
    browser,
    frameworks,
    hello,
    late,
    machine,
    memory,
    mixed,
    open,
    quota,
    redis,
    report,
    stream,
    trouble,
    waits,
)
from bench.process import BenchError
from bench.servers import Server, table

BENCHES: dict[str, ModuleType] = {
    bench.NAME: bench
    for bench in (
        hello,
        browser,
        frameworks,
        open,
        ab,
        redis,
        waits,
        late,
        quota,
        memory,
        mixed,
        stream,
    )
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Compare Remuda with its peers, side by side; prints Markdown.",
        epilog="benches: "
        + "; ".join(
            f"{name}: {(bench.__doc__ or '').splitlines()[0]}" for name, bench in BENCHES.items()
        ),
    )
    parser.add_argument("bench", nargs="+", choices=[*BENCHES, "all"], metavar="BENCH")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="only servers whose name has this in it (say it several times for several)",
    )
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="NAME",
        help="of `frameworks` only those whose name has this in it, in small letters",
    )
    parser.add_argument("--rounds", type=int, help="rounds, instead of each bench's own number")
    parser.add_argument("--seconds", type=int, help="seconds a run, instead of each bench's own")
    parser.add_argument("--requests", type=int, default=50_000, help="requests of a run of ab")
    parser.add_argument("--server-core", type=int, default=0, help="the core of a pinned server")
    parser.add_argument("--load-core", type=int, default=1, help="the core of the load beside it")
    return parser.parse_args()


def chosen(rows: list[str], only: list[str]) -> list[Server]:
    servers = table()
    return [servers[row] for row in rows if not only or any(part in row for part in only)]


def stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, stop)
    names = list(BENCHES) if "all" in options.bench else options.bench
    runs = {name: chosen(BENCHES[name].ROWS, options.only) for name in names}
    runs = {name: servers for name, servers in runs.items() if servers}
    if not runs:
        rows = sorted({row for name in names for row in BENCHES[name].ROWS})
        report.note(f"bench: no server matches --only; there are: {', '.join(rows)}")
        return 2
    began = time.monotonic()
    try:
        machine.describe()
        for name, servers in runs.items():
            BENCHES[name].run(servers, options)
    except BenchError as error:
        report.note(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    trouble.summary()
    report.note(f"done in {(time.monotonic() - began) / 60:.1f} minutes")
    return 1 if trouble.seen else 0


if __name__ == "__main__":
    sys.exit(main())
