"""What the arbiter runs in its children, loaded when it is needed."""

from __future__ import annotations

import os

from .oom import OomKills

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .app import Application
    from .arbiter import Arbiter
    from .children import Child
    from .config import Config
    from .workers import WorkerClass


class Machinery:
    """The real router and workers. Tests put stand-ins here."""

    def __init__(self) -> None:
        self._application: Application | None = None

    def load(self) -> None:
        """Load what every child needs, before the first fork: so its memory is shared."""
        from . import _native  # noqa: F401
        from .workers import base, scout  # noqa: F401

    def prepare(self, config: Config) -> None:
        """Go where the application is: a preloaded one, or a worker class of one's own, is there.

        Raises RemudaError when the directory is gone, or when the worker class cannot be used.
        """
        from . import app

        app.prepare(config)
        self.worker_class(config)

    def route(self, control: int) -> int:
        """Be the router, in a forked child; the exit code."""
        from . import _native

        return _native.route(control)

    def work(self, arbiter: Arbiter, child: Child, files: tuple[int, ...]) -> int:
        """Be the worker `child`, in a fork; the exit code.

        `files` is the worker's end of its channel. When the class is not known, it is a socket on
        which to say what the application is, and to be given those.
        """
        from . import workers

        if not self.knows_class(child.cfg):
            from .workers import scout

            return scout.main(child.cfg, child.log, files[0], child.id, server=arbiter)
        return workers.main(
            child.cfg,
            child.log,
            files,
            child.id,
            server=arbiter,
            application=self._application,
        )

    def fork(self) -> int:
        """os.fork."""
        return os.fork()

    def oom_kills(self) -> OomKills:
        """How often the kernel has killed for want of memory."""
        return OomKills()

    def channel(self, slots: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Make a channel: the descriptors of the router's end, and of the worker's."""
        from . import _native

        return _native.channel_files(slots)

    def worker_class(self, config: Config) -> WorkerClass:
        """What is known of the worker class. Raises RemudaError when there is none of the name."""
        from . import workers

        return workers.describe(config)

    def knows_class(self, config: Config) -> bool:
        """Whether the class is chosen, by the user or by an application that is loaded. If not,
        `worker_class` is a guess."""
        return config.is_class_chosen or self._application is not None

    def preload(self, config: Config) -> str | None:
        """Load the application, to be shared by all workers; its kind. Raises AppLoadError.

        None: it does not show.
        """
        from . import app

        self._application = app.load(config.app)
        return self._application.kind

    def reload(self, config: Config) -> Config:
        """The configuration, read again from where it came. Raises RemudaError."""
        fresh = config.reload()
        if self._application is not None and not fresh.is_class_chosen:
            fresh = fresh.run_by(fresh.worker_class_for(self._application.kind))
        return fresh
