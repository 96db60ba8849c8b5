"""What a forked child does before it becomes what it is: privileges, name, descriptors."""

# pathlib would cost the arbiter 0.9 MiB.
# ruff: noqa: PTH108, PTH116, PTH118, PTH208

from __future__ import annotations

import errno
import os
import stat

from .errors import ConfigError, RemudaError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Protocol, TypeVar

    T = TypeVar("T")

    class Owner(Protocol):
        """What is read of a Config."""

        @property
        def user(self) -> int | None: ...
        @property
        def group(self) -> int | None: ...
        @property
        def umask(self) -> int | None: ...
        @property
        def initgroups(self) -> bool: ...

    class Uploads(Owner, Protocol):
        """What is read of a Config."""

        @property
        def tmp_upload_dir(self) -> str | None: ...
        @property
        def upload_dir(self) -> str: ...


def drop_privileges(config: Owner) -> None:
    """Become the user and group of `config`, for good, and take its umask, if it has one.

    The supplementary groups of root do not stay with the new user: they become its own
    (`initgroups`), or none. Raises RemudaError when that is not allowed.
    """
    if config.umask is not None:
        os.umask(config.umask)
    user, group = config.user, config.group
    try:
        if group is not None and (group != os.getegid() or group != os.getgid()):
            os.setgid(group)
        if user is not None and (user != os.geteuid() or user != os.getuid()):
            if os.geteuid() == 0:
                os.setgroups(_groups(config))
            os.setuid(user)
    except PermissionError as error:
        raise RemudaError(
            f"cannot become user {user}, group {group}: {error.strerror}",
            "start remuda as root, or leave out --user and --group",
        ) from None


def is_another(config: Owner) -> bool:
    """Whether router and workers become another user than this process is, which is root."""
    return os.geteuid() == 0 and config.user not in (None, 0)


def as_user(config: Owner, action: Callable[[], T]) -> T:
    """Call `action` with the rights of the user that router and workers become.

    For the arbiter alone, which has no other threads. Its real user stays root, so that the other
    one can send it no signals meanwhile.
    """
    if not is_another(config):
        return action()
    assert config.user is not None
    group, groups = os.getegid(), os.getgroups()
    try:
        os.setgroups(_groups(config))
        os.setegid(_group(config))
        os.seteuid(config.user)
        return action()
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _group(config: Owner) -> int:
    return os.getegid() if config.group is None else config.group


def _groups(config: Owner) -> list[int]:
    """The supplementary groups of the user: its own (`initgroups`), or none but its group."""
    if not config.initgroups:
        return [_group(config)]
    import pwd

    assert config.user is not None
    try:
        return os.getgrouplist(pwd.getpwuid(config.user).pw_name, _group(config))
    except KeyError:
        raise RemudaError(
            f"user {config.user} has no entry in the user database, which --initgroups needs",
            "leave out --initgroups",
        ) from None


def check_directory(path: str) -> None:
    """Raise OSError when no file can be made in a directory."""
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def check_upload_dir(config: Uploads) -> str | None:
    """Whether the router will be able to store bodies in `upload_dir`, as the user of `config`.

    Raises ConfigError when it will not. Where nobody chose the directory that is no fault, as
    bodies may never be so large: then it returns a warning.
    """
    path, user, group = config.upload_dir, config.user, config.group
    code = as_user(config, lambda: _make_file(path))
    if code == 0:
        return None
    who = f"user {user}, group {group}" if is_another(config) else "this user"
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


def raise_descriptor_limit() -> int:
    """Let this process and its children open as many files as they may: five a worker are ours.

    Returns the limit before, for `limit_descriptors`.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            # macOS: "unlimited" is more than the kernel grants. The soft limit stays; what does not
            # fit into it is reported where it fails.
            return soft
    return soft


def limit_descriptors(soft: int) -> None:
    """Undo `raise_descriptor_limit`, for a child that runs the code of others.

    select(2) cannot take descriptors from 1024 on, and some programs close every number there can
    be, one after the other.
    """
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def renounce_privileges() -> None:
    """Gain no privileges any more by starting programs, and let none of these gain any."""
    from . import _native

    _native.no_new_privileges()


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
