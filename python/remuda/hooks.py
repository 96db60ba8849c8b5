"""What a hook of the configuration sees of the arbiter, and how it is called."""

from __future__ import annotations

from . import forks
from .errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .children import Child, Children
    from .config import Config
    from .listeners import Listener, Listeners
    from .log import Log


class Server:
    """What hooks are given as their `server`: besides `log` and `pid`, gunicorn's names."""

    config: Config
    log: Log
    pid: int
    children: Children
    listeners: Listeners

    @property
    def cfg(self) -> Config:
        """The configuration: gunicorn's name for it."""
        return self.config

    @property
    def address(self) -> list[Any]:
        """The addresses that were asked for."""
        return self.config.address

    @property
    def num_workers(self) -> int:
        """How many workers there should be."""
        return self.children.target

    @property
    def timeout(self) -> float:
        """Seconds without a byte of response after which a worker is replaced."""
        return self.config.timeout

    @property
    def proc_name(self) -> str:
        """The name in brackets in `ps`."""
        return self.config.proc_name or "remuda"

    @property
    def WORKERS(self) -> dict[int, Child]:
        """The living workers by process id."""
        return {child.pid: child for child in self.children}

    @property
    def LISTENERS(self) -> list[Listener]:
        """The listening sockets."""
        return list(self.listeners)

    def hook(
        self, name: str, *args: object, config: Config | None = None, strict: bool = False
    ) -> None:
        """Call a hook. When it raises, that is logged; with `strict` it is an error, too."""
        function = getattr(config or self.config, name)
        if function is None:
            return
        try:
            with forks.SameProcess():
                function(*args)
        except Exception as error:
            self.log.exception("The hook %s failed", name)
            if strict:
                raise ConfigError(
                    f"the hook {name} failed: {type(error).__name__}: {error}"
                ) from None
