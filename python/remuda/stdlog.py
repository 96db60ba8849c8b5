"""The standard library's logging, for applications that log to gunicorn's loggers.

logging costs a process 1.2 MiB, so nothing here imports it. As soon as somebody else does, the
loggers are ready: applications copy their handlers while they are imported.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    from .log import Log

# What is logged to these goes to the error log, and nowhere else.
LOGGERS = ("gunicorn.error", "gunicorn.access", "remuda.error")

# gunicorn's.
_FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
_DATE_FORMAT = "[%Y-%m-%d %H:%M:%S %z]"


def attach(log: Log) -> None:
    """From now on, the loggers write to `log` and have its level.

    To be called again when this process has another log. What an application has changed about the
    loggers meanwhile stays.
    """
    before, _stream.log = _stream.log, log
    logging = sys.modules.get("logging")
    if logging is not None:
        _set_up(logging)
        if before is not None and before.level != log.level:
            for name in LOGGERS:
                logging.getLogger(name).setLevel(log.level)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Stream:
    """What the loggers' handler writes to: the log of this process."""

    def __init__(self) -> None:
        self.log: Log | None = None
        self.is_used = False

    def write(self, text: str) -> int:
        if self.log is not None:
            self.log.write(text)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


_stream = _Stream()


def _set_up(logging: Any) -> None:
    # Once in the life of a process, its forks included: the application may have put other handlers
    # into place. And not what is called so and is another module, in the application's directory.
    if _stream.is_used or _stream.log is None or not hasattr(logging, "StreamHandler"):
        return
    _stream.is_used = True
    handler = logging.StreamHandler(_stream)
    handler.setFormatter(logging.Formatter(_FORMAT, _DATE_FORMAT))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.setLevel(_stream.log.level)
        logger.addHandler(handler)


class _Finder:
    """Notices the import of logging, and leaves the finding to the others."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "logging":
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)):
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """Sets the loggers up once the module has been run, and is gone."""

    def __init__(self, loader: Any, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        _set_up(module)
