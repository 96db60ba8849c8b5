"""The Rust side, as Python sees it."""

from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from typing import Any, TextIO, final, overload

def channel_files(slots: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Make a channel for a worker with so many slots.

    Returns the descriptors of the router's end and of the worker's end, close-on-exec. They belong
    to the caller. Raises ValueError for an impossible number of slots, OSError without descriptors.
    """

def route(control: int) -> int:
    """Be the router: serve until told to stop over the control socket. Returns the exit code.

    Takes over the descriptor. Never touches Python again: call it in a forked child and leave with
    `os._exit`.
    """

def router_option_names() -> list[str]:
    """The names of the settings that the router reads."""

def no_new_privileges() -> None:
    """Gain no privileges any more by starting programs: prctl(PR_SET_NO_NEW_PRIVS). For good.

    Does nothing where there is no such thing (macOS). Raises OSError.
    """

def keep_stacks() -> None:
    """Keep the memory of greenlets that have ended for the next ones, from now on."""

class Retired(Exception):
    """There will be no more requests: STOP, `Channel.stop`, or arbiter and router are dead."""

class ClientGone(Exception):
    """Nobody wants the response any more; raised where the application sends it."""

class ChannelError(Exception):
    """The channel is broken. The worker can only exit."""

@final
class Channel:
    """The worker's end of its channel. Thread-safe."""

    wait_room: Callable[[], object] | None
    """What to call when the ring has no room or the client reads slowly, instead of blocking the
    thread: set by the classes that schedule on an event loop. It returns when `room_fileno` was
    readable since it was called; whoever sees that calls `clear_room` before others go on."""

    on_fork: Callable[[BaseException | None], object] | None
    """What to call when control comes back from the application, by an exception or without one, in
    a process that was forked from this one. It does not return; else ChannelError is raised."""

    def __init__(self, fds: Sequence[int]) -> None:
        """Open the worker's end; the five descriptors belong to the channel from now on."""
    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that opened it, by whatever.

        It gets no request then, and sends nothing.
        """
    def let_go(self) -> None:
        """When `forked`: give up the descriptors that this process shares with the worker.

        Their numbers stay open, and never become readable. Raises ChannelError in the worker.
        """
    @property
    def busy(self) -> int:
        """How many requests were taken and are not done."""
    @property
    def retired(self) -> bool:
        """Whether there will be no more requests."""
    @overload
    def take(self, timeout: None = None) -> Request: ...
    @overload
    def take(self, timeout: float) -> Request | None:
        """The next request, claimed; blocks without the GIL for at most `timeout` seconds.

        None when the time is up. Raises Retired when there will be no more. Python's signal
        handlers run while it blocks. With several threads, one blocks here and the others wait for
        it.
        """
    def take_nowait(self) -> Request | Event | None:
        """For event loops: the next request or event, or None when there is none.

        Watch `fileno` and `hangup_fileno` then, and call it again until None. Raises Retired.
        """
    def stop(self) -> None:
        """Take no more requests: `take` raises Retired from now on, in every thread."""
    def fileno(self) -> int:
        """Becomes readable when there may be requests or events that `take_nowait` has not given.

        It says nothing of what was there when `take_nowait` was called: who stops before that gives
        None must call it again unasked.
        """
    def hangup_fileno(self) -> int:
        """Becomes readable, or hangs up, when arbiter and router are dead."""
    def wakeup_fileno(self) -> int:
        """For `signal.set_wakeup_fd`: a signal then interrupts `take`, without a race."""
    def room_fileno(self) -> int:
        """Becomes readable when there may be room for sending again."""
    def clear_room(self) -> None:
        """Forget the signals of `room_fileno`."""

@final
class Event:
    """What the router says about a request that was taken."""

    @property
    def kind(self) -> str:
        """ "body" or "cancel"."""
    @property
    def id(self) -> int:
        """The request."""
    @property
    def data(self) -> bytes:
        """body: the piece."""
    @property
    def last(self) -> bool:
        """body: the body ends with this piece."""
    @property
    def reason(self) -> str:
        """cancel: "left" or "timeout"."""

@final
class Request:
    """One claimed request. Text is Latin-1, as in `environ`."""

    @property
    def id(self) -> int: ...
    @property
    def method(self) -> str: ...
    @property
    def uri(self) -> str:
        """The target as it was sent."""
    @property
    def path(self) -> str:
        """The path of the target, still percent-encoded."""
    @property
    def query(self) -> str: ...
    @property
    def version(self) -> tuple[int, int]:
        """(1, 0), (1, 1) or (2, 0)."""
    @property
    def scheme(self) -> str: ...
    @property
    def peer(self) -> tuple[str, int]:
        """The client's address and port; ("", 0) on a unix socket."""
    @property
    def server(self) -> tuple[str, int]:
        """The address and port that were connected to; the path and 0 for a unix socket."""
    @property
    def script_name(self) -> str:
        """SCRIPT_NAME from a proxy that is trusted, or ""."""
    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names in upper case, in order."""
    @property
    def content_length(self) -> int | None:
        """As the client declared it."""
    @property
    def body(self) -> bytes | None:
        """The body when it came with the request; None for a file or a stream."""

@final
class Response:
    """What the application made of a request, for the hook post_request."""

    @property
    def status(self) -> str:
        """ "200 OK"; "" when there was none."""
    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...
    @property
    def sent(self) -> int:
        """How much of the body was sent, in bytes."""
    def start_response(
        self,
        status: str,
        response_headers: list[tuple[str, str]],
        exc_info: Any = None,
    ) -> Callable[[bytes], None]:
        """PEP 3333's `start_response`. Returns `write`.

        Raises TypeError and ValueError for a status or headers that cannot be, AssertionError for
        hop-by-hop headers and for a second call without `exc_info`.
        """
    def early_hints(self, headers: Iterable[tuple[str, str]]) -> None:
        """Send 103 with these headers, unless the response has begun or for HTTP/1.0."""

@final
class Input:
    """`wsgi.input`: the request's body. It ends where the body ends."""

    def read(self, size: int | None = None, /) -> bytes: ...
    def readline(self, size: int | None = None, /) -> bytes: ...
    def readlines(self, hint: int | None = None, /) -> list[bytes]: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...

@final
class FileWrapper:
    """`wsgi.file_wrapper`: a regular file in it goes out without passing through Python."""

    filelike: Any
    blksize: int
    def __init__(self, filelike: Any, blksize: int = 8192) -> None: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def close(self) -> None: ...

@final
class Wsgi:
    """The WSGI gateway (PEP 3333) for one application. Thread-safe."""

    def __init__(
        self,
        application: Callable[..., Any],
        channel: Channel,
        *,
        errors: TextIO,
        on_error: Callable[[str, BaseException | None], object],
        on_notice: Callable[[str], object] | None = None,
        multithread: bool = False,
        multiprocess: bool = False,
        root_path: str = "",
        on_request: Callable[[Request], object] | None = None,
        on_response: Callable[[Request, dict[str, Any], Response], object] | None = None,
        wrap_input: Callable[[Input], object] | None = None,
    ) -> None:
        """`errors` is `wsgi.errors`; `root_path` is SCRIPT_NAME where no proxy names one.

        `on_error` is called with a message and an exception (or None) for the log, and returns;
        `on_notice` with what is said once, of headers that are left out or not as they should be;
        `on_request` before and `on_response` after each call of the application; `wrap_input` makes
        the `wsgi.input` of a body that is a file.
        """
    def serve(self, request: Request) -> None:
        """Serve one request: build `environ`, call the application, send what it gives, close it.

        What the application raises is logged and answered. Only SystemExit and KeyboardInterrupt
        come out: the request is not done then, and the worker must exit.
        """

@final
class Asgi:
    """The ASGI gateway for one application, on one event loop."""

    busy: int
    """How many requests are served now."""

    def __init__(
        self,
        channel: Channel,
        *,
        serve: Callable[[dict[str, Any], Exchange], Coroutine[Any, Any, None]],
        create_task: Callable[[Coroutine[Any, Any, None]], Any],
        create_future: Callable[[], Any],
        call_soon: Callable[[Callable[[], None]], object],
        on_error: Callable[[str, BaseException | None], None],
        on_left: Callable[[str, BaseException | None], None],
        on_notice: Callable[[str], object] | None = None,
        root_path: str = "",
        state: dict[str, Any] | None = None,
    ) -> None:
        """`serve` makes the coroutine that serves a request; it is run by `create_task`.

        `call_soon` runs `wake_router` when the tasks that are ready have run.

        It must say at its end how the application ended: by `Exchange.returned`, `failed` or
        `cancelled`. `on_error` logs a fault with a message and an exception (or None), `on_left`
        one that came after the client had left, `on_notice` what is said once, of headers that are
        left out. `state` is copied into each `scope`.
        """
    def take(self, limit: int) -> bool:
        """Take at most `limit` frames: begin requests, pass on what comes for those that run.

        To be called when `Channel.fileno` is readable. True: there may be more, of which `fileno`
        says nothing, so call it again soon. Raises Retired when there will be no more requests.
        """
    def wake_router(self) -> None:
        """Wake the router, if it sleeps, for what was sent in this turn of the loop."""
    def take_rest(self) -> None:
        """When no more requests are taken: pass on what has come for those that run."""
    def on_room(self) -> None:
        """Go on with what waits for room. To be called when `Channel.room_fileno` is readable."""

@final
class Exchange:
    """One request and its response, as an ASGI application sees them."""

    name: str
    """`GET /path`, for the log."""

    def receive(self) -> Awaited:
        """ASGI's `receive`."""
    def send(self, message: dict[str, Any]) -> Awaited | Sent:
        """ASGI's `send`. Raises what is wrong with the message at once.

        When the client has left, nothing is sent, and a body that goes on raises BrokenPipeError.
        """
    def returned(self) -> None:
        """The application has returned."""
    def failed(self, error: BaseException) -> None:
        """The application has raised."""
    def cancelled(self) -> None:
        """The application's task was cancelled."""

@final
class Awaited(Coroutine[Any, Any, Any]):
    """Waits for a message, or for room to send one, where there is something to wait for."""

    def __await__(self) -> Generator[Any, Any, Any]: ...
    def __iter__(self) -> Awaited: ...
    def __next__(self) -> Any: ...
    def send(self, value: None) -> Any: ...
    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any: ...
    def close(self) -> None: ...

@final
class Sent(Coroutine[Any, Any, None]):
    """Ready at once: a message was sent."""

    def __await__(self) -> Generator[Any, Any]: ...
    def __iter__(self) -> Sent: ...
    def __next__(self) -> Any: ...
    def send(self, value: None) -> Any: ...
    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any: ...
    def close(self) -> None: ...

@final
class Gather:
    """Takes requests from a channel to which bodies come in pieces, and completes them."""

    def __init__(
        self,
        channel: Channel,
        directory: str | None,
        on_error: Callable[[str, BaseException | None], None],
    ) -> None:
        """Bodies beyond 1 MiB become files in `directory`, or where temporary files are."""
    def take(self) -> Request | None:
        """The next request that is complete, or None. Raises Retired when there will be no more."""

@final
class RouterEnd:
    """The router's end of a channel, for tests and benchmarks of workers."""

    def __init__(self, fds: Sequence[int]) -> None: ...
    def hello(self, generation: int) -> None:
        """Attach: set the generation and say HELLO."""
    def set_generation(self, generation: int) -> None: ...
    def ping(self) -> None: ...
    def stop(self) -> None: ...
    def cancel(self, id: int, *, timeout: bool = False) -> None: ...
    def body(self, id: int, data: bytes, *, end: bool = False) -> None: ...
    def flow(self, slot: int, word: int) -> None:
        """Set a slot's flow word (1: paused, 2: cancelled) and signal it."""
    def push(self, kind: int, message: bytes) -> int:
        """Send raw bytes as a frame. Raises BlockingIOError when there is no room."""
    @staticmethod
    def encode(
        id: int,
        *,
        method: str = "GET",
        target: str = "/",
        fields: Sequence[tuple[bytes, bytes]] = (),
        version: int = 11,
        https: bool = False,
        script_name: str = "",
        peer: str = "127.0.0.1",
        peer_port: int = 40000,
        server: str = "127.0.0.1",
        server_port: int = 8000,
        content_length: int | None = None,
        body: bytes | None = None,
        file_length: int | None = None,
        streams: bool = False,
    ) -> bytes:
        """A request's message. Fields' names are in lower case.

        `file_length`: the body is a file; `streams`: it follows in pieces.
        """
    def send(self, message: bytes, *, file: int | None = None, copies: int = 1) -> int:
        """Send an encoded request, with the descriptor of its body; its position."""
    def revoke(self, position: int) -> bool:
        """Take a request back; whether it was in time."""
    def drain(self) -> int:
        """Throw all responses away; how many requests they ended."""
    def receive(self, timeout: float = 5.0) -> dict[str, Any] | None:
        """The next frame from the worker, decoded, or None after `timeout` seconds."""
    def was_woken(self) -> bool:
        """Whether the router was woken since the last call."""
    def sleep(self) -> bool:
        """Behave like a router that is about to block. False when there are frames."""
