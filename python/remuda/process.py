"""What a forked child does before it becomes what it is: privileges, name, descriptors."""

# pathlib would cost the arbiter 0.9 MiB.
# ruff: noqa: PTH108, PTH118, PTH208

from __future__ import annotations

import errno
import os
import stat

from . import signals
from .errors import ConfigError, RemudaError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Protocol

    class Owner(Protocol):
        """What is read of a Config."""

        @property
        def user(self) -> int | None: ...
        @property
        def group(self) -> int | None: ...
        @property
        def umask(self) -> int: ...
        @property
        def initgroups(self) -> bool: ...

    class LogOwner(Owner, Protocol):
        """What is read of a Config."""

        @property
        def accesslog(self) -> str | None: ...

    class Uploads(Owner, Protocol):
        """What is read of a Config."""

        @property
        def tmp_upload_dir(self) -> str | None: ...
        @property
        def upload_dir(self) -> str: ...


def drop_privileges(config: Owner) -> None:
    """Become the user and group of `config`, for good, and take its umask.

    The supplementary groups of root do not stay with the new user: they become its own
    (`initgroups`), or none. Raises RemudaError when that is not allowed.
    """
    os.umask(config.umask)
    user, group = config.user, config.group
    try:
        if group is not None and (group != os.getegid() or group != os.getgid()):
            os.setgid(group)
        if user is not None and (user != os.geteuid() or user != os.getuid()):
            if os.geteuid() == 0:
                if config.initgroups:
                    import pwd

                    os.initgroups(pwd.getpwuid(user).pw_name, os.getgid())
                else:
                    os.setgroups([os.getgid()])
            os.setuid(user)
    except PermissionError as error:
        raise RemudaError(
            f"cannot become user {user}, group {group}: {error.strerror}",
            "start remuda as root, or leave out --user and --group",
        ) from None
    except KeyError:
        raise RemudaError(
            f"user {user} has no entry in the user database, which --initgroups needs",
            "leave out --initgroups",
        ) from None


def give_access_log(config: LogOwner) -> None:
    """Make the access log, as root, so that the router can open it when it is root no more.

    Symbolic links are not followed, and nothing but a file of one name that is root's is given
    away: where the new owner may write to the directory, it could name anything there. Raises
    ConfigError when the file cannot be made.
    """
    path, user, group = config.accesslog, config.user, config.group
    if path is None or path == "-" or os.geteuid() != 0 or not (user or group):
        return
    try:
        fd = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )
    except OSError as error:
        if error.errno == errno.ELOOP:
            return
        raise ConfigError(
            f"accesslog: cannot open {path}: {error.strerror}",
            "create its directory, or name another file (--access-logfile)",
        ) from None
    try:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == 0:
            os.fchown(fd, -1 if user is None else user, -1 if group is None else group)
    finally:
        os.close(fd)


def check_upload_dir(config: Uploads) -> str | None:
    """Whether the router will be able to store bodies in `upload_dir`, as the user of `config`.

    Raises ConfigError when it will not. Where nobody chose the directory that is no fault, as
    bodies may never be so large: then it returns a warning.
    """
    path, user, group = config.upload_dir, config.user, config.group
    # Whoever changes its user finds out in a child: no look at modes is as good.
    other = os.geteuid() == 0 and (user or group)
    code = _as_owner(config, lambda: _make_file(path)) if other else _make_file(path)
    if code == 0:
        return None
    who = f"user {user}, group {group}" if other else "this user"
    if config.tmp_upload_dir is not None:
        raise ConfigError(
            f"tmp_upload_dir: nothing can be stored in {path}: {os.strerror(code)}",
            f"make it writable for {who}, or name another directory (--tmp-upload-dir)",
        )
    return (
        f"bodies larger than request_buffer cannot be stored in {path} ({os.strerror(code)}), "
        f"by {who}: name a directory with --tmp-upload-dir"
    )


def _make_file(directory: str) -> int:
    """Make a file without a name, as the router does; the error's number, or 0."""
    try:
        os.close(os.open(directory, os.O_RDWR | getattr(os, "O_TMPFILE", os.O_DIRECTORY), 0o600))
        return 0
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            return error.errno or errno.EIO
    # The file system cannot do it: with a name, then.
    path = os.path.join(directory, f".remuda-{os.getpid()}-check")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(path)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _as_owner(config: Owner, act: Callable[[], int]) -> int:
    """What `act` returns, 0 to 255, in a child that runs as the user of `config`."""
    mask = signals.block()
    try:
        pid = os.fork()
        if pid == 0:
            code = 0
            try:
                drop_privileges(config)
                code = act()
            except RemudaError:
                pass  # said by those who must become that user
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
    finally:
        signals.restore(mask)
    return max(0, os.waitstatus_to_exitcode(status))


# What does not pass by waiting.
LASTING = (errno.EFBIG, errno.EPERM, errno.EACCES, errno.ENOSYS)


def shortage(error: OSError) -> str:
    """What the system said, and which limit is the likely reason."""
    import resource

    limits = {
        errno.EFBIG: ("RLIMIT_FSIZE", "ulimit -f", resource.RLIMIT_FSIZE),
        errno.EMFILE: ("RLIMIT_NOFILE", "ulimit -n", resource.RLIMIT_NOFILE),
        errno.ENOMEM: ("RLIMIT_AS", "ulimit -v", resource.RLIMIT_AS),
    }
    said = str(error.strerror)
    if error.errno in limits:
        name, command, number = limits[error.errno]
        soft, _ = resource.getrlimit(number)
        if soft != resource.RLIM_INFINITY:
            said += f"; {name} is {soft}, raise it ({command})"
    elif error.errno in LASTING:
        said += "; it is forbidden here (seccomp?), or unknown to this kernel"
    return said


def raise_descriptor_limit() -> None:
    """Let this process and its children open as many files as they may: five a worker are ours."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            # macOS: "unlimited" is more than the kernel grants. The soft limit stays; what does not
            # fit into it is reported where it fails.
            return


def set_title(title: str) -> None:
    """Name the process in `ps` and `top`: `remuda: ` and `title`."""
    from setproctitle import setproctitle

    setproctitle(f"remuda: {title}")


def close_all_but(keep: Collection[int]) -> None:
    """Close every descriptor but these.

    Only for a child that never runs Python code of others again: objects that own a descriptor
    would close its number a second time, when it may be someone else's.
    """
    for name in os.listdir("/dev/fd"):
        fd = int(name)
        if fd not in keep:
            try:
                os.close(fd)
            except OSError as error:
                # The descriptor of the listing itself is in the list, and closed by now.
                if error.errno != errno.EBADF:
                    raise
