"""The worker class when nobody chose one: workers load the application and say what it is.

A worker whose class is not known is forked with a link instead of a channel (`workers.scout` is its
side). The first of a generation that speaks decides for all; each is given a channel of the right
size and goes on as a worker of that class. So the application is loaded once, by all at a time.
"""

from __future__ import annotations

import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .children import Child
    from .config import Config
    from .machinery import Machinery


def link() -> tuple[socket.socket, tuple[int, ...]]:
    """A link, and the descriptor of the worker's end.

    Raises OSError when there is no descriptor to be had.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, (theirs.detach(),)


def hear(child: Child) -> None:
    """Take down what a worker says of its application."""
    if child.link is None or child.kind is not None:
        return
    try:
        said = child.link.recv(64)
    except BlockingIOError:
        return
    except ConnectionError:
        said = b""
    if said:
        child.kind = said.decode("ascii", "replace")
    else:
        end(child)  # it is dead, and will be reaped


def waits(child: Child) -> bool:
    """Whether a worker has spoken and is to be answered."""
    return child.link is not None and child.kind is not None


def decide(machinery: Machinery, config: Config, kind: str | None) -> Config:
    """The configuration with the class for an application of this kind.

    Raises RemudaError when that cannot be used, or when another was decided for and cannot run it.
    """
    needed = config.worker_class_for(kind)
    if config.is_class_chosen:
        return config
    decided = config.run_by(needed)
    machinery.worker_class(decided)
    return decided


def answer(child: Child, files: tuple[int, ...]) -> None:
    """Give a worker its class, which its configuration says, and its end of a channel.

    Raises OSError when the system lets no more descriptors be under way now.
    """
    if child.link is None:
        return
    try:
        socket.send_fds(child.link, [str(child.cfg.worker_class_for()).encode()], files)
    except ConnectionError:
        end(child)  # it is dead, and will be reaped
        return
    end(child)


def end(child: Child) -> None:
    """Close the link, if there is one."""
    if child.link is not None:
        child.link.close()
        child.link = None
