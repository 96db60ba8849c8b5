"""The arbiter: binds, forks, reaps, reloads, scales. Serves no request, starts no thread.

One loop: signals and the router's messages are queued by the kernel; `_step` takes them, looks them
up in a table, and then does whatever the bookkeeping (`children`) says is due. Nothing in the loop
waits for anybody.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import time

from . import __version__, birth, choice, listeners, process, reload, signals, stdlog
from .backoff import Retry
from .children import Child, Children, State
from .deaths import Deaths
from .errors import AppLoadError, RemudaError, WorkerBootError
from .hooks import Server
from .listeners import Listeners
from .log import Log
from .logfile import LogFile, access_log
from .machinery import Machinery
from .pidfile import PidFile
from .router import Router
from .shutdown import Shutdown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .config import Config

# Seconds between asking a blocked worker for its stacks and killing it.
STACKS = 1.0
# Seconds after which a second TERM means that the first was not quick enough.
SECOND_WISH = 1.0
# Seconds for one that is of no use and need not say anything.
TERMINATE = 2.0


class Arbiter(Server):
    """The master process. Hooks are given it as their `server`."""

    def __init__(
        self, config: Config, *, log: Log | None = None, machinery: Machinery | None = None
    ) -> None:
        self.config = config
        self.log = Log(config) if log is None else log
        self.machinery = machinery or Machinery()
        self.pid = os.getpid()
        self.signals = signals.Signals()
        self.children = Children(config.workers)
        self.deaths = Deaths()
        self.forking = Retry()
        self.oom_kills = self.machinery.oom_kills()
        self.router = Router(self.machinery.route, self.log, self.machinery.fork)
        self.listeners = Listeners()
        self.access: LogFile | None = None
        self.pidfile: PidFile | None = None
        # The soft limit of open files that the user gave, which is the workers'.
        self.descriptor_limit = 0
        self.shutdown: Shutdown | None = None
        self.reloading: reload.Reload | None = None
        self._on_signal: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._term,
            signal.SIGINT: self._int,
            signal.SIGQUIT: self._int,
            signal.SIGHUP: self._hup,
            signal.SIGTTIN: self._ttin,
            signal.SIGTTOU: self._ttou,
            signal.SIGUSR1: self._usr1,
            signal.SIGUSR2: self._usr2,
            signal.SIGWINCH: self._winch,
        }
        self._on_message = {
            "started": self._router_started,
            "stopped": self._router_stopped,
            "ready": self._ready,
            "spent": self._spent,
            "retired": self._retired,
            "hung": self._hung,
            "broken": self._broken,
            "lost": self._lost,
            "pong": self._pong,
        }

    # The loop

    def run(self) -> int:
        """Serve until told to stop; the exit code.

        Raises RemudaError when the start fails for a reason that the user can mend.
        """
        try:
            self._start()
            while self.shutdown is None or not self.shutdown.over:
                self._step()
            return self.shutdown.exit_code
        except RemudaError as error:
            if self.log.fileno() != 2:  # else the command line says it on the same terminal
                self.log.error("%s", error)
            raise
        except Exception:
            self.log.exception("Unhandled exception in the arbiter's loop")
            return 1
        finally:
            self._leave()

    def _start(self) -> None:
        config, log = self.config, self.log
        stdlog.attach(log)
        self.hook("nworkers_changed", self, self.children.target, None, strict=True)
        log.info("Starting remuda %s", __version__)
        if config.pidfile is not None:
            self.pidfile = PidFile(config.pidfile)
        os.environ["SERVER_SOFTWARE"] = f"remuda/{__version__}"
        self.machinery.prepare(config)
        if warning := process.check_upload_dir(config):
            log.warning("%s", warning)
        self.access = access_log(config)
        if config.preload_app:
            if self.machinery.worker_class(config).patches:
                log.warning(
                    "preload_app: each worker loads the application by itself, because its class "
                    "patches the standard library before"
                )
            else:
                needed = config.worker_class_for(self.machinery.preload(config))
                if needed != config.worker_class_for():
                    self.config = config = config.run_by(needed)
        self.hook("on_starting", self, strict=True)
        self.signals.install([*self._on_signal, signal.SIGCHLD])
        self.listeners = listeners.listen(config, log, environ=os.environ, pause=self._pause)
        log.info("Listening at: %s (%s)", self.listeners, self.pid)
        if self.machinery.knows_class(config):
            log.info("Using worker: %s", _worker_name(config))
        self.hook("when_ready", self, strict=True)
        self.name_itself()
        self.descriptor_limit = process.raise_descriptor_limit()
        self.machinery.load()
        # What there is now is shared with every child: the collector must not touch, and so copy,
        # it there.
        gc.collect()
        gc.freeze()
        self._act(time.monotonic())

    def _pause(self, seconds: float) -> None:
        """Wait before binding is tried again, unless the user gives up."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self.signals.wait(left):
                for number in self.signals.take():
                    if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                        raise RemudaError(f"stopped by {signals.name(number)} before it could bind")

    def _step(self) -> None:
        self._wait(time.monotonic())
        # Messages before deaths: a worker may have said something before it died.
        for message in self.router.receive():
            self._hear(message)
        for child in self.children:
            choice.hear(child)
        for number in self.signals.take():
            self._handle(number)
        # At each turn: a full pipe may have lost a SIGCHLD.
        self._reap()
        self._act(time.monotonic())

    def _wait(self, now: float) -> None:
        """Until something happens or is due."""
        times = [self.children.next_event(now), self.deaths.due]
        if self.shutdown is not None:
            times.append(self.shutdown.next_event())
        when = self.router.next_event(now)
        if when is not None and self.router.pid is not None:
            times.append(when)
        elif when is not None and self.shutdown is None:
            times.append(max(when, self.forking.not_before))
        if self._may_not(now):
            times.append(self.forking.not_before)
        due = min((when for when in times if when is not None), default=None)
        poll = select.poll()
        poll.register(self.signals.fileno(), select.POLLIN)
        control = self.router.fileno()
        if control is not None:
            poll.register(control, select.POLLIN | (select.POLLOUT if self.router.waiting else 0))
        for child in self.children:
            if child.link is not None and child.kind is None:
                poll.register(child.link, select.POLLIN)
        # Rounded up: else it would wake up just before it is due, again and again.
        timeout = None if due is None else max(0, int((due - now) * 1000) + 1)
        for fd, events in poll.poll(timeout):
            if fd == control and events & select.POLLOUT:
                self.router.flush()

    def _handle(self, number: int) -> None:
        act = self._on_signal.get(number)
        if act is None:  # SIGCHLD, or one that a hook handles
            return
        if number != signal.SIGWINCH:
            self.log.info("Handling signal: %s", signals.name(number)[3:].lower())
        act()

    def _hear(self, message: dict[str, Any]) -> None:
        handler = self._on_message.get(message["type"])
        if handler is None:
            self.log.error("The router says what nobody understands: %s", message)
            return
        handler(message)

    def _act(self, now: float) -> None:
        """Whatever is due."""
        self.oom_kills.look(now)
        if (line := self.deaths.line(now)) is not None:
            self.log.error("%s", line)
        self._look_after_router(now)
        for child in self.children.overdue(now):
            self._overdue(child, now)
        if self.shutdown is not None:
            self.shutdown.advance(now)
        if self.reloading is not None and self.children.proven:
            done, self.reloading = self.reloading, None
            done.commit(now)
        if self.shutdown is None or self.shutdown.serving:
            for child in self.children.surplus():
                self.retire(child, self.config.graceful_timeout, now)
            for child in self.children:
                boots = child.state is State.BOOTING
                if boots and choice.waits(child) and not self._may_not(now):
                    self._give_class(child, now)
            for generation in self.children.missing(now):
                if self._may_not(now) or not self._spawn(generation, now):
                    break

    # Signals

    def _term(self) -> None:
        now = time.monotonic()
        if self.shutdown is not None:
            # `timeout` and some supervisors send it to the process and to its group, too: that is
            # one wish, not two.
            if now - self.shutdown.began >= SECOND_WISH:
                self.shutdown.at_once(now)
            return
        self._end_reload(now)
        self.shutdown = Shutdown(self, exit_code=0)
        self.shutdown.gracefully(now)

    def _int(self) -> None:
        now = time.monotonic()
        self._end_reload(now)
        if self.shutdown is None:
            self.shutdown = Shutdown(self, exit_code=0)
        self.shutdown.at_once(now)

    def _hup(self) -> None:
        if self.shutdown is not None:
            return
        self.log.info("Hang up: Master")
        self._reopen()
        self._end_reload(time.monotonic())
        self.reloading = reload.begin(self)

    def _ttin(self) -> None:
        self._adjust(+1)

    def _ttou(self) -> None:
        self._adjust(-1)

    def _adjust(self, difference: int) -> None:
        if self.shutdown is None and (changed := self.children.adjust(difference)):
            self.hook("nworkers_changed", self, *changed)

    def _usr1(self) -> None:
        self._reopen()
        for child in self.children:
            # One that is booting has no handler yet, and would die.
            if child.state is State.BOOTING:
                child.reopens = True
            elif child.state in (State.READY, State.RETIRING):
                self._reopen_in(child)

    def _usr2(self) -> None:
        self.log.warning("USR2 signal ignored: changing the running program is not supported yet")

    def _winch(self) -> None:
        self.log.debug("SIGWINCH ignored. Not daemonized")

    def _reopen(self) -> None:
        self.log.reopen()
        if self.access is not None:
            try:
                self.access.reopen()
            except OSError as error:
                self.log.error(
                    "Cannot reopen the access log %s: %s", self.access.path, error.strerror
                )
        self.router.send({"type": "reopen"}, self._log_files())

    def _reopen_in(self, child: Child) -> None:
        """Have a worker go on with the error log that was opened anew."""
        if child.hand_over is not None:
            try:
                child.log.give(child.hand_over)
            except OSError as error:
                self.log.warning(
                    "Worker (pid:%s) keeps the log that it has: %s", child.pid, error.strerror
                )
        self.signal(child, signal.SIGUSR1)

    def _log_files(self) -> list[int]:
        """What the router writes to: the error log, and the access log if there is one."""
        return [log.fileno() for log in (self.log, self.access) if log is not None]

    def _end_reload(self, now: float) -> None:
        """A reload that is under way is overtaken."""
        if self.reloading is not None:
            self.log.info("The reload before is given up")
            overtaken, self.reloading = self.reloading, None
            overtaken.undo(now)

    # What the router says

    def _router_started(self, _message: dict[str, Any]) -> None:
        self.router.has_started()
        # The time to boot is over when the router says `ready`: it could not while there was none.
        now = time.monotonic()
        for child in self.children:
            if child.state is State.BOOTING:
                child.deadline = self._boot_deadline(child.cfg, now)

    def _router_stopped(self, _message: dict[str, Any]) -> None:
        if self.shutdown is not None:
            self.shutdown.router_stopped(time.monotonic())

    def _ready(self, message: dict[str, Any]) -> None:
        child = self._child(message)
        if child is not None and self.children.ready(child, time.monotonic()) and child.reopens:
            self._reopen_in(child)

    def _spent(self, message: dict[str, Any]) -> None:
        child = self._child(message)
        if child is not None and self.children.spent(child):
            self.log.info("Autorestarting worker after current request. (pid:%s)", child.pid)

    def _retired(self, message: dict[str, Any]) -> None:
        child = self._child(message)
        if child is not None:
            self.log.debug("Worker (pid:%s) has served its last request", child.pid)

    def _hung(self, message: dict[str, Any]) -> None:
        child = self._child(message)
        if child is not None and child.state is not State.DYING:
            what, seconds = message.get("what"), message.get("seconds")
            self.log.critical(
                "WORKER TIMEOUT (pid:%s): %s: no response for %s s", child.pid, what, seconds
            )
            self._show_stacks_and_kill(child, time.monotonic())

    def _broken(self, message: dict[str, Any]) -> None:
        child = self._child(message)
        if child is not None and child.state is not State.DYING:
            self.log.error(
                "Worker (pid:%s) broke its channel, and is killed: %s",
                child.pid,
                message.get("why"),
            )
            now = time.monotonic()
            self._doom(child, now, now)

    def _lost(self, message: dict[str, Any]) -> None:
        what = str(message.get("what"))
        if self.deaths.lost(what):
            self.log.error(
                "Worker (pid:%s) %s while it served %s",
                message.get("pid"),
                message.get("why"),
                what,
            )

    def _pong(self, _message: dict[str, Any]) -> None:
        self.router.answered()

    def _child(self, message: dict[str, Any]) -> Child | None:
        """The worker that a message is about. None when it has been reaped since."""
        number = message.get("id")
        return self.children.by_id(number) if isinstance(number, int) else None

    # The router

    def _look_after_router(self, now: float) -> None:
        router = self.router
        if router.overdue(now):
            self.log.error("The router (pid:%s) does not start or exit in time: killed", router.pid)
            router.kill()
        router.look_after(now)
        if router.pid is not None or self.shutdown is not None or now < router.backoff.not_before:
            return
        if self._may_not(now):
            return
        try:
            # It is given the listening sockets, and closes those: a copy that it inherits would
            # stay open and shake hands with clients that nobody accepts.
            router.fork(self.config, self.signals, [self.log.fileno()], now)
        except OSError as error:
            self._cannot("fork a router", error, now)
            return
        self._could()
        self.tell_options()
        self.tell_listeners()
        for child in self.children:
            if child.state is not State.DYING and child.ends:
                self._tell_worker(child)
            if child.state is State.RETIRING:
                router.send({"type": "retire", "id": child.id})

    def tell_options(self) -> None:
        """Tell the router what it must know of the configuration."""
        self.router.send({"type": "options", **self.config.router_options()}, self._log_files())
        self.router.watch(self.config.router_timeout, time.monotonic())

    def tell_listeners(self) -> None:
        """Give the router the sockets to serve."""
        message = {"type": "listeners", "listeners": self.listeners.describe()}
        self.router.send(message, self.listeners.filenos())

    def _tell_worker(self, child: Child) -> None:
        self.router.send(
            {
                "type": "worker",
                "id": child.id,
                "pid": child.pid,
                "slots": child.slots,
                "max_requests": child.max_requests,
                "streams": child.streams,
                "evented": child.evented,
            },
            child.ends,
        )

    def _router_exited(self, status: int) -> None:
        # What it said last may still be unread.
        for message in self.router.receive():
            self._hear(message)
        now = time.monotonic()
        pid, started = self.router.pid, self.router.ever_started
        self.router.exited(now)
        if self.shutdown is not None:
            self.shutdown.router_stopped(now)
            return
        self.log.error("Router (pid:%s) %s", pid, _how(status))
        if not started:
            self._fail(1, "The router could not start.")

    # Workers

    def _boot_deadline(self, config: Config, now: float) -> float | None:
        return now + config.timeout if config.timeout > 0 else None

    def _spawn(self, generation: int, now: float) -> bool:
        """Fork a worker. False when that fails, which is logged."""
        trial = self.reloading if generation == self.children.trial else None
        config, log = (trial.config, trial.log) if trial else (self.config, self.log)
        child = self.children.born(generation, now, self._boot_deadline(config, now))
        child.cfg, child.log = config, log
        if config.max_requests:
            jitter = int.from_bytes(os.urandom(4), "big") % (config.max_requests_jitter + 1)
            child.max_requests = config.max_requests + jitter
        self.hook("pre_fork", self, child)
        try:
            child.hand_over = log.hand_over()
            if self.machinery.knows_class(config):
                files = self._make_channel(child)
            else:
                child.link, files = choice.link()
        except OSError as error:
            self._cannot_fork(child, self._shortage(error), now)
            return False
        # What hooks printed must not be written once more by the child.
        birth.flush()
        mask = signals.block()
        try:
            pid = self.machinery.fork()
            if pid == 0:
                birth.be_worker(self, child, files, mask)
        except OSError as error:
            self._cannot_fork(child, error, now)
            return False
        finally:
            signals.restore(mask)
            birth.close(files)
        self._could()
        if child.hand_over is not None:
            child.hand_over.keep_arbiters_end()
        self.children.forked(child, pid)
        if child.ends:
            self._tell_worker(child)
        return True

    def _make_channel(self, child: Child) -> tuple[int, ...]:
        """Make a channel for a worker of the class that its configuration says: the worker's end.

        Raises OSError when there is no memory or no descriptor to be had.
        """
        worker = self.machinery.worker_class(child.cfg)
        child.slots, child.streams, child.evented = worker.slots, worker.streams, worker.evented
        child.ends, files = self.machinery.channel(child.slots)
        return files

    def _shortage(self, error: OSError) -> OSError:
        """The same with the limit that is in the way. Raises WorkerBootError at the start for what
        does not pass by waiting."""
        why = process.shortage(error)
        if error.errno in process.LASTING and not self.children.ever_ready:
            raise WorkerBootError(f"the channel of a worker cannot be made: {why}") from None
        return OSError(error.errno, why)

    def _give_class(self, child: Child, now: float) -> None:
        """A worker has said what its application is: have it go on as that needs."""
        trial = self.reloading if child.generation == self.children.trial else None
        config = trial.config if trial else self.config
        try:
            child.cfg = choice.decide(self.machinery, config, child.kind)
        except RemudaError as error:
            self.log.error("%s", error)
            self._doom(child, now, now)
            return
        try:
            files = self._make_channel(child)
            try:
                choice.answer(child, files)
            finally:
                birth.close(files)
        except OSError as error:
            birth.close(child.ends)
            child.ends = ()
            self._cannot("give a worker its channel", self._shortage(error), now)
            return
        self._could()
        self._tell_worker(child)
        if child.cfg is config:
            return
        if trial:
            trial.config = child.cfg
        else:
            self.config = child.cfg
            self.log.info("Using worker: %s", _worker_name(self.config))

    def _may_not(self, now: float) -> bool:
        """Whether the machine had no process or no descriptor to give a moment ago."""
        return now < self.forking.not_before

    def _cannot(self, what: str, error: OSError, now: float) -> None:
        if self.forking.failed(f"{what}: {error.strerror}", now):
            self.log.error(
                "Cannot %s: %s. Tried again every %g s", what, error.strerror, Retry.PAUSE
            )

    def _could(self) -> None:
        if failures := self.forking.worked():
            self.log.info("Forking works again, after %d failures", failures)

    def _cannot_fork(self, child: Child, error: OSError, now: float) -> None:
        birth.release(child)
        self._cannot("fork a worker", error, now)
        if child.generation == self.children.trial:
            self._reload_failed(f"a new worker cannot be forked ({error.strerror})", now)

    def retire(self, child: Child, grace: float, now: float) -> None:
        """No more requests for this one; it exits when it has served those that it holds."""
        if child.state is State.BOOTING:
            self.signal(child, signal.SIGTERM)
            self.children.dismiss(child, now + TERMINATE)
        elif self.children.retire(child, now + grace):
            self.router.send({"type": "retire", "id": child.id})

    def _overdue(self, child: Child, now: float) -> None:
        if child.state is State.BOOTING:
            if not self.router.started:
                child.deadline = self._boot_deadline(child.cfg, now)
                return
            self.log.critical(
                "WORKER TIMEOUT (pid:%s): not ready %s s after its fork",
                child.pid,
                child.cfg.timeout,
            )
            self._show_stacks_and_kill(child, now)
            return
        if child.state is State.RETIRING:
            self.log.warning("Worker (pid:%s) has not finished in time: killed", child.pid)
        self._kill(child)

    def _show_stacks_and_kill(self, child: Child, now: float) -> None:
        """Have a blocked worker log its stacks. It dies a little later, and is replaced now."""
        self.signal(child, signal.SIGUSR2)
        # It may be stopped: then it acts on the first signal when it goes on.
        self.signal(child, signal.SIGCONT)
        self._doom(child, now, now + STACKS)

    def _doom(self, child: Child, now: float, deadline: float) -> None:
        self.children.doom(child, now, deadline)
        if child.generation == self.children.trial:
            self._reload_failed(f"a new worker (pid:{child.pid}) did not work", now)

    def _kill(self, child: Child) -> None:
        child.killed = True
        child.deadline = None
        child.state = State.DYING
        self.signal(child, signal.SIGKILL)

    def signal(self, child: Child, number: int) -> None:
        """Send a signal to a worker. One that has not been reaped can always be sent one."""
        os.kill(child.pid, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.router.pid:
                self._router_exited(status)
                continue
            now = time.monotonic()
            child = self.children.exited(pid, now)
            if child is None:
                # A hook's, or, as process 1 of a container, an orphan.
                self.log.debug("Reaped unknown child process (pid:%s, status:%s)", pid, status)
                continue
            self._exited(child, status, now)

    def _exited(self, child: Child, status: int, now: float) -> None:
        how = _how(status)
        code = os.waitstatus_to_exitcode(status)
        self._tell_death(child, code, how, now)
        self.router.send({"type": "gone", "id": child.id, "why": how})
        birth.release(child)
        self.hook("child_exit", self, child, config=child.cfg)
        if self.shutdown is not None and not self.shutdown.graceful:
            return
        if child.generation == self.children.trial and child.serving:
            self._reload_failed(f"a new worker (pid:{child.pid}) {how}", now)
        elif not self.children.ever_ready and child.ready_at is None and not child.dismissed:
            if code == AppLoadError.exit_code:
                self._fail(code, "App failed to load.")
            else:
                self._fail(WorkerBootError.exit_code, "Worker failed to boot.")

    def _tell_death(self, child: Child, code: int, how: str, now: float) -> None:
        by_others = code == -signal.SIGKILL and not child.killed
        if by_others and self.oom_kills.struck(now):
            how += ". Perhaps out of memory? The kernel has just killed for want of it"
        if child.serving:
            # Nobody asked for it, and there may be many.
            if self.deaths.died(how, now):
                level = "error" if code else "info"
                self.log.log(level, "Worker (pid:%s) %s.", child.pid, how)
        elif code > 0 or by_others:
            self.log.error("Worker (pid:%s) %s.", child.pid, how)
        elif child.killed:
            self.log.info("Worker (pid:%s) %s.", child.pid, how)

    def _reload_failed(self, why: str, now: float) -> None:
        if self.reloading is not None:
            failed, self.reloading = self.reloading, None
            failed.abort(why, now)

    # The end

    def _fail(self, exit_code: int, reason: str) -> None:
        """The server cannot go on."""
        self.log.error("Reason: %s", reason)
        self.shutdown = Shutdown(self, exit_code)
        self.shutdown.at_once(time.monotonic())

    def _leave(self) -> None:
        """Whatever happened, nothing stays behind."""
        if (line := self.deaths.rest(time.monotonic())) is not None:
            self.log.error("%s", line)
        for child in self.children:
            self.log.error("Worker (pid:%s) is killed", child.pid)
            self._kill(child)
        if self.router.pid is not None:
            self.router.kill()
        self.router.close()
        self.listeners.close()
        self.listeners.unlink()
        if self.pidfile is not None:
            self.pidfile.unlink()
        if len(self.listeners):  # else it never began
            self.log.info("Shutting down: Master")
            self.hook("on_exit", self)
        self.signals.end()

    # Small things

    def name_itself(self) -> None:
        """Set the process title."""
        process.set_title(f"arbiter [{self.proc_name}]")


def _worker_name(config: Config) -> str:
    chosen = config.worker_class_for()
    return chosen if isinstance(chosen, str) else f"{chosen.__module__}.{chosen.__qualname__}"


def _how(status: int) -> str:
    """The end of a sentence that begins with who died: from what waitpid(2) gave."""
    code = os.waitstatus_to_exitcode(status)
    return f"exited with code {code}" if code >= 0 else f"was killed by {signals.name(-code)}"
