"""Both ends of a channel in one process: what the router would send, and what it would get."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from remuda import _native


class Link:
    """A worker's channel with a router that has attached, and a WSGI gateway for an application."""

    def __init__(self, application: Callable[..., Any] | None = None, **options: Any) -> None:
        slots = options.pop("slots", 4)
        router_files, worker_files = _native.channel_files(slots)
        self.router = _native.RouterEnd(router_files)
        self.channel = _native.Channel(worker_files)
        self.logged: list[tuple[str, BaseException | None]] = []
        self.notices: list[str] = []
        self.errors = io.StringIO()
        self.sequence = 0
        if application is not None:
            self.gateway = _native.Wsgi(
                application,
                self.channel,
                errors=self.errors,
                on_error=lambda message, error: self.logged.append((message, error)),
                on_notice=self.notices.append,
                **options,
            )
        self.router.hello(1)
        assert self.channel.take(0) is None
        assert self.frame() == {"kind": "ready", "generation": 1, "busy": 0}

    def send(self, slot: int = 0, file: int | None = None, **request: Any) -> int:
        """Send a request; its id."""
        self.sequence += 1
        id = self.sequence << 16 | slot
        self.router.send(self.router.encode(id, **request), file=file)
        return id

    def serve(self, **request: Any) -> list[dict[str, Any]]:
        """Send a request, serve it in this thread, and give the frames that came of it."""
        self.send(**request)
        self.gateway.serve(self.channel.take())
        return self.frames()

    def frame(self, timeout: float = 5.0) -> dict[str, Any]:
        """The next frame of the worker."""
        frame = self.router.receive(timeout)
        assert frame is not None, "no frame came"
        return frame

    def frames(self) -> list[dict[str, Any]]:
        """All frames that are there."""
        frames = []
        while (frame := self.router.receive(0)) is not None:
            frames.append(frame)
        return frames


def body(frames: list[dict[str, Any]]) -> bytes:
    """The body that the frames of one response carry."""
    return b"".join(frame["data"] for frame in frames if frame["kind"] != "interim")


def is_complete(frames: list[dict[str, Any]]) -> bool:
    """The body was ended once and the slot was freed once, by the last frame."""
    ends = [frame for frame in frames if frame.get("end")]
    done = [frame for frame in frames if frame.get("done")]
    return len(ends) == 1 and len(done) == 1 and frames[-1] is done[0]


class Closing:
    """An iterable with a close method that remembers its calls."""

    def __init__(self, blocks: Iterable[bytes], error: BaseException | None = None) -> None:
        self.blocks = blocks
        self.error = error
        self.closed = 0
        self.at_close: list[dict[str, Any]] = []
        self.link: Link | None = None

    def __iter__(self) -> Iterator[bytes]:
        yield from self.blocks
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed += 1
        if self.link is not None:
            self.at_close = self.link.frames()
