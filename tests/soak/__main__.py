"""`python -m soak --seconds 600 --classes gthread,gevent,asgi`: exit code 1 on any fault."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from . import run
from .report import summary
from .stand import CLASSES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of load, about")
    parser.add_argument("--classes", default="gthread,gevent,asgi", help="at the same time")
    parser.add_argument("--clients", type=int, default=16, help="connections to each server")
    parser.add_argument("--workers", type=int, default=3, help="of each server")
    parser.add_argument("--pause", type=float, default=2.0, help="mean seconds between signals")
    parser.add_argument("--keep", type=Path, help="a new directory for what the servers write")
    options = parser.parse_args()
    classes = options.classes.split(",")
    if unknown := set(classes) - set(CLASSES):
        parser.error(f"no worker class: {', '.join(unknown)}; there are {', '.join(CLASSES)}")

    interrupted = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        directory = options.keep or Path(scratch) / "servers"
        results = run.soak(
            directory,
            classes,
            options.seconds,
            workers=options.workers,
            clients=options.clients,
            pause=options.pause,
        )
    if summary(results):
        return 1
    return 130 if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
