"""gthread: a request a thread."""

from __future__ import annotations

import os
import select
import signal
import time
from threading import Thread, current_thread

from .. import _native
from .base import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config import Config


class ThreadWorker(Worker):
    """Calls the application in `threads` threads: for code that waits, in little memory.

    The main thread only waits for them, so that signals are handled whatever they do.
    """

    @classmethod
    def slots(cls, config: Config) -> int:
        """One a thread."""
        return config.threads

    def run(self) -> None:
        """Serve until there will be no more requests."""
        self._failure: BaseException | None = None
        self._ended: list[str] = []
        # Signals and threads that end write here. To wait for a thread instead would not do: the
        # kernel restarts that after a signal, and the handler would not run.
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in range(1, self.config.threads + 1):
            # Daemons: what does not end in time is cut when the process exits.
            Thread(target=self._serve, name=f"remuda-{number}", daemon=True).start()
        self._wait(None)
        if self._failure is not None:
            # The application called sys.exit in one thread: what the others have begun may end.
            self._wait(self.config.graceful_timeout)
            raise self._failure

    def _wait(self, seconds: float | None) -> None:
        """Until all threads have ended; for so long, or (None) until the first one failed."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        until = None if seconds is None else time.monotonic() + seconds
        while len(self._ended) < self.config.threads:
            left = None if until is None else until - time.monotonic()
            if left is None and self._failure is not None:
                return
            if left is not None and left <= 0:
                return
            if poll.poll(None if left is None else left * 1000):
                os.read(self._read, 4096)

    def _serve(self) -> None:
        take, serve = self.channel.take, self.gateway.serve
        try:
            while True:
                serve(take())
        except _native.Retired:
            pass
        except BaseException as error:  # noqa: BLE001  (raised again in the main thread)
            self._failure = error
            self.stop()
        finally:
            self._ended.append(current_thread().name)
            os.write(self._write, b"\0")
