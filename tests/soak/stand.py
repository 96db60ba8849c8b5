"""One server under load, round by round: after each round it comes to rest, and is looked at."""

from __future__ import annotations

import random
import re
import signal
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from integration.processes import PATIENCE, alive
from integration.server import Server

from . import begun, growth
from .bodies import whole
from .callers import Caller, Tally
from .chaos import Chaos
from .kinds import FILES
from .verdict import Failure, Strike, beside, excuse

TESTS = Path(__file__).resolve().parent.parent
# Seconds without a byte of an answer, or of booting, before a worker is ended.
TIMEOUT = 10.0
# Seconds that a request may take to its end. A client gives up after 30 s of silence.
WITHOUT_END = 60.0
# How often a server at rest may need to be told to reload.
RELOADS = 3
ARGUMENTS = (
    *("--timeout", f"{TIMEOUT:g}", "--graceful-timeout", "10", "--keep-alive", "75"),
    *("--max-requests", "600", "--max-requests-jitter", "300"),
    *("--access-logfile", "access.log"),
)
CLASSES = {
    "sync": (("-k", "sync"), "soak.wsgi_app:app"),
    "gthread": (("-k", "gthread", "--threads", "4"), "soak.wsgi_app:app"),
    "gevent": (("-k", "gevent"), "soak.wsgi_app:app"),
    "eventlet": (("-k", "eventlet"), "soak.wsgi_app:app"),
    "tornado": (("-k", "tornado"), "soak.wsgi_app:app"),
    "asgi": (("-k", "asgi"), "soak.asgi_app:app"),
}
SHOWN_LINES = 15
# What nobody who is killed explains.
ALARMING = re.compile(
    r"^Traceback .*\n(?:[ \t].*\n)*.*|^.*(?:panicked|broke its channel|violation|Error handling).*",
    re.MULTILINE,
)
# "Worker (pid:7) was killed by SIGKILL while it served GET /hello/gevent-3-1"
SERVED = re.compile(r"\(pid:(\d+)\).*? while it served [A-Z]+ \S*/(\S+)")
ACCESS = re.compile(r'"[A-Z]+ /\w+/([^ ?]+)')


@dataclass
class Results:
    """Of all rounds so far."""

    sent: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    failed: list[Failure] = field(default_factory=list)
    # What was wrong beside single requests.
    faults: list[str] = field(default_factory=list)
    rests: list[dict[str, growth.Use]] = field(default_factory=list)

    @property
    def crossed(self) -> int:
        """Requests that got another's answer, or part of it."""
        return sum(failure.what in ("crossed", "wrong") for failure in self.failed)


class Stand:
    """A server of one worker class, its clients, and what is done to it."""

    def __init__(
        self,
        directory: Path,
        worker_class: str,
        *,
        workers: int,
        clients: int,
        pause: float,
        application: str | None = None,
    ) -> None:
        """Start it; `pause` as of `Chaos`; `application` is served instead of the class's own."""
        self.name = worker_class
        self.workers = workers
        self.results = Results()
        directory.mkdir(parents=True)
        (directory / begun.DIRECTORY).mkdir()
        (directory / "files").mkdir()
        for name, size in FILES.items():
            (directory / "files" / name).write_bytes(whole(name, size))
        how, own = CLASSES[worker_class]
        self.server = Server(
            directory,
            None,
            *(*how, "-w", str(workers), *ARGUMENTS),
            target=application or own,
            env={"PYTHONPATH": str(TESTS)},
        )
        self._log_read = 0
        try:
            self.server.wait_ready()
            self.server.wait_workers(workers)
            begun.collect(directory)
            self.chaos = Chaos(self.server, TIMEOUT, pause, random.Random(worker_class))
        except BaseException:
            self.server.clean_up()
            raise
        address = self.server.address
        self.callers = [Caller(address, f"{worker_class}-{number}") for number in range(clients)]

    # A round: begin, end, join, rest

    def begin(self, *, routers: bool) -> None:
        """Put it under load."""
        self.chaos.begin(routers=routers)
        for caller in self.callers:
            caller.begin()

    def end(self) -> None:
        """Tell everybody to end."""
        self.chaos.end()
        for caller in self.callers:
            caller.end()

    def join(self) -> None:
        """Wait for their end, bring the server to rest, and judge the round."""
        self.chaos.join()
        tallies = [caller.join(WITHOUT_END) for caller in self.callers]
        used = growth.used(self.server)
        self._rest()
        # Workers are all new now; what those of the round used was seen before.
        self.results.rests.append({**growth.used(self.server), "worker": used["worker"]})
        self._judge(tallies)

    def _rest(self) -> None:
        """As many new workers as configured, whatever the signals have come to; no client."""
        server = self.server
        before = server.identities(server.workers)
        server.signal(signal.SIGHUP)

        def is_new() -> bool:
            now = server.identities(server.workers)
            return len(now) == self.workers and not set(now) & set(before)

        for attempt in range(RELOADS):
            try:
                server.eventually(f"{self.workers} new workers", is_new, TIMEOUT + PATIENCE)
                break
            except AssertionError:
                # A machine that is too busy lets no worker boot in time.
                if attempt == RELOADS - 1:
                    self.results.faults.append(f"no reload at rest:\n{self._last_lines()}")
                else:
                    server.signal(signal.SIGHUP)
        if server.router != self.chaos.router:
            self.results.faults.append("the router was replaced without being killed")
            self.chaos.router = server.router

    def _judge(self, tallies: list[Tally]) -> None:
        results = self.results
        hands = begun.collect(self.server.directory)
        twice = [name for name, pids in hands.items() if len(pids) > 1]
        results.faults += [f"{name} was begun by {hands[name]}" for name in twice]
        results.faults += self.chaos.faults
        claimed = defaultdict(list, hands)
        for pid, name in self._read_log():
            # Claimed by a worker that had not called the application yet.
            if name not in hands:
                claimed[name].append(pid)
        for tally in tallies:
            results.sent += tally.sent
            for failure in tally.failures:
                strike = excuse(failure, self.chaos.strikes, claimed)
                if strike is None:
                    results.failed.append(beside(failure, self.chaos.strikes, claimed))
                else:
                    results.excused[f"{failure.what}, {strike.what} killed"] += 1
        self._read_access_log(tallies, self.chaos.strikes)

    def _read_log(self) -> list[tuple[int, str]]:
        """What it has logged since: who was killed while it served what."""
        with self.server.error_log.open(errors="backslashreplace") as log:
            log.seek(self._log_read)
            text = log.read()
            self._log_read = log.tell()
        self.results.faults += [f"the log: {alarm}" for alarm in ALARMING.findall(text)]
        return [(int(pid), name) for pid, name in SERVED.findall(text)]

    def _last_lines(self) -> str:
        """Of its log, without stacks."""
        lines = [line for line in self.server.log.splitlines() if line.startswith("[")]
        return "\n".join(lines[-SHOWN_LINES:])

    def _read_access_log(self, tallies: list[Tally], strikes: list[Strike]) -> None:
        """Each answered request has one line. A killed router takes some with it."""
        log = self.server.access_log
        aside = log.with_name(f"access.{time.monotonic_ns()}.log")
        log.rename(aside)
        self.server.signal(signal.SIGUSR1)
        self.server.eventually("the access log is opened again", log.exists)
        lines: Counter[str] = Counter()
        for file in log.parent.glob("access.*.log"):
            lines.update(ACCESS.findall(file.read_text(errors="backslashreplace")))
            file.unlink()
        if any(strike.what == "router" for strike in strikes):
            return
        wrong = [
            f"{name} has {lines[name]} lines in the access log"
            for tally in tallies
            for name in tally.answered
            if lines[name] != 1
        ]
        if wrong:
            self.results.faults.append(f"{len(wrong)} requests: {wrong[0]}")

    # The end

    def stop(self) -> None:
        """End it with TERM, and see that nothing is left behind."""
        try:
            self.server.stop()
        except AssertionError as error:
            reason = str(error).splitlines()[0]
            self.results.faults.append(f"its end: {reason}\n{self._last_lines()}")
        finally:
            self.server.clean_up()

    def kill(self) -> None:
        """End everything, however."""
        self.end()
        self.server.clean_up()

    @property
    def is_alive(self) -> bool:
        """Whether its arbiter lives."""
        return alive(self.server.pid)
