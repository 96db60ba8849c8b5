"""What the arbiter runs in its children, loaded when it is needed."""

from __future__ import annotations

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
        from .workers import base  # noqa: F401

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
        """Be the worker `child`, with the worker's end of its channel, in a fork; the exit code."""
        from . import workers

        return workers.main(
            child.cfg,
            child.log,
            files,
            child.id,
            server=arbiter,
            application=self._application,
        )

    def channel(self, slots: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Make a channel: the descriptors of the router's end, and of the worker's."""
        from . import _native

        return _native.channel_files(slots)

    def worker_class(self, config: Config) -> WorkerClass:
        """What is known of the worker class. Raises RemudaError when there is none of the name."""
        from . import workers

        return workers.describe(config)

    def preload(self, config: Config) -> str | None:
        """Load the application, to be shared by all workers; its kind. Raises AppLoadError.

        None: it does not show.
        """
        from . import app

        self._application = app.load(config.app)
        return self._application.kind

    def reload(self, config: Config) -> Config:
        """The configuration, read again from where it came. Raises RemudaError."""
        return config.reload()
