"""sync: one request at a time."""

from __future__ import annotations

from .base import Worker


class SyncWorker(Worker):
    """Calls the application in the main thread: for code that computes."""

    def run(self) -> None:
        """Serve until there will be no more requests."""
        take, serve = self.channel.take, self.gateway.serve
        while True:
            serve(take())
