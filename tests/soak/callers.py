"""The clients: each sends one request after another, of all kinds, and verifies each answer."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from integration.client import Address, Client, Lost, Malformed

from .kinds import KINDS, Call, Crossed, Refused, Wrong
from .verdict import Failure

# Seconds a client thinks at most between two requests, so that the machine is not only ours.
THINKS = 0.02


@dataclass
class Tally:
    """What became of the requests of one client."""

    sent: Counter[str] = field(default_factory=Counter)
    # The names of requests that were answered as they should be.
    answered: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


class Caller:
    """One client with one connection at a time. It never sends a request twice."""

    def __init__(self, address: Address, name: str) -> None:
        """`name` must be its own among all clients of a server; its draws follow from it."""
        self.address = address
        self.name = name
        self.tally = Tally()
        self._draws = random.Random(name)
        self._number = 0
        self._link: Client | None = None
        self._connected = 0.0
        self._carried = 0
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin to send."""
        self.tally = Tally()
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Send no more; close the connection after the request that is under way."""
        self._ending.set()

    def join(self, within: float) -> Tally:
        """Wait for that: what became of the requests since `begin`.

        Raises AssertionError when a request has no end.
        """
        assert self._thread is not None
        self._thread.join(within)
        assert not self._thread.is_alive(), f"{self.name}: a request without end"
        return self.tally

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self._call()
                time.sleep(self._draws.uniform(0, THINKS))
        except BaseException as error:
            now = time.monotonic()
            self._failed("client", self.name, f"broken client: {error!r}", "", now)
            raise
        finally:
            self._close()

    def _call(self) -> None:
        (kind,) = self._draws.choices(list(KINDS), [one.weight for one in KINDS.values()])
        self._number += 1
        name = f"{self.name}-{self._number}"
        since = time.monotonic()
        self.tally.sent[kind] += 1
        try:
            if self._link is None:
                self._link = Client(self.address)
                self._connected, self._carried = time.monotonic(), 0
        except OSError as error:
            self._failed(kind, name, "connect", repr(error), since)
            # Whoever refuses connections does not get them faster than this.
            self._ending.wait(0.1)
            return
        call = Call(self._link, name, self._draws)
        try:
            KINDS[kind].send(call)
        except Crossed as error:
            self._failed(kind, call.name, "crossed", str(error), since)
        except Wrong as error:
            self._failed(kind, call.name, "wrong", str(error), since)
        except Malformed as error:
            self._failed(kind, call.name, "malformed", str(error), since)
        except Refused as error:
            self._failed(kind, call.name, str(error.status), str(error), since)
        except Lost as lost:
            what = "silent" if lost.why == "nothing" else "cut" if call.is_answered else "reset"
            self._failed(kind, call.name, what, str(lost), since)
        except TimeoutError as error:
            self._failed(kind, call.name, "silent", repr(error), since)
        except OSError as error:
            self._failed(kind, call.name, "reset", repr(error), since)
        else:
            if kind != "leave":
                self.tally.answered.append(call.name)
            self._carried += 1
            if call.keeps:
                return
        self._close()

    def _failed(self, kind: str, name: str, what: str, detail: str, since: float) -> None:
        now = time.monotonic()
        self.tally.failures.append(
            Failure(kind, name, what, detail[:500], self._carried, since, now, self._connected)
        )

    def _close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
