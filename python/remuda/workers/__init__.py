"""Worker classes: which there are, and how one is run.

What the arbiter must know of a class stands in the registry, so that it never imports one: a class
may bring gevent or Tornado with it. A class is one file here and one line there.
"""

from __future__ import annotations

from ..errors import ConfigError, WorkerBootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..app import Application
    from ..config import Config
    from ..log import Log
    from .base import Worker as Worker

__all__ = ["Worker", "WorkerClass", "describe", "main"]


class WorkerClass:
    """What is known of a worker class without importing it.

    `slots` is how many requests one worker holds at a time. `streams`, `evented` and `patches` are
    what the attributes of `Worker` say.
    """

    __slots__ = ("evented", "name", "patches", "path", "slots", "streams")

    def __init__(
        self,
        name: str,
        path: str | type[Worker],
        slots: int,
        *,
        streams: bool = False,
        evented: bool = False,
        patches: bool = False,
    ) -> None:
        self.name = name
        self.path = path
        self.slots = slots
        self.streams = streams
        self.evented = evented
        self.patches = patches

    def load(self) -> type[Worker]:
        """Import the class. Raises WorkerBootError when that fails or it is no Worker."""
        return _imported(self.path)


_ONE: Callable[[Config], int] = lambda config: 1  # noqa: E731
_THREADS: Callable[[Config], int] = lambda config: config.threads  # noqa: E731
_CONNECTIONS: Callable[[Config], int] = lambda config: config.worker_connections  # noqa: E731


class Entry:
    """A line of the registry: where a class is, what its attributes say, the package it `needs`."""

    __slots__ = ("evented", "needs", "patches", "path", "slots", "streams")

    def __init__(
        self,
        path: str,
        slots: Callable[[Config], int],
        *,
        streams: bool = False,
        evented: bool = False,
        patches: bool = False,
        needs: str | None = None,
    ) -> None:
        self.path = path
        self.slots = slots
        self.streams = streams
        self.evented = evented
        self.patches = patches
        self.needs = needs


REGISTRY: dict[str, Entry] = {
    "sync": Entry("remuda.workers.sync:SyncWorker", _ONE),
    "gthread": Entry("remuda.workers.gthread:ThreadWorker", _THREADS),
    "gevent": Entry(
        "remuda.workers.gevent:GeventWorker",
        _CONNECTIONS,
        evented=True,
        patches=True,
        needs="gevent",
    ),
    "eventlet": Entry(
        "remuda.workers.eventlet:EventletWorker",
        _CONNECTIONS,
        evented=True,
        patches=True,
        needs="eventlet",
    ),
    "tornado": Entry(
        "remuda.workers.tornado:TornadoWorker",
        _CONNECTIONS,
        streams=True,
        evented=True,
        needs="tornado",
    ),
    "asgi": Entry("remuda.workers.asgi:AsgiWorker", _CONNECTIONS, streams=True, evented=True),
}


def describe(config: Config, kind: str | None = None) -> WorkerClass:
    """The worker class of this configuration, for an application of `kind` if that is known.

    A class of one's own is imported to ask it. Raises ConfigError when what the class needs is not
    installed, WorkerBootError when there is no such class, AppLoadError when it cannot run such an
    application.
    """
    chosen = config.worker_class_for(kind)
    if isinstance(chosen, str) and chosen in REGISTRY:
        entry = REGISTRY[chosen]
        if entry.needs is not None and not _is_installed(entry.needs, config.import_paths):
            raise ConfigError(
                f"worker class {chosen} needs {entry.needs}, which is not installed",
                f"pip install 'remuda[{entry.needs}]'",
            )
        return WorkerClass(
            chosen,
            entry.path,
            entry.slots(config),
            streams=entry.streams,
            evented=entry.evented,
            patches=entry.patches,
        )
    cls = _imported(chosen)
    name = chosen if isinstance(chosen, str) else f"{cls.__module__}.{cls.__qualname__}"
    return WorkerClass(
        name,
        cls,
        cls.slots(config),
        streams=cls.streams,
        evented=cls.evented,
        patches=cls.patches,
    )


def main(
    config: Config,
    log: Log,
    files: Sequence[int],
    worker_id: int,
    *,
    server: object = None,
    application: Application | None = None,
) -> int:
    """Be a worker, in a process forked for it; returns its exit code.

    `files` is the worker's end of its channel, which now belongs to the worker. `server` is given
    to the hook worker_exit. `application` is one that was loaded before the fork.
    """
    cls = describe(config).load()
    return cls(config, log, files, worker_id, server=server, application=application).main()


def _is_installed(package: str, paths: Sequence[str]) -> bool:
    """Whether a package could be imported, which it is not here. `paths` are searched, too."""
    from importlib.machinery import PathFinder
    from importlib.util import find_spec

    return bool(find_spec(package) or PathFinder.find_spec(package, list(paths)))


def _imported(path: str | type[Worker]) -> type[Worker]:
    from .base import Worker

    if isinstance(path, str):
        import importlib

        module, _, attribute = path.replace(":", ".").rpartition(".")
        if not module:
            raise WorkerBootError(f"there is no worker class {path}")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise WorkerBootError(f"worker class {path} cannot be imported: {error}") from error
    else:
        found = path
    if not (isinstance(found, type) and issubclass(found, Worker)):
        raise WorkerBootError(
            f"worker class {path} is no subclass of remuda.workers.Worker",
            "derive it: class Custom(remuda.workers.Worker)",
        )
    return found


def __getattr__(name: str) -> object:
    if name == "Worker":
        from .base import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
