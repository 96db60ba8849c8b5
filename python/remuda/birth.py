"""From fork to worker: what the child does with its copy of the arbiter before it is a worker."""

from __future__ import annotations

import os
import sys

from . import choice, process, signals
from .errors import RemudaError, WorkerBootError
from .forks import flush as flush

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn

    from .arbiter import Arbiter
    from .children import Child


def be_worker(
    arbiter: Arbiter, child: Child, files: tuple[int, ...], mask: set[signal.Signals | int]
) -> NoReturn:
    """In the child: never returns."""
    code = WorkerBootError.exit_code
    log = child.log
    try:
        arbiter.signals.forget_in_child()
        signals.restore(mask)
        forget_processes()
        # Others' descriptors. Kept open here, they would hide the death of their owners.
        arbiter.listeners.close()
        if arbiter.reloading is not None:
            arbiter.reloading.listeners.close()
        arbiter.router.close()
        if child.hand_over is not None:
            child.hand_over.keep_workers_end()
        log.be_handed(child.hand_over)
        child.hand_over = None
        for other in (child, *arbiter.children):
            release(other)
        child.pid = os.getpid()
        process.set_title(f"worker [{child.cfg.proc_name or 'remuda'}]")
        # In a crash loop a line for all is enough.
        log.log(
            "debug" if arbiter.deaths.due is not None else "info",
            "Booting worker with pid: %s",
            child.pid,
        )
        arbiter.hook("post_fork", arbiter, child, config=child.cfg, strict=True)
        process.drop_privileges(child.cfg)
        process.limit_descriptors(arbiter.descriptor_limit)
        if child.cfg.no_new_privs:
            process.renounce_privileges()
        code = arbiter.machinery.work(arbiter, child, files)
    except RemudaError as error:
        log.error("%s", error)
        code = error.exit_code
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # nothing may leave this frame: it is a copy of the arbiter's
        log.exception("Exception in worker process")
    finally:
        try:
            finalize()
        except SystemExit:
            pass  # QUIT came: at once
        except BaseException:
            log.exception("Exception at the end of worker process")
        finally:
            os._exit(code & 0xFF)


def forget_processes() -> None:
    """What a hook has begun with multiprocessing is the arbiter's: no worker ends it, or joins it.

    As multiprocessing does in the processes that it forks itself.
    """
    if (multiprocessing := sys.modules.get("multiprocessing.process")) is not None:
        multiprocessing._children.clear()
        multiprocessing.BaseProcess._after_fork()


def close(fds: tuple[int, ...]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)


def release(child: Child) -> None:
    """Close what the arbiter, and whoever is forked from it, has open of a child."""
    close(child.ends)
    child.ends = ()
    choice.end(child)
    if child.hand_over is not None:
        child.hand_over.close()
        child.hand_over = None


def finalize() -> None:
    """What an application expects of the end of its process: threads joined, atexit, output.

    As the interpreter's own end does it, but that the arbiter's frames below this one are not
    unwound.
    """
    import atexit

    if (threading := sys.modules.get("threading")) is not None:
        threading._shutdown()
    atexit._run_exitfuncs()
    flush()
