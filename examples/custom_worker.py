"""Worker classes of one's own. Run one from this directory:

    remuda -k custom_worker.Tidy demo:app
    remuda -k custom_worker.Pool --threads 8 demo:app

A class takes requests from its channel and says how `gateway.serve` is called for each. The arbiter
imports this module, too, to ask a class for its slots: leave the application out of it.
"""

from __future__ import annotations

import gc
from concurrent.futures import Future, ThreadPoolExecutor, wait

from remuda.config import Config
from remuda.workers import Worker


class Tidy(Worker):
    """One request at a time, and Python collects garbage between them, never within one."""

    def run(self) -> None:
        """Serve until `take` raises Retired, which the base turns into the end."""
        gc.disable()
        served = 0
        while True:
            request = self.channel.take(timeout=0.01 if served else 60)
            if request is not None:
                self.gateway.serve(request)
                served += 1
            if served and (request is None or served >= 100):
                gc.collect()
                served = 0


class Pool(Worker):
    """So many requests at a time, in the threads of a pool that could do other work besides."""

    @classmethod
    def slots(cls, config: Config) -> int:
        """The router hands over no more than this: so nothing queues in the pool."""
        return config.threads

    def run(self) -> None:
        """Serve until there are no more requests; leaving the pool waits for those begun."""
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(self.config.threads) as pool:
            while True:
                request = self.channel.take(timeout=1)
                if request is not None:
                    running.add(pool.submit(self.gateway.serve, request))
                done, running = wait(running, 0)
                for future in done:
                    future.result()  # raises when the application has called sys.exit
