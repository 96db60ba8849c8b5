"""What gevent and eventlet have in common: a request a greenlet, on a hub that never blocks.

The hub watches the channel. Its callback claims a request and switches straight into a new greenlet
for it, which runs until it waits for something or is done; only then is the next one claimed. What
this worker has not come to can so still be given to another.

A request whose `request_timeout` is over is ended by an exception in its greenlet. One whose client
has left runs on until it sends something, and is ended by that.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import traceback
from _thread import get_ident
from os import read
from time import monotonic, sleep

import greenlet

from .. import _native
from ..errors import WorkerBootError
from .base import Worker
from .forked_greenlets import ForkedGreenlets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType
    from typing import Any, NoReturn, Protocol, TypeVar

    from ..config import Config

    T = TypeVar("T")

    class Event(Protocol):
        """Set once, and then forgotten."""

        def set(self) -> None: ...
        def wait(self, timeout: float) -> object: ...


# `read` and `sleep` above are the real ones, because nothing was patched when this was imported.

# One turn of the hub claims at most so many requests, and begins none after so many seconds: the
# greenlets that have become ready meanwhile want to run, too.
BATCH = 32
TURN = 0.005
# The longest that anything waits before it looks around, in seconds.
SLICE = 1.0
# A larger read of a body that is a file goes to a thread, in bytes.
LARGE = 256 << 10
# How many different stacks a dump shows.
STACKS = 100


class RequestTimeout(BaseException):
    """Raised in a request whose `request_timeout` is over, wherever its greenlet waits.

    No Exception, so that `except Exception` in an application does not keep the request alive.
    """


class GreenWorker(Worker):
    """A request a greenlet, at most `worker_connections` of them."""

    evented = True
    patches = True

    @classmethod
    def slots(cls, config: Config) -> int:
        """One a greenlet."""
        return config.worker_connections

    # What a library of greenlets is asked for.

    def patch(self) -> None:
        """Make the standard library cooperate. Raises WorkerBootError."""
        raise NotImplementedError

    def event(self) -> Event:
        """A fresh event, to be set in any greenlet or in the hub."""
        raise NotImplementedError

    def watch(self, fd: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back in the hub whenever the descriptor is readable; returns what ends that."""
        raise NotImplementedError

    def run_in_hub(self, callback: Callable[[], None]) -> None:
        """Call back in the hub, soon."""
        raise NotImplementedError

    def fresh_hub(self) -> greenlet.greenlet:
        """In a forked process: the greenlet of a hub that watches nothing of the worker's."""
        raise NotImplementedError

    def begin(self, request: _native.Request) -> None:
        """In the hub: run `serve` in a new greenlet, until it first waits."""
        raise NotImplementedError

    def run_in_thread(self, function: Callable[[Any], T], argument: object) -> T:
        """Call it in a thread, while other greenlets go on."""
        raise NotImplementedError

    # The life of the worker.

    def init_process(self) -> None:
        """Patch before anything else is imported."""
        _native.keep_stacks()
        self.patch()
        # Before there are handlers of signals, which use it.
        self._main = greenlet.getcurrent()
        self._thread = get_ident()
        self._running: dict[greenlet.greenlet, _native.Request] = {}
        self._goes_on = False
        self._failure: BaseException | None = None
        self._watches: list[Callable[[], None]] = []
        self._news = self.event()
        self._room = self.event()
        super().init_process()
        self.channel.wait_room = self._wait_room
        # A hub that blocks is woken by a signal only through a descriptor that it watches.
        self._signals, wakeup = os.pipe()
        os.set_blocking(self._signals, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)

    def run(self) -> None:
        """Serve until there will be no more requests and what was begun is done."""
        channel = self.channel
        self._watches = [
            self.watch(self._signals, self._on_signal),
            self.watch(channel.room_fileno(), self._on_room),
        ]
        self._unwatch = self.watch(channel.fileno(), self._take)
        self._watches.append(self._unwatch)
        until: float | None = None
        while True:
            news = self._news = self.event()
            if self._failure is not None and not isinstance(self._failure, SystemExit):
                break
            if self._quitting:
                break
            if channel.retired:
                # The socket of the descriptors may be readable for long while no frame is there, so
                # that it cannot be watched: the death of arbiter and router is seen below.
                self._unwatch()
                now = monotonic()
                until = until or now + self.config.graceful_timeout
                if not self._running:
                    break
                if now >= until:
                    self.log.warning("%d requests are not done: cut", len(self._running))
                    break
            else:
                self.run_in_hub(self._take)
            news.wait(SLICE)
        for unwatch in self._watches:
            unwatch()
        if self._failure is not None:
            raise self._failure

    def serve(self, request: _native.Request) -> None:
        """The life of a request's greenlet."""
        current = greenlet.getcurrent()
        self._running[current] = request
        try:
            self.gateway.serve(request)
        except BaseException as error:  # noqa: BLE001  (raised again in the main greenlet)
            self._fail(error)
        finally:
            del self._running[current]
            if self.channel.retired:
                self._news.set()

    def stop(self) -> None:
        """Take no more requests; `run` ends when what was begun is done."""
        super().stop()
        self._news.set()

    def let_go(self) -> None:
        """Give up the hub, and all greenlets but the present one."""
        super().let_go()
        ForkedGreenlets(self.fresh_hub())

    def wrap_input(self, body: _native.Input) -> FileInput:
        """A body that is a file is read without blocking the hub."""
        return FileInput(body, self.run_in_thread)

    # In the hub. Nothing may be raised there.

    def _take(self) -> None:
        take, begin = self.channel.take_nowait, self.begin
        until = monotonic() + TURN
        try:
            for _ in range(BATCH):
                item = take()
                if item is None:
                    return
                if type(item) is _native.Request:
                    begin(item)
                else:
                    self._cancel(item)
                if monotonic() >= until:
                    break
            # The descriptor says nothing of what is left before None was given.
            if not self._goes_on:
                self._goes_on = True
                self.run_in_hub(self._go_on)
        except _native.Retired:
            self._unwatch()
            self._news.set()
        except BaseException as error:  # noqa: BLE001  (raised again in the main greenlet)
            self._fail(error)

    def _go_on(self) -> None:
        self._goes_on = False
        self._take()

    def _cancel(self, event: _native.Event) -> None:
        if event.kind != "cancel" or event.reason != "timeout":
            return
        # Another router may give the same id to another request: the newest is meant.
        for running, request in reversed(self._running.items()):
            if request.id == event.id:
                running.throw(RequestTimeout("request_timeout is over"))
                return

    def _on_room(self) -> None:
        try:
            self.channel.clear_room()
        except BaseException as error:  # noqa: BLE001  (raised again in the main greenlet)
            self._fail(error)
        room, self._room = self._room, self.event()
        room.set()

    def _on_signal(self) -> None:
        # The interpreter calls the handlers by itself; their number is of no interest.
        try:
            read(self._signals, 4096)
        except BlockingIOError:
            pass
        except BaseException as error:  # noqa: BLE001  (of a handler)
            self._fail(error)
        self._news.set()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._unwatch()
        self.channel.stop()
        self._news.set()

    # In a greenlet.

    def _wait_room(self) -> None:
        if get_ident() != self._thread:
            # An application that sends from a thread of its own: the hub is another one's.
            sleep(0.01)
            return
        try:
            self._room.wait(SLICE)
        except RequestTimeout:
            # The router has marked the request as cancelled before it said so. What waits here
            # finds that out by itself, and what frees the slot must not be interrupted.
            return

    # Signals.

    def _handle_quit(self, number: int, frame: FrameType | None) -> NoReturn:
        self._news.set()
        super()._handle_quit(number, frame)

    def _handle_dump(self, number: int, frame: FrameType | None) -> None:
        names = {
            running: f"{request.method} {request.uri}" for running, request in self._running.items()
        }
        self.log.error("Stacks of the greenlets", detail=stacks(names, but=self._main))


class FileInput:
    """`wsgi.input` of a body that is a file: what is much is read in a thread."""

    __slots__ = ("_body", "_run_in_thread")

    def __init__(
        self,
        body: _native.Input,
        run_in_thread: Callable[[Callable[[Any], Any], object], Any],
    ) -> None:
        """`run_in_thread` calls a function with an argument and waits as the event loop does."""
        self._body = body
        self._run_in_thread = run_in_thread

    def read(self, size: int | None = None, /) -> bytes:
        """Read `size` bytes, or all that is left."""
        return self._run(self._body.read, size)

    def readline(self, size: int | None = None, /) -> bytes:
        """Read a line, or `size` bytes of it."""
        if size is not None and 0 <= size <= LARGE:
            return self._body.readline(size)
        line = self._body.readline(LARGE)
        if len(line) < LARGE or line.endswith(b"\n"):
            return line
        rest = size - LARGE if size is not None and size >= 0 else None
        return line + self._run(self._body.readline, rest)

    def readlines(self, hint: int | None = None, /) -> list[bytes]:
        """Read the lines that are left, or lines of `hint` bytes together."""
        return self._run(self._body.readlines, hint or None)

    def __iter__(self) -> FileInput:
        return self

    def __next__(self) -> bytes:
        if line := self.readline():
            return line
        raise StopIteration

    def _run(self, function: Callable[[int | None], T], size: int | None) -> T:
        if size is not None and 0 <= size <= LARGE:
            return function(size)
        result: T = self._run_in_thread(function, size)
        return result


def require(package: str, version: str, oldest: tuple[int, int]) -> None:
    """Raise WorkerBootError when a package is older than the worker class can do with."""
    numbers = re.findall(r"\d+", version)[:2]
    if tuple(map(int, numbers)) < oldest:
        raise WorkerBootError(
            f"{package} {version} is too old: worker class {package} needs "
            f"{'.'.join(map(str, oldest))} or newer",
            f"pip install --upgrade 'remuda[{package}]'",
        )


def stacks(names: Mapping[greenlet.greenlet, str], but: greenlet.greenlet | None = None) -> str:
    """The stacks of all greenlets that wait, equal ones together, as text for a log.

    `names` says what a greenlet is there for; one without a name is called by its type. `but` is
    one that is of no interest.
    """
    groups: dict[str, list[str]] = {}
    for found in gc.get_objects():
        if not isinstance(found, greenlet.greenlet) or found is but:
            continue
        if (frame := found.gr_frame) is None:
            continue  # not begun, done, or running now: faulthandler has shown that one
        stack = "".join(traceback.format_stack(frame))
        groups.setdefault(stack, []).append(names.get(found) or type(found).__name__)
    parts = []
    for stack, members in list(groups.items())[:STACKS]:
        shown = ", ".join(members[:3]) + (f" and {len(members) - 3} more" * (len(members) > 3))
        parts.append(f"Greenlet of {shown} (most recent call last):\n{stack}")
    if len(groups) > STACKS:
        parts.append(f"... and {len(groups) - STACKS} more stacks\n")
    return "".join(parts) or "no greenlet waits\n"
