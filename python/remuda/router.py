"""The arbiter's handle on the router child: fork, control socket, what to tell a new one.

Nothing here waits for the router. What it does not take at once is queued; a router that does not
take it at all is killed, and replaced like one that died.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import time
from collections import deque

from . import process, signals
from .backoff import Backoff
from .errors import RemudaError
from .watch import Sight, Watch, look, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .log import Log

    Message = dict[str, Any]

# A router that leaves so many messages unread is stuck.
QUEUE = 4096
# How many messages are read before the arbiter looks after something else.
AT_ONCE = 256
# The longest message. The kernel cuts what is longer, and then it is no JSON.
LONGEST = 1 << 18
# Seconds that a new router has to say that it serves.
BOOT = 10.0
# Seconds between its hanging up and its exit.
GOODBYE = 2.0
# What a terminal or a service manager sends to the whole group: the arbiter leads, and the end of
# the control socket tells the router when there is none.
IGNORED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGPIPE,
)


class Router:
    """The router child, and its successors."""

    def __init__(
        self, route: Callable[[int], int], log: Log, fork: Callable[[], int] = os.fork
    ) -> None:
        """`route` is what the child runs, with the control socket; it returns the exit code."""
        self._route = route
        self._fork = fork
        self.log = log
        self.pid: int | None = None
        self.started = False
        self.ever_started = False
        self.backoff = Backoff()
        self.born = 0.0
        self.killed = False
        # When it is killed: it has not said by then that it serves, or it hung up and did not exit.
        self.deadline: float | None = None
        self._watch = Watch(0, 0)
        # What it did when it first left a question without an answer.
        self._sight: Sight | None = None
        self._control: socket.socket | None = None
        self._outgoing: deque[tuple[bytes, list[int]]] = deque()

    # The child

    def fork(
        self, owner: process.Owner, queue: signals.Signals, keep: Sequence[int], now: float
    ) -> None:
        """Start a router. The child keeps the descriptors `keep` and the standard ones.

        Raises OSError when there is no process or no descriptor to be had.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mask = signals.block()
        try:
            pid = self._fork()
            if pid == 0:
                self._be_router(owner, queue, theirs, keep, mask)
        except OSError:
            ours.close()
            raise
        finally:
            signals.restore(mask)
            theirs.close()
        ours.setblocking(False)
        self._control = ours
        self.pid = pid
        self.born = now
        self.deadline = now + BOOT
        self.started = self.killed = False

    def _be_router(
        self,
        owner: process.Owner,
        queue: signals.Signals,
        control: socket.socket,
        keep: Sequence[int],
        mask: set[signal.Signals | int],
    ) -> None:
        """In the child: never returns."""
        code = 70  # EX_SOFTWARE
        try:
            queue.forget_in_child(ignore=IGNORED)
            signals.restore(mask)
            process.close_all_but({0, 1, 2, control.fileno(), *keep})
            process.set_title("router")
            process.drop_privileges(owner)
            process.renounce_privileges()
            code = self._route(control.detach())
        except RemudaError as error:
            self.log.error("%s", error)
        except BaseException:  # nothing may leave this frame: it is a copy of the arbiter's
            self.log.exception("The router failed")
        finally:
            os._exit(code)

    def kill(self) -> None:
        """End it at once."""
        if self.pid is not None:
            self.killed = True
            self.deadline = None
            self._watch = Watch(0, 0)
            os.kill(self.pid, signal.SIGKILL)

    def exited(self, now: float) -> None:
        """It was reaped."""
        if self.started and now - self.born >= 1.0:
            self.backoff.worked(self.born)
        self.backoff.failed(self.born, now)
        self.pid = self.deadline = None
        self._watch = Watch(0, 0)
        self.started = False
        self.close()

    def has_started(self) -> None:
        """It says that it serves."""
        self.started = self.ever_started = True
        self.deadline = None

    def overdue(self, now: float) -> bool:
        """Whether it should have begun to serve, or have exited, by now."""
        return self.deadline is not None and now >= self.deadline

    def next_event(self, now: float) -> float | None:
        """When to look again though nothing happened."""
        if self.pid is None:
            return max(now, self.backoff.not_before)
        times = [when for when in (self.deadline, self._watch.due) if when is not None]
        return min(times, default=None)

    # Whether it lives

    def watch(self, timeout: float, now: float) -> None:
        """From now on kill it when it does not answer for so many seconds; 0 means never."""
        self._watch = Watch(timeout, now)

    def look_after(self, now: float) -> None:
        """Ask it whether it lives, when that is due. Kill it when it has not answered."""
        if self.pid is None or self.killed:
            return
        if self._watch.asks(now):
            if self._watch.unanswered == 2:
                self._sight = look(self.pid, now)
            self.send({"type": "ping"})
        elif self._watch.silent:
            self.log.critical(
                "ROUTER TIMEOUT (pid:%s): no answer for %s s: %s",
                self.pid,
                self._watch.timeout,
                self._condition(now),
            )
            self.kill()

    def answered(self) -> None:
        """It has answered."""
        self._watch.answered()

    def resume(self) -> None:
        """Have it go on, if it is stopped: else it would not hear what it is told."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGCONT)

    def _condition(self, now: float) -> str:
        """What it does instead of answering."""
        assert self.pid is not None
        sight = look(self.pid, now)
        if sight is None:
            return "there is nothing to be seen of what it does"
        text = sight.since(self._sight)
        where = place(self.pid)
        return f"{text} in {where}" if where else text

    # The control socket

    def fileno(self) -> int | None:
        """The control socket; None when there is no router."""
        return None if self._control is None else self._control.fileno()

    @property
    def waiting(self) -> bool:
        """Whether there is something to send, as soon as the socket is writable."""
        return bool(self._outgoing)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message and the descriptors beside it, now or when the router takes it.

        Dropped when there is no router: a new one is told everything.
        """
        if self._control is None:
            return
        data = json.dumps(message, separators=(",", ":")).encode()
        if not self._outgoing and self._send(data, fds):
            return
        if self._control is None:
            return
        if len(self._outgoing) >= QUEUE:
            self._lost("does not read its messages")
            return
        # Our own copies: the worker may be reaped, and its descriptors closed, before the router
        # takes them.
        copies: list[int] = []
        try:
            for fd in fds:
                copies.append(os.dup(fd))
        except OSError as error:
            _close(copies)
            self._lost(f"cannot be told anything: {error.strerror}")
            return
        self._outgoing.append((data, copies))

    def flush(self) -> None:
        """Send what waits, as much as the router takes."""
        while self._outgoing:
            data, fds = self._outgoing[0]
            if not self._send(data, fds):
                return
            self._outgoing.popleft()
            _close(fds)

    def _send(self, data: bytes, fds: Sequence[int]) -> bool:
        """Whether it was sent."""
        if self._control is None:
            return False
        try:
            if fds:
                socket.send_fds(self._control, [data], fds)
            else:
                self._control.send(data)
        except BlockingIOError:
            return False
        except ConnectionError:
            # `receive` finds out, after what it said last.
            return True
        except OSError as error:
            if error.errno in (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS):
                return False
            self._lost(f"cannot be told anything: {error.strerror}")
            return False
        return True

    def receive(self) -> list[Message]:
        """The messages that came."""
        messages: list[Message] = []
        while self._control is not None and len(messages) < AT_ONCE:
            try:
                data = self._control.recv(LONGEST)
            except BlockingIOError:
                break
            except ConnectionError:  # it died before it had read everything
                self._hung_up()
                break
            except OSError as error:
                self._lost(f"cannot be heard: {error.strerror}")
                break
            if not data:
                self._hung_up()
                break
            message = _decode(data)
            if message is None:
                self._lost(f"says what is no message: {data[:80]!r}")
                break
            messages.append(message)
        return messages

    def close(self) -> None:
        """Close the control socket: a router that lives drains and exits."""
        if self._control is not None:
            self._control.close()
            self._control = None
        for _, fds in self._outgoing:
            _close(fds)
        self._outgoing.clear()

    def _hung_up(self) -> None:
        """It has closed its end: it is exiting, or as good as dead."""
        self.close()
        self.deadline = time.monotonic() + GOODBYE

    def _lost(self, why: str) -> None:
        """It cannot be talked to: kill it."""
        self.log.error("The router (pid:%s) %s", self.pid, why)
        self.close()
        self.kill()


def _decode(data: bytes) -> Message | None:
    """A message; None when it is none."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return None
    return message


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
