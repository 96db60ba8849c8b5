"""What the arbiter runs in its children, loaded when it is needed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .app import Application
    from .arbiter import Arbiter
    from .children import Child
    from .config import Config


class Machinery:
    """The real router and workers. Tests put stand-ins here."""

    def __init__(self) -> None:
        self._application: Application | None = None

    def load(self) -> None:
        """Load what every child needs, before the first fork: so its memory is shared."""
        from . import _native, workers  # noqa: F401

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

    def slots(self, config: Config) -> int:
        """How many requests a worker holds at a time.

        Raises RemudaError when there is no such worker class.
        """
        from . import workers

        return workers.describe(config).slots

    def traits(self, config: Config) -> dict[str, bool]:
        """What the router must know of the worker class, beside the settings."""
        from . import workers

        found = workers.describe(config)
        return {"streams": found.streams, "evented": found.evented}

    def patches(self, config: Config) -> bool:
        """Whether the application must not be loaded before the fork."""
        from . import workers

        return workers.describe(config).patches

    def preload(self, config: Config) -> None:
        """Load the application, to be shared by all workers. Raises AppLoadError."""
        from . import app

        app.prepare(config)
        self._application = app.load(config.app)

    def reload(self, config: Config) -> Config:
        """The configuration, read again from where it came. Raises RemudaError."""
        return config.reload()
