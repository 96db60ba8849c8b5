"""The Rust side, as Python sees it."""

from collections.abc import Callable, Iterator
from typing import Any

def channel_files(slots: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Make a channel: the descriptors of the router's end and of the worker's end (close-on-exec)."""

def route(control: int) -> int:
    """Be the router: serve until told to stop over the control socket. Returns the exit code.

    Never touches Python again: call it in a forked child and leave with `os._exit`.
    """

def router_option_names() -> list[str]:
    """The names of the settings that the router reads."""

class Retired(Exception):
    """Raised by `Channel.take`: there will be no more requests (STOP, or arbiter and router are dead)."""

class ClientGone(Exception):
    """Raised when sending a response that nobody wants any more."""

class Channel:
    """The worker's end of its channel. Thread-safe."""

    wait_room: Callable[[], None] | None
    """What to call when the ring has no room or the client reads slowly, instead of blocking the
    thread: set by the classes that schedule on an event loop. It returns when `room_fileno` was ready."""

    def __init__(self, fds: tuple[int, ...]) -> None: ...
    def ready(self) -> None:
        """Tell the router that requests may come."""
    def take(self, timeout: float | None = None) -> Request | None:
        """The next request, claimed; blocks without the GIL for at most `timeout` seconds.

        None when the time is up. Raises Retired when there will be no more. Python's signal
        handlers run while it blocks. With several threads, one blocks here and the others wait for it.
        """
    def take_nowait(self) -> Request | Event | None:
        """For event loops: the next request or event, or None when there is none: then watch `fileno`."""
    def fileno(self) -> int:
        """Becomes readable when there may be requests or events. `take_nowait` until None clears it."""
    def room_fileno(self) -> int:
        """Becomes readable when there may be room for sending again."""
    def clear_room(self) -> None:
        """Forget the signals of `room_fileno`."""

class Event:
    """What the router says about a request that was taken: `kind` is "body" or "cancel"."""

    kind: str
    id: int
    data: bytes
    last: bool
    reason: str

class Request:
    """One claimed request."""

    id: int
    method: str
    target: str

class Wsgi:
    """The WSGI gateway (PEP 3333) for one application."""

    def __init__(
        self,
        application: Callable[..., Any],
        channel: Channel,
        *,
        multithread: bool,
        multiprocess: bool,
        root_path: str,
        on_error: Callable[[str, BaseException | None], None],
    ) -> None: ...
    def __call__(self, request: Request) -> None:
        """Serve one request: build `environ`, call the application, send what it gives, close it."""
