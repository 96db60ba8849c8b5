"""The server under test: the real `python -m remuda`, started in a directory of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .client import Address, Client, Response
from .load import Load
from .processes import PATIENCE, alive, children, eventually, session, start_time, title

LISTENING = re.compile(r"Listening at: (\S+) \((\d+)\)")
URL = re.compile(r"http://(\[?)([^]]+?)\]?:(\d+)")

# What the machine's environment must not change.
SETTLED = ("REMUDA_", "GUNICORN_", "WEB_CONCURRENCY", "PORT", "FORWARDED_ALLOW_IPS", "SENDFILE")


class Server:
    """One server: arbiter, router, workers; its logs; its end."""

    def __init__(
        self,
        directory: Path,
        application: str | None,
        *arguments: str,
        bind: Sequence[str] = ("127.0.0.1:0",),
        target: str = "app:app",
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        umask: int | None = None,
        stdout: int | None = None,
    ) -> None:
        """Start it: `prefix python -m remuda -b BIND... ARGUMENTS TARGET`.

        `application` is the text of `app.py` in `directory`, which is the working directory. Its
        stdout is the file `stdout` there, unless it is given.
        """
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        if application is not None:
            self.write_application(application)
        self.error_log = directory / "stderr"
        self.access_log = directory / "access.log"
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(SETTLED)
        }
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        environment.update(env or {})
        binds = [text for address in bind for text in ("-b", address)]
        self.command = [*prefix, sys.executable, "-m", "remuda", *binds, *arguments]
        if target:
            self.command.append(target)
        with self.error_log.open("ab") as log, (directory / "stdout").open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=log,
                start_new_session=True,
                env=environment,
                pass_fds=tuple(pass_fds),
                umask=-1 if umask is None else umask,
            )
        self.pid = self.process.pid
        self.loads: list[Load] = []
        self._clients: list[Client] = []
        self._addresses: list[Address] = []

    def write_application(self, text: str, name: str = "app.py") -> None:
        """Put an application into place, in one step: a worker may import it right now."""
        fresh = self.directory / f"{name}.new"
        fresh.write_text(text)
        fresh.rename(self.directory / name)

    # Start and end

    def wait_ready(self, within: float = PATIENCE) -> Server:
        """Wait until it serves: it listens, and a worker has answered."""
        self.wait_listening(within)
        assert self.get("/ready").status < 600
        return self

    def wait_listening(self, within: float = PATIENCE) -> Server:
        """Wait until it listens."""
        self.eventually("it listens", lambda: LISTENING.search(self.log), within)
        return self

    def wait_exit(self, within: float = PATIENCE) -> int:
        """Wait for the arbiter's end: its exit code."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not exit within {within:g} s:\n{self.log}") from None

    def stop(self) -> None:
        """End it with TERM, and prove that nothing is left behind."""
        for load in self.loads:
            load.finish()
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            code = self.wait_exit()
            assert code == 0, f"exit code {code}:\n{self.log}"
        self.assert_nothing_left()

    def assert_nothing_left(self, within: float = PATIENCE) -> None:
        """No process of its session lives."""
        self.eventually(
            "no process is left behind",
            lambda: not session(self.pid) and not alive(self.pid),
            within,
        )

    def clean_up(self) -> list[int]:
        """Whatever the test has come to, end what it started. Returns whom that needed."""
        left = session(self.pid)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(PATIENCE)
        for client in self._clients:
            client.close()
        return left

    # Where it is

    @property
    def addresses(self) -> list[Address]:
        """Where it listens, in the order of the command line."""
        if not self._addresses:
            self.wait_listening()
            found = LISTENING.findall(self.log)[-1][0]
            self._addresses = [_address(text) for text in found.split(",")]
        return self._addresses

    @property
    def address(self) -> Address:
        """The first address."""
        return self.addresses[0]

    @property
    def port(self) -> int:
        """The port of the first address."""
        address = self.address
        assert not isinstance(address, str)
        return address[1]

    # Talking to it

    def connect(self, **options: Any) -> Client:
        """A connection, closed at the end at the latest."""
        client = Client(options.pop("address", self.address), **options)
        self._clients.append(client)
        return client

    def get(self, target: str = "/", **fields: str) -> Response:
        """One request over a connection of its own."""
        with Client(self.address) as client:
            return client.get(target, Connection="close", **fields)

    def exchange(self, data: bytes) -> bytes:
        """Send bytes over a connection of their own, and read until the server closes it."""
        with Client(self.address) as client:
            client.send(data)
            return client.rest()

    def load(self, clients: int, target: str = "/", **options: Any) -> Load:
        """Put it under load; wait until that has begun."""
        load = Load(self.address, clients, target, **options)
        self.loads.append(load)
        load.more(clients)
        return load

    def eventually(self, what: str, condition: Callable[[], Any], within: float = PATIENCE) -> Any:
        """As `eventually`, with the log in the message."""
        try:
            return eventually(what, condition, within)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.describe()}") from None

    # Its processes

    @property
    def workers(self) -> list[int]:
        """The living workers, the oldest first."""
        return [pid for pid in children(self.pid) if title(pid).startswith("remuda: worker")]

    @property
    def router(self) -> int:
        """The living router."""
        return next(pid for pid in children(self.pid) if title(pid) == "remuda: router")

    def wait_workers(self, count: int) -> list[int]:
        """Wait until there are exactly so many workers."""
        return self.eventually(
            f"{count} workers", lambda: found if len(found := self.workers) == count else None
        )

    def wait_serving(self, count: int) -> None:
        """Wait until so many workers have answered: for the application in `applications`."""
        load = Load(self.address, 3 * count, "/pid")
        try:
            load.wait_bodies(count)
        finally:
            load.finish()

    def wait_gone(self, *pids: int) -> None:
        """Wait until these have died."""
        self.eventually(f"{pids} have died", lambda: not any(alive(pid) for pid in pids))

    def signal(self, number: int, pid: int | None = None) -> None:
        """Send a signal, to the arbiter unless told otherwise; only to what it started."""
        if pid is not None:
            assert pid in session(self.pid), f"{pid} is none of this server's processes"
        os.kill(self.pid if pid is None else pid, number)

    def identities(self, pids: Sequence[int]) -> list[tuple[int, str]]:
        """What tells processes apart even when their number is used again."""
        return [(pid, start_time(pid)) for pid in pids]

    # Its logs

    @property
    def log(self) -> str:
        """What it has said on stderr, where the error log is."""
        if not self.error_log.exists():
            return ""
        return self.error_log.read_text(errors="backslashreplace")

    def says(self, text: str, times: int = 1, within: float = PATIENCE) -> None:
        """Wait until the log says so."""
        self.eventually(f"the log says {text!r}", lambda: self.log.count(text) >= times, within)

    def access_lines(self, count: int) -> list[str]:
        """Wait until the access log has so many lines; it must not have more."""
        self.eventually(f"the access log has {count} lines", lambda: len(self._access()) >= count)
        lines = self._access()
        assert len(lines) == count, lines
        return lines

    def _access(self) -> list[str]:
        try:
            text = self.access_log.read_text()
        except FileNotFoundError:
            return []
        # The last line may be half written.
        return text.split("\n")[:-1]

    def describe(self) -> str:
        """For the message of a failing test."""
        family = [f"{pid} {title(pid)}" for pid in session(self.pid)]
        return f"{' '.join(self.command)}\nprocesses: {family}\n{self.log}"


def _address(text: str) -> Address:
    if text.startswith("unix:"):
        return text.removeprefix("unix:")
    matched = URL.fullmatch(text)
    assert matched is not None, text
    return matched[2], int(matched[3])


def run(
    directory: Path, *arguments: str, env: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Run `python -m remuda ARGUMENTS` to its end: exit code, stdout, stderr."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(SETTLED)
    }
    done = subprocess.run(
        [sys.executable, "-m", "remuda", *arguments],
        cwd=directory,
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


def seconds_since(start: float) -> float:
    """Of the monotonic clock."""
    return time.monotonic() - start
