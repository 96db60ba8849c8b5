"""gthread: a request a thread."""

from __future__ import annotations

import time
from threading import Thread

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
        threads = [
            # Daemons: what does not end in time is cut when the process exits.
            Thread(target=self._serve, name=f"remuda-{number}", daemon=True)
            for number in range(1, self.config.threads + 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
            if self._failure is not None:
                break
        if self._failure is not None:
            # The application called sys.exit in one thread: what the others have begun may end.
            until = time.monotonic() + self.config.graceful_timeout
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
            raise self._failure

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
