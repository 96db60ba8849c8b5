"""Starts a server of `standin.py`, and watches it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 20.0


def eventually(what: str, condition: Callable[[], T], patience: float = PATIENCE) -> T:
    """What `condition` returns as soon as that is true."""
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience} s: {what}")
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


class Driver:
    """A server whose router and workers are stand-ins."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        self.workers_do("ready")

    def workers_do(self, word: str) -> None:
        """What workers that boot from now on do."""
        (self.directory / "worker.new").write_text(word)
        (self.directory / "worker.new").rename(self.directory / "worker")

    def configure(self, text: str) -> None:
        """Write the configuration file."""
        (self.directory / "remuda.conf.py").write_text(text)

    def start(self, *arguments: str, bind: bool = True) -> None:
        """Start it; on a port of its own, unless the arguments or the file (`bind=False`) say."""
        if bind and "-b" not in arguments:
            arguments = ("-b", "127.0.0.1:0", *arguments)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    str(Path(__file__).parent / "standin.py"),
                    str(self.directory),
                    *arguments,
                    "demo:app",
                ],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def started(self, workers: int, *arguments: str) -> list[int]:
        """Start it with so many workers; their process ids once they are ready."""
        self.start("-w", str(workers), *arguments)
        return self.ready(workers)

    def ready(self, workers: int, without: list[int] | None = None) -> list[int]:
        """Wait until exactly so many workers are ready and no other is left; none of `without`."""

        def found() -> list[int]:
            living = self.living()
            ready = {e["id"] for e in self.journal("router", "ready")}
            if len(living) != workers or not {self.worker_id(pid) for pid in living} <= ready:
                return []
            return [] if set(living) & set(without or ()) else living

        return eventually(f"{workers} ready workers", found)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int, pid: int | None = None) -> None:
        os.kill(self.pid if pid is None else pid, number)

    def wait(self, patience: float = PATIENCE) -> int:
        """The exit code. Asserts that nothing of it is left."""
        assert self.process is not None
        code = self.process.wait(patience)
        assert self.family() == []
        return code

    def family(self) -> list[int]:
        """All living processes of its session."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and alive(int(entry.name)):
                try:
                    text = (entry / "stat").read_text()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if int(text.rpartition(")")[2].split()[3]) == self.pid:
                    found.append(int(entry.name))
        return found

    def cleanup(self) -> None:
        """Whatever a test did, nothing stays."""
        if self.process is None:
            return
        for pid in self.family():
            os.kill(pid, signal.SIGKILL)
        self.process.wait(5)

    # What it says and does

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def says(self, text: str, times: int = 1) -> None:
        """Wait for a text in its error log."""
        try:
            eventually(f"the log says {text!r}", lambda: self.log().count(text) >= times)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in the log:\n{self.log()}") from None

    def journal(self, who: str | None = None, what: str | None = None) -> list[dict[str, Any]]:
        try:
            text = (self.directory / "journal").read_text()
        except FileNotFoundError:
            return []
        # Without what is just being written behind the last line.
        lines = [json.loads(line) for line in text.split("\n")[:-1]]
        return [
            line
            for line in lines
            if (who is None or line["who"] == who) and (what is None or line["what"] == what)
        ]

    def noted(self, who: str, what: str, times: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """Wait until a child has noted this, so many times."""

        def found() -> list[dict[str, Any]]:
            lines = [
                line
                for line in self.journal(who, what)
                if all(line.get(name) == value for name, value in fields.items())
            ]
            return lines if len(lines) >= times else []

        return eventually(f"{who} {what} {fields} x{times}", found)

    def workers(self) -> list[int]:
        """The process ids of all workers there ever were, oldest first."""
        born = self.journal("worker", "born")
        return [line["pid"] for line in sorted(born, key=lambda line: int(line["id"]))]

    def living(self) -> list[int]:
        return [pid for pid in self.workers() if alive(pid)]

    def worker_id(self, pid: int) -> int:
        return next(e["id"] for e in self.journal("worker", "born") if e["pid"] == pid)

    def router(self) -> int:
        """The process id of the router."""
        return eventually("a router", lambda: self.journal("router", "born"))[-1]["pid"]

    def order(self, **order: Any) -> None:
        """Have the router do something."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(json.dumps(order).encode(), str(self.directory / "router.sock"))

    def say(self, **message: Any) -> None:
        """Have the router say something to the arbiter."""
        self.order(say=message)
