"""Which failures a kill explains. Everything else is the server's fault. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Strike(NamedTuple):
    """What was done to a process: when it began, and when the process was gone. Monotonic."""

    # "router", "worker" (both by SIGKILL) or "stopped worker".
    what: str
    pid: int
    since: float
    until: float


class Failure(NamedTuple):
    """A request without its answer."""

    kind: str
    name: str
    # A status; "reset": no byte of an answer came; "cut": it ended within; "silent": nothing came
    # for half a minute; "connect"; "crossed" and "wrong": an answer, but not ours.
    what: str
    detail: str
    # How many requests its connection had carried before.
    before: int
    # When the request began, and when it had failed.
    since: float
    until: float
    # When its connection was made.
    connected: float


# An answer before the end of an upload can be lost to the reset that follows it.
UPLOADS = {"upload", "chunked", "slow_sender", "echo", "leave"}


def excuse(
    failure: Failure, strikes: Iterable[Strike], hands: Mapping[str, Iterable[int]]
) -> Strike | None:
    """The strike that explains a failure. `hands` says which processes had begun which request.

    A killed router loses its connections, whatever is on them. A killed worker loses what it had
    begun: 502, or a cut response; of a stopped one the router says 504 first. A request that nobody
    had begun is never lost with a worker.
    """
    allowed = {"502", "504", "cut"} | ({"reset"} if failure.kind in UPLOADS else set())
    for strike in strikes:
        if failure.until < strike.since:
            continue
        if strike.what == "router":
            if failure.what in ("reset", "cut") and failure.connected <= strike.until:
                return strike
        elif (
            failure.what in allowed
            and failure.since <= strike.until
            and strike.pid in hands.get(failure.name, ())
        ):
            return strike
    return None


def beside(
    failure: Failure, strikes: Iterable[Strike], hands: Mapping[str, Iterable[int]]
) -> Failure:
    """The failure with a word on what was done when it happened, for the one who looks into it."""
    words = [
        f"{failure.until - strike.since:.3f} s after the {strike.what} {strike.pid} was struck"
        for strike in strikes
        if 0 < failure.until - strike.since < 20
    ]
    owners = [f"begun by {pid}" for pid in hands.get(failure.name, ())]
    said = "; ".join([f"request {failure.before + 1} of its connection", *owners, *words])
    return failure._replace(detail=f"{failure.detail} ({said})")
