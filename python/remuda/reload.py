"""HUP: a new generation of workers, tried beside the old one.

Everything that can fail comes first: reading the configuration, binding, booting every new worker.
Only when all of the new ones are ready do they replace the old ones; otherwise nothing has
happened.
"""

from __future__ import annotations

import signal

from . import listeners as sockets
from . import process, stdlog
from .children import State
from .errors import RemudaError
from .listeners import Listeners
from .log import Log
from .logfile import LogFile, access_log
from .pidfile import PidFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .arbiter import Arbiter
    from .config import Config

# What a log file follows from: if it stays the same, so does the file.
_OWNER = ("user", "group", "initgroups", "umask")
_ACCESS_LOG = ("accesslog", *_OWNER)
_ERROR_LOG = ("errorlog", "loglevel", "capture_output", *_OWNER)
# Seconds for a new worker that nobody needs any more to go by itself.
GO = 2.0


class Reload:
    """A reload under way."""

    def __init__(
        self,
        arbiter: Arbiter,
        config: Config,
        log: Log,
        access: LogFile | None,
        pidfile: PidFile | None,
        listeners: Listeners,
    ) -> None:
        self.arbiter = arbiter
        self.config = config
        self.listeners = listeners
        self.log = log
        self.access = access
        self.pidfile = pidfile
        self.generation = arbiter.children.begin(config.workers)

    def commit(self, now: float) -> None:
        """All new workers are ready: they replace the old ones."""
        arbiter = self.arbiter
        before, arbiter.config = arbiter.config, self.config
        number_before = arbiter.children.target
        old = arbiter.children.commit()
        number = arbiter.children.target
        replaced, arbiter.log, arbiter.router.log = arbiter.log, self.log, self.log
        stdlog.attach(arbiter.log)
        access_before, arbiter.access = arbiter.access, self.access
        was, arbiter.listeners = arbiter.listeners, self.listeners
        arbiter.tell_options()
        if [one.bind for one in was] != [one.bind for one in self.listeners]:
            arbiter.log.info("Listening at: %s (%s)", arbiter.listeners, arbiter.pid)
            arbiter.tell_listeners()
            was.close(but=arbiter.listeners)
            was.unlink(but=arbiter.listeners)
        if arbiter.pidfile is not None and arbiter.pidfile is not self.pidfile:
            arbiter.pidfile.unlink()
        arbiter.pidfile = self.pidfile
        for child in old:
            arbiter.retire(child, before.graceful_timeout, now)
        if replaced is not arbiter.log and replaced.fileno() > 2:
            replaced.close()
        if access_before is not None and access_before is not arbiter.access:
            access_before.close()
        arbiter.hook("nworkers_changed", arbiter, number, number_before)
        arbiter.log.info("Reloaded: %d new workers are ready, the old ones retire", number)
        arbiter.name_itself()

    def abort(self, why: str, now: float) -> None:
        """Give up: the new workers go, the old ones and their configuration stay."""
        arbiter = self.arbiter
        arbiter.log.error("Reload failed: %s. The old workers and their configuration stay.", why)
        self.undo(now)

    def undo(self, now: float) -> None:
        """The new workers go: at once while they boot, else after the requests that they hold."""
        arbiter = self.arbiter
        for child in arbiter.children.give_up():
            if child.state is State.BOOTING:
                arbiter.signal(child, signal.SIGTERM)
                arbiter.children.dismiss(child, now + GO)
            else:
                arbiter.retire(child, self.config.graceful_timeout, now)
        if self.pidfile is not None and self.pidfile is not arbiter.pidfile:
            self.pidfile.unlink()
        if self.access is not None and self.access is not arbiter.access:
            self.access.close()
        self.listeners.close(but=arbiter.listeners)
        self.listeners.unlink(but=arbiter.listeners)


def begin(arbiter: Arbiter) -> Reload | None:
    """Read the configuration again, bind what is new. None when that fails: it is logged."""
    log = fresh = arbiter.log
    access = arbiter.access
    try:
        config = arbiter.machinery.reload(arbiter.config)
        arbiter.machinery.prepare(config)
        if warning := process.check_upload_dir(config):
            log.warning("%s", warning)
        if not _same(arbiter.config, config, _ERROR_LOG):
            fresh = Log(config)
        if not _same(arbiter.config, config, _ACCESS_LOG):
            access = access_log(config)
        # One try: the loop must not wait while there are workers to look after.
        listeners = sockets.listen(config, log, tries=1, keep=arbiter.listeners)
        pidfile = _pidfile(arbiter, config, listeners)
    except RemudaError as error:
        if fresh is not log:
            fresh.close()
        if access is not None and access is not arbiter.access:
            access.close()
        log.error("Reload failed: %s. The old workers and their configuration stay.", error)
        return None
    if config.preload_app:
        log.warning("preload_app: the code stays as it was loaded; restart to change it")
    arbiter.hook("on_reload", arbiter, config=config)
    return Reload(arbiter, config, fresh, access, pidfile, listeners)


def _pidfile(arbiter: Arbiter, config: Config, listeners: Listeners) -> PidFile | None:
    """The pid file of the new configuration. When it fails, what was bound is given back."""
    if config.pidfile == arbiter.config.pidfile:
        return arbiter.pidfile
    try:
        return None if config.pidfile is None else PidFile(config.pidfile)
    except RemudaError:
        listeners.close(but=arbiter.listeners)
        listeners.unlink(but=arbiter.listeners)
        raise


def _same(old: Config, new: Config, names: tuple[str, ...]) -> bool:
    return all(getattr(old, name) == getattr(new, name) for name in names)
