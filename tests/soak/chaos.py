"""What is done to a server while it is under load."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter

from integration.processes import alive, state
from integration.server import Server

from .verdict import Strike

# Seconds that a server may take beyond `timeout` to end a worker that was stopped.
STOPPED = 15.0
# Seconds for anything else that takes a fraction of one on an idle machine.
PATIENCE = 20.0


class Chaos:
    """Signals at random times; each comes once before any comes again, the router's kill first."""

    def __init__(self, server: Server, timeout: float, pause: float, draws: random.Random) -> None:
        """`timeout` is the server's setting; `pause` the mean time between two signals, in s."""
        self.server = server
        self.timeout = timeout
        self.pause = pause
        self.strikes: list[Strike] = []
        self.done: Counter[str] = Counter()
        # What the server should have done and has not.
        self.faults: list[str] = []
        self.router = server.router
        self._draws = draws
        self._deck = ["kill router"]
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, *, routers: bool) -> None:
        """Begin. `routers`: the router is killed as well."""
        self.strikes = []
        self.faults = []
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, args=(routers,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Do no more after what is being done."""
        self._ending.set()

    def join(self) -> None:
        """Wait for that."""
        assert self._thread is not None
        self._thread.join(self.timeout + STOPPED + PATIENCE)
        assert not self._thread.is_alive(), "chaos without end"

    def _run(self, routers: bool) -> None:
        while not self._ending.wait(self._draws.uniform(0.5, 1.5) * self.pause):
            if not self._deck:
                self._deck = [name for name in EVENTS if routers or name != "kill router"]
                self._draws.shuffle(self._deck)
            name = self._deck.pop()
            try:
                EVENTS[name](self)
            except Exception as error:  # noqa: BLE001
                self.faults.append(f"{name}: {error!r}")
            self.done[name] += 1

    def _victim(self) -> int:
        workers = self.server.workers
        if not workers:
            raise AssertionError("there is no worker")
        return self._draws.choice(workers)

    def _strike(self, what: str, pid: int, number: int, within: float) -> None:
        since = time.monotonic()
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return  # It had come to its end by itself.
        deadline = since + within
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        if alive(pid):
            self.faults.append(f"{what} {pid} is still there {within:g} s later: {state(pid)}")
            os.kill(pid, signal.SIGKILL)
        self.strikes.append(Strike(what, pid, since, time.monotonic()))

    def kill_worker(self) -> None:
        self._strike("worker", self._victim(), signal.SIGKILL, PATIENCE)

    def kill_router(self) -> None:
        self._strike("router", self.router, signal.SIGKILL, PATIENCE)
        self.router = self.server.eventually("a router", lambda: self._router(), PATIENCE)

    def _router(self) -> int | None:
        try:
            return self.server.router
        except StopIteration:
            return None

    def stop_worker(self) -> None:
        pid = self._victim()
        self._strike("stopped worker", pid, signal.SIGSTOP, self.timeout + STOPPED)

    def hang_up(self) -> None:
        self.server.signal(signal.SIGHUP)

    def one_more(self) -> None:
        self.server.signal(signal.SIGTTIN)

    def one_less(self) -> None:
        self.server.signal(signal.SIGTTOU)

    def reopen(self) -> None:
        """As logrotate does: the file moves away, and the log goes on in a new one."""
        log = self.server.access_log
        aside = log.with_name(f"access.{time.monotonic_ns()}.log")
        log.rename(aside)
        self.server.signal(signal.SIGUSR1)
        self.server.eventually("the access log is opened again", log.exists, PATIENCE)


EVENTS = {
    "kill worker": Chaos.kill_worker,
    "kill router": Chaos.kill_router,
    "stop worker": Chaos.stop_worker,
    "HUP": Chaos.hang_up,
    "TTIN": Chaos.one_more,
    "TTOU": Chaos.one_less,
    "USR1": Chaos.reopen,
}
