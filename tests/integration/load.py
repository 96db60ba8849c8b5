"""Clients that never stop, and count exactly what becomes of each request."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from .client import Address, Client, Lost, Malformed, Response
from .processes import PATIENCE, eventually


class Load:
    """So many clients that request one target again and again, until `finish`.

    Outcomes, by name: the status of each complete response; "reset": a request was sent whole and
    the connection ended without a byte of an answer; "cut": it ended within the answer;
    "malformed": what came is no HTTP. "refused" counts attempts to connect that failed, in which
    no request was sent; after one a client ends, because nobody listens any more.

    A client whose connection is closed by the server *after* a response that said so, or while it
    sends nothing, just connects again: that is HTTP.
    """

    def __init__(
        self,
        address: Address,
        clients: int,
        target: str = "/",
        *,
        keep: bool = True,
        check: Callable[[Response], bool] | None = None,
    ) -> None:
        """`keep`: connections are kept alive. `check` looks at each response of status 200."""
        self.address = address
        self.target = target
        self.keep = keep
        self.check = check
        self.outcomes: Counter[str] = Counter()
        self.bodies: Counter[bytes] = Counter()
        self.details: list[str] = []
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, name=f"load-{number}", daemon=True)
            for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def answered(self) -> int:
        """Requests answered with 200 so far."""
        return self.outcomes["200"]

    def more(self, requests: int) -> None:
        """Wait until so many more requests were answered with 200."""
        before = self.answered
        eventually(f"{requests} more answers, {self.outcomes}", lambda: self.answered >= before + requests)

    def wait_bodies(self, count: int) -> None:
        """Wait for so many different bodies from now on: of /pid, so many workers serve."""
        self.bodies.clear()
        eventually(f"{count} different bodies, {self.bodies}", lambda: len(self.bodies) >= count)

    def finish(self) -> Counter[str]:
        """Let each client finish the request that it is at: what became of all requests."""
        self._ending.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), f"a request without end: {self.outcomes}"
        return +self.outcomes

    def finish_by_themselves(self) -> Counter[str]:
        """Wait until nobody listens any more, so that each client has ended."""
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"somebody still listens: {self.outcomes}"
        return +self.outcomes

    def _count(self, outcome: str, detail: str = "") -> None:
        with self._lock:
            self.outcomes[outcome] += 1
            if detail and len(self.details) < 20:
                self.details.append(detail)

    def _client(self) -> None:
        client: Client | None = None
        try:
            while not self._ending.is_set():
                if client is None:
                    try:
                        client = Client(self.address)
                    except OSError as error:
                        self._count("refused", repr(error))
                        return
                if not self._exchange(client):
                    client.close()
                    client = None
        except BaseException as error:
            self._count("broken client", repr(error))
            raise
        finally:
            if client is not None:
                client.close()

    def _exchange(self, client: Client) -> bool:
        """One request. Whether the connection may be used again."""
        try:
            if self.keep:
                client.request(self.target)
            else:
                client.request(self.target, Connection="close")
            response = client.response()
        except Lost as lost:
            self._count("cut" if lost.got else "reset", str(lost))
            return False
        except OSError as error:
            self._count("reset", repr(error))
            return False
        except Malformed as error:
            self._count("malformed", repr(error))
            return False
        if response.status == 200:
            # Few differ: a process id, a greeting.
            self.bodies[response.body[:64]] += 1
        if response.status == 200 and self.check is not None and not self.check(response):
            self._count("wrong", repr(response))
        else:
            self._count(str(response.status), "" if response.status == 200 else repr(response))
        return self.keep and response.keeps
