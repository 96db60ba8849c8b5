"""Signals, queued: the handlers only write their number into a pipe, the arbiter's loop acts."""

from __future__ import annotations

import os
import select
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType


class Signals:
    """The queue of the signals that arrived."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._installed: list[int] = []
        # A hook may fork, too: what is sent to its child must not be heard here.
        os.register_at_fork(after_in_child=self._restore_in_child)

    def install(self, signals: Iterable[int]) -> None:
        """From now on queue these signals."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, _queued)
            self._installed.append(number)

    def fileno(self) -> int:
        """Becomes readable when a signal has arrived."""
        return self._read

    def take(self) -> bytes:
        """The numbers of the signals that arrived since the last call, in order, one a byte."""
        try:
            return os.read(self._read, 4096)
        except BlockingIOError:
            return b""

    def wait(self, timeout: float) -> bool:
        """Wait for a signal, at most `timeout` seconds. Whether there is one; it stays queued."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def forget_in_child(self, ignore: Iterable[int] = ()) -> None:
        """In a forked child: default actions again, but for `ignore`; the queue is not ours."""
        signal.set_wakeup_fd(-1)
        for number in self._installed:
            signal.signal(number, signal.SIG_DFL)
        for number in ignore:
            signal.signal(number, signal.SIG_IGN)
        self.close()

    def _restore_in_child(self) -> None:
        if self._read < 0:
            return
        signal.set_wakeup_fd(-1)
        for number in self._installed:
            if signal.getsignal(number) is _queued:
                signal.signal(number, default(number))

    def end(self) -> None:
        """Ignore them from now on: the interpreter's end would make them deadly again."""
        for number in self._installed:
            signal.signal(number, signal.SIG_IGN)
        self.close()

    def close(self) -> None:
        """Close the pipe. Signals that are still handled are lost from now on."""
        if self._read >= 0:
            signal.set_wakeup_fd(-1)
            os.close(self._read)
            os.close(self._write)
            self._read = self._write = -1


def block() -> set[signal.Signals | int]:
    """Block all signals, and return the mask before: for the time around a fork.

    A signal to the child that arrived before the child has left our handlers would be written into
    the pipe that it shares with the arbiter, as if it had been sent to the arbiter.
    """
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()))


def restore(mask: set[signal.Signals | int]) -> None:
    """Undo `block`."""
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def default(number: int) -> signal.Handlers | Callable[[int, FrameType | None], None]:
    """What Python does by default about a signal."""
    return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL


def name(number: int) -> str:
    """SIGTERM for 15; the number where it has no name (real-time signals)."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _queued(_number: int, _frame: FrameType | None) -> None:
    """Nothing: the interpreter has written the number to the wake-up descriptor."""
