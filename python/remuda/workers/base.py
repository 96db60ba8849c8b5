"""The base of every worker class."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from time import monotonic

from .. import _native, app, forks, process, signals, stdlog
from ..errors import RemudaError, WorkerBootError
from .ending import STEP, Ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType
    from typing import NoReturn

    from ..config import Config
    from ..log import Log

BOOT_ERROR = WorkerBootError.exit_code
# Of the grace, what children of the worker do not get, in seconds.
RESERVE = 5.0


class Worker:
    """One worker process: takes requests from its channel and calls the application.

    A class of one's own overrides `run`, which says how calls are scheduled:

        class Custom(Worker):
            def run(self):
                while True:
                    self.gateway.serve(self.channel.take())

    `channel.take` raises `Retired` when there will be no more requests; let it out of `run`. A
    class that serves several requests at a time says how many in `slots`.

    Attributes: `config` (also `cfg`) and `log`; `id`, which counts the workers of a server (also
    `age`), and `pid`; `channel`; after `load`, `application` and `gateway`.

    Signals, which the base handles: TERM finishes what was begun and exits, while requests that
    were not begun go to other workers. QUIT calls the hook worker_int and exits at once. INT does
    nothing: a Ctrl-C goes to every process of the terminal, and it is for the arbiter to say what
    becomes of the workers. USR1 reopens the log. USR2 writes all stacks to it, without needing the
    GIL. ABRT calls the hook worker_abort and exits with code 1.

    A process that the application forks is no worker: there are no such handlers, no hook is called
    and no request comes, and when it comes back to the worker's code it ends. What else a class
    shares with such a process it gives up in `let_go`.
    """

    streams = False
    """Whether request bodies come in pieces, as events of the channel."""

    evented = False
    """Whether an event loop serves many requests on one thread, reading the channel all the time.

    It is then told when nobody waits for a request any more, and one request that takes long says
    nothing about the worker: only frames that stay unread do."""

    patches = False
    """Whether it changes the standard library before the application is imported, which therefore
    cannot be loaded before the fork (`preload_app`)."""

    wrap_input: Callable[[_native.Input], object] | None = None
    """What makes `wsgi.input` of a body that is a file; None: as it is."""

    @classmethod
    def slots(cls, config: Config) -> int:
        """How many requests a worker of this class holds at a time."""
        return 1

    def __init__(
        self,
        config: Config,
        log: Log,
        files: Sequence[int],
        worker_id: int,
        *,
        server: object = None,
        application: app.Application | None = None,
    ) -> None:
        """`files` is the worker's end of its channel. Nothing is touched before `main`."""
        self.config = self.cfg = config
        self.log = log
        self.id = self.age = worker_id
        self.pid = os.getpid()
        self.server = server
        self._files = tuple(files)
        self._loaded = application
        # Whether this process loaded the application before it knew its class: what that has set
        # up for itself stays.
        self.scouted = False
        self._booted = self._quitting = self._forked = False
        # When it was told to end, if it was.
        self._stopped_at: float | None = None

    def main(self) -> int:
        """The whole life of the worker; returns the exit code.

        0; 3 when it cannot start; 4 when the application cannot be loaded; what the application
        gave to `sys.exit`.
        """
        code = 1
        try:
            code = self._live()
        finally:
            self._exit(code)
        return code

    def _live(self) -> int:
        try:
            try:
                with forks.SameProcess():
                    self.init_process()
                    self.load()
                    if self.config.post_worker_init:
                        self.config.post_worker_init(self)
            except RemudaError as error:
                if self._quitting:
                    # What looks as if the application had called sys.exit were our own handlers.
                    return 0
                self.log.error("%s", error, detail=error.detail)
                return error.exit_code
            except Exception:
                self.log.exception("Exception in worker process")
                return BOOT_ERROR
            self._booted = True
            with forks.SameProcess():
                self.run()
        except _native.Retired:
            return 0
        except SystemExit as error:
            return self._code_of(error)
        except KeyboardInterrupt:
            return 1
        except Exception:
            self.log.exception("Exception in worker process")
            return 1
        return 0

    def init_process(self) -> None:
        """Make this process a worker: name, signals, crash reports, channel."""
        import faulthandler

        process.set_title(f"worker [{self.config.proc_name or self.config.app}]")
        stdlog.attach(self.log)
        self.channel = _native.Channel(self._files)
        self.channel.on_fork = forks.leave
        self._handlers: dict[int, Callable[[int, FrameType | None], object]] = {
            signal.SIGTERM: self._handle_term,
            signal.SIGQUIT: self._handle_quit,
            signal.SIGABRT: self._handle_abort,
            signal.SIGUSR1: self._handle_reopen,
            # Not SIG_IGN, which programs that the application starts would inherit.
            signal.SIGINT: self._handle_nothing,
            signal.SIGHUP: self._handle_nothing,
            signal.SIGWINCH: self._handle_nothing,
            # Called by faulthandler when that has written the stacks of the threads.
            signal.SIGUSR2: self._handle_dump,
        }
        # Before those of the application, which may do what a worker must not.
        os.register_at_fork(before=forks.flush, after_in_child=self._after_fork)
        for number in self._handlers:
            if self.scouted and not isinstance(signal.getsignal(number), Early):
                continue
            signal.signal(number, self._handle)
            # System calls of the application go on after a signal that it knows nothing of.
            signal.siginterrupt(number, False)
        signal.set_wakeup_fd(self.channel.wakeup_fileno(), warn_on_full_buffer=False)
        # The descriptor of the log stays the same when it is reopened.
        faulthandler.enable(file=self.log.fileno(), all_threads=True)
        faulthandler.register(signal.SIGUSR2, file=self.log.fileno(), all_threads=True, chain=True)

    def load(self) -> None:
        """Load the application and make its gateway. Raises AppLoadError."""
        config = self.config
        app.prepare(config)
        self.application = self._loaded or app.load(config.app)
        # Raises when this class cannot run such an application.
        config.worker_class_for(self.application.kind)
        if (doubt := app.doubt(self.application, config)) is not None:
            self.log.warning("%s", doubt)
        self.gateway = self.make_gateway()

    def make_gateway(self) -> _native.Wsgi:
        """The calling convention for the application."""
        config = self.config
        errors = open(  # noqa: SIM115  (open as long as the process)
            self.log.fileno(),
            "w",
            buffering=1,
            encoding="utf-8",
            errors="backslashreplace",
            closefd=False,
        )
        self._errors = errors
        return _native.Wsgi(
            self.application.callable,
            self.channel,
            errors=errors,
            on_error=self.report,
            on_notice=self.notice,
            multithread=type(self).slots(config) > 1,
            multiprocess=config.workers > 1,
            # The variable as in gunicorn, where it is also used by programs around it.
            wrap_input=self.wrap_input,
            root_path=config.root_path or os.environ.get("SCRIPT_NAME", ""),
            on_request=partial(config.pre_request, self) if config.pre_request else None,
            on_response=partial(config.post_request, self) if config.post_request else None,
        )

    def run(self) -> None:
        """Serve until there will be no more requests."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it runs")

    def stop(self) -> None:
        """Take no more requests; `run` ends when what was begun is done."""
        if self._stopped_at is None:
            self._stopped_at = monotonic()
        self.channel.stop()

    def let_go(self) -> None:
        """In a process that the application has forked: give up what it shares with the worker."""
        self.channel.let_go()

    def _after_fork(self) -> None:
        if self._forked:
            return  # by such a process
        self._forked = True
        # Else what is sent to the child would wake the worker.
        signal.set_wakeup_fd(-1)
        _restore_crash_reports()
        for number in self._handlers:
            # The application's own stay.
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signals.default(number))
        self.let_go()

    def report(self, message: str, error: BaseException | None) -> None:
        """The gateway says what went wrong with a request."""
        if not self._quitting:
            self.log.error(message, exc_info=error)

    def notice(self, message: str) -> None:
        """The gateway mends something of the application's, and says so once."""
        self.log.warning("%s", message)

    def _exit(self, code: int) -> None:
        if self.config.worker_exit:
            try:
                self.config.worker_exit(self.server, self)
            except Exception:
                self.log.exception("Exception in hook worker_exit")
        self.log.info("Worker exiting (pid: %s)", self.pid)
        ending = Ending(self.log, code)
        if self._quitting or not self._booted:
            ending.begin(STEP, STEP)
            return
        grace, now = self.config.graceful_timeout, monotonic()
        until = grace + (now if self._stopped_at is None else self._stopped_at)
        # The arbiter counts from an earlier moment, and kills this process, not its children.
        ending.begin(until - min(RESERVE, grace / 2) - now, until - now)

    def _code_of(self, error: SystemExit) -> int:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        self.log.error("%s", error.code)
        return 1

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.channel.forked:
            # The application's handler has called the one that it found in the worker.
            signal.signal(number, signals.default(number))
            signal.raise_signal(number)
        else:
            self._handlers[number](number, frame)

    def _handle_term(self, number: int, frame: FrameType | None) -> None:
        self.stop()

    def _handle_quit(self, number: int, frame: FrameType | None) -> NoReturn:
        self._quitting = True
        self.channel.stop()
        if self.config.worker_int:
            self.config.worker_int(self)
        sys.exit(0)

    def _handle_abort(self, number: int, frame: FrameType | None) -> NoReturn:
        self._quitting = True
        if self.config.worker_abort:
            self.config.worker_abort(self)
        sys.exit(1)

    def _handle_reopen(self, number: int, frame: FrameType | None) -> None:
        self.log.reopen()

    def _handle_dump(self, number: int, frame: FrameType | None) -> None:
        """What is to be said beyond the stacks of the threads."""

    def _handle_nothing(self, number: int, frame: FrameType | None) -> None:
        pass


class Early:
    """A signal handler for as long as there is no worker to handle it."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._act()


def _restore_crash_reports() -> None:
    """The log's descriptor may come to be something else in a process that we know nothing of."""
    import faulthandler

    faulthandler.unregister(signal.SIGUSR2)
    faulthandler.enable(file=2, all_threads=True)
