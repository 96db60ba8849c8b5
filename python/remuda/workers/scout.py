"""Who finds out which worker class the application needs, when nobody chose one.

What an application is can be told when it is loaded, and it is loaded once. So a worker whose class
is not known begins without one: it loads the application, tells the arbiter its kind, is given a
channel of the right size and the name of a class, and goes on as a worker of that class.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket

from .. import app, forks, process
from ..errors import AppLoadError
from . import describe
from .base import Early, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config import Config
    from ..log import Log

# How many descriptors a worker's end of a channel has.
FILES = 5
# From the first moment, where the system can: the application may have threads that start programs.
CLOSED_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def main(config: Config, log: Log, link: int, worker_id: int, *, server: object = None) -> int:
    """Load the application, then be a worker of the class that it needs; returns the exit code.

    `link` is a socket of whole messages to the arbiter: the kind goes there; the name of the class
    and the descriptors of the channel come back.
    """
    arbiter = socket.socket(fileno=link)
    process.set_title(f"worker [{config.proc_name or config.app}]")
    _handle_signals(log)
    try:
        with forks.SameProcess():
            app.prepare(config)
            application = app.load(config.app)
    except AppLoadError as error:
        log.error("%s", error, detail=error.detail)
        # For the hook worker_exit: there never was another.
        Worker(config, log, (), worker_id, server=server)._exit(error.exit_code)
        return error.exit_code
    if (doubt := app.doubt(application, config)) is not None:
        log.warning("%s", doubt)
    # One that does not show what it is is taken for WSGI.
    arbiter.send((application.kind or "wsgi").encode())
    name, files, _, _ = socket.recv_fds(arbiter, 256, FILES, CLOSED_ON_EXEC)
    for fd in files:
        os.set_inheritable(fd, False)
    arbiter.close()
    if not name:
        return 0  # the arbiter is gone
    config = config.run_by(name.decode())
    cls = describe(config).load()
    worker = cls(config, log, files, worker_id, server=server, application=application)
    worker.scouted = True
    # A worker does the same once more, and better.
    faulthandler.unregister(signal.SIGUSR2)
    return worker.main()


def _handle_signals(log: Log) -> None:
    """What signals do while there is no worker yet: what they do to one that holds nothing."""
    leave, nothing = Early(lambda: os._exit(0)), Early(lambda: None)
    for number, handler in {
        signal.SIGTERM: leave,
        signal.SIGQUIT: leave,
        signal.SIGUSR1: Early(log.reopen),
        signal.SIGINT: nothing,
        signal.SIGHUP: nothing,
        signal.SIGWINCH: nothing,
        signal.SIGUSR2: nothing,
    }.items():
        signal.signal(number, handler)
        signal.siginterrupt(number, False)
    faulthandler.enable(file=log.fileno(), all_threads=True)
    faulthandler.register(signal.SIGUSR2, file=log.fileno(), all_threads=True, chain=True)
