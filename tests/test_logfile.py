"""Opening the logs' files, as root as well, and writing to them without waiting for readers."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from remuda import logfile
from remuda.errors import ConfigError
from remuda.logfile import HandOver, LogFile

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")


def owner(user: int | None = None, group: int | None = None, umask: int | None = None) -> Any:
    return SimpleNamespace(user=user, group=group, umask=umask, initgroups=False)


def opened(path: Path | str, user: int | None = None, umask: int | None = None) -> LogFile:
    return LogFile("accesslog", str(path), 1, owner(user, user, umask))


def wrong(path: Path | str, user: int | None = None) -> str:
    """What is said when it cannot be opened; the same with and without making it."""
    with pytest.raises(ConfigError) as caught:
        opened(path, user)
    with pytest.raises(ConfigError) as checked:
        logfile.check("accesslog", str(path), owner(user, user))
    assert str(checked.value) == str(caught.value)
    return str(caught.value)


# Opening


def test_it_appends_and_is_not_inherited(tmp_path):
    path = tmp_path / "log"
    path.write_text("before\n")
    file = opened(path)
    file.write(b"after\n")
    assert path.read_text() == "before\nafter\n"
    assert not os.get_inheritable(file.fileno())
    assert not fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
    file.close()


@pytest.mark.parametrize(
    ("mask", "umask", "mode"),
    [(0o022, None, 0o644), (0, None, 0o644), (0o077, None, 0o600), (0o022, 0o007, 0o660)],
)
def test_its_mode_follows_from_the_mask(tmp_path, mask, umask, mode):
    before = os.umask(mask)
    try:
        opened(tmp_path / "log", umask=umask).close()
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (tmp_path / "log").stat().st_mode & 0o777 == mode


def test_a_directory_that_is_missing_is_named(tmp_path):
    path = tmp_path / "no" / "log"
    assert wrong(path) == (
        f"accesslog: cannot open {path}: No such file or directory: "
        "create its directory, or name another file (--access-logfile)"
    )


def test_a_directory_in_its_place_is_named(tmp_path):
    assert "Is a directory" in wrong(tmp_path)


def test_a_fifo_that_nobody_reads_is_named_and_not_waited_for(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert "it is a FIFO that nobody reads" in wrong(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = opened(path)
    file.write(b"heard\n")
    assert os.read(reader, 100) == b"heard\n"
    file.close()
    os.close(reader)


def test_a_check_makes_no_file(tmp_path):
    logfile.check("errorlog", str(tmp_path / "log"), owner())
    logfile.check("errorlog", "-", owner())
    logfile.check("accesslog", None, owner())
    assert list(tmp_path.iterdir()) == []


def test_a_standard_stream_that_is_closed_is_named():
    code = (
        "import os\nfrom types import SimpleNamespace as S\nfrom remuda.logfile import LogFile\n"
        "os.close(1)\n"
        "LogFile('accesslog', '-', 1, S(user=None, group=None, umask=None, initgroups=False))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "ConfigError: accesslog: cannot open -: Bad file descriptor" in done.stderr


# Opening as root, for another user


@pytest.fixture
def place(tmp_path):
    """A directory of root's that everybody can enter."""
    for one in (tmp_path, *list(tmp_path.parents)[:3]):
        if one != Path("/tmp"):
            one.chmod(0o755)
    return tmp_path


@pytest.fixture
def theirs(place):
    """A directory of the other user's."""
    path = place / "theirs"
    path.mkdir()
    os.chown(path, NOBODY, NOBODY)
    return path


@AS_ROOT
def test_what_that_user_can_open_is_its_own(theirs):
    opened(theirs / "log", NOBODY).close()
    found = (theirs / "log").stat()
    assert (found.st_uid, found.st_gid) == (NOBODY, NOBODY)
    assert (os.geteuid(), os.getegid()) == (0, 0)


@AS_ROOT
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_what_only_root_can_open_is_root_s(place, mode):
    directory = place / "roots"
    directory.mkdir(mode=mode)
    file = opened(directory / "log", NOBODY)
    file.write(b"one\n")
    file.reopen()
    file.write(b"two\n")
    file.close()
    assert (directory / "log").read_text() == "one\ntwo\n"
    assert (directory / "log").stat().st_uid == 0
    logfile.check("accesslog", str(directory / "log"), owner(NOBODY, NOBODY))


@AS_ROOT
def test_a_link_of_root_s_is_followed(place):
    real = place / "real"
    real.mkdir(mode=0o700)
    (place / "link").symlink_to(real)
    opened(place / "link" / "log", NOBODY).close()
    (place / "other").symlink_to("link/log")
    opened(place / "other", NOBODY).close()
    assert (real / "log").exists()


@AS_ROOT
def test_a_link_of_that_user_leads_root_nowhere(place, theirs):
    precious = place / "precious"
    precious.touch(mode=0o600)
    (theirs / "log").symlink_to(precious)
    assert f"let user {NOBODY} write to it" in wrong(theirs / "log", NOBODY)
    # Nor over a link of root's to one of theirs.
    (place / "log").symlink_to(theirs / "log")
    assert "Permission denied" in wrong(place / "log", NOBODY)
    assert precious.stat().st_uid == 0


@AS_ROOT
def test_a_directory_that_is_a_link_of_that_user_leads_root_nowhere(place, theirs):
    secret = place / "secret"
    secret.mkdir(mode=0o700)
    (theirs / "logs").symlink_to(secret)
    assert "Permission denied" in wrong(theirs / "logs" / "log", NOBODY)
    (place / "logs").symlink_to("theirs/../theirs/logs")
    assert "Permission denied" in wrong(place / "logs" / "log", NOBODY)
    assert list(secret.iterdir()) == []


@AS_ROOT
@pytest.mark.parametrize("link", [False, True])
def test_a_file_of_root_s_in_a_directory_of_that_user_is_not_touched(place, theirs, link):
    precious = place / "precious"
    precious.touch(mode=0o600)
    if link:
        (theirs / "log").hardlink_to(precious)
    else:
        (theirs / "log").touch(mode=0o600)
    assert "Permission denied" in wrong(theirs / "log", NOBODY)


@AS_ROOT
def test_a_loop_of_links_ends(place):
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    assert "Too many levels of symbolic links" in wrong(place / "a", NOBODY)


@AS_ROOT
def test_the_standard_stream_can_be_named_as_a_file(place):
    # As container images do it.
    reader, writer = os.pipe()
    (place / "log").symlink_to(f"/proc/self/fd/{writer}")
    file = opened(place / "log", NOBODY)
    file.write(b"there\n")
    assert os.read(reader, 100) == b"there\n"
    file.close()
    os.close(reader)
    os.close(writer)


# Writing


def blocked() -> tuple[int, int]:
    """A pipe that is full."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"-" * 4096)
    os.set_blocking(writer, True)
    os.set_blocking(reader, False)
    return reader, writer


def drain(reader: int) -> bytes:
    read = b""
    try:
        while piece := os.read(reader, 65536):
            read += piece
    except BlockingIOError:
        pass
    return read


def test_a_pipe_that_nobody_reads_is_waited_for_once(tmp_path):
    reader, writer = blocked()
    file = opened(tmp_path / "log")
    file.replace(writer)
    started = time.monotonic()
    for _ in range(100):
        with pytest.raises(TimeoutError, match="nobody reads it"):
            file.write(b"lost\n")
    # Not a hundred times.
    assert time.monotonic() - started < 50 * logfile.PATIENCE
    drain(reader)
    file.write(b"there\n")
    assert drain(reader) == b"there\n"
    # The open file description is not ours alone: it stays as it was.
    assert os.get_blocking(file.fileno())
    os.close(reader)
    file.close()


def test_a_record_that_was_cut_short_does_not_run_into_the_next(tmp_path):
    reader, writer = blocked()
    file = opened(tmp_path / "log")
    file.replace(writer)
    os.read(reader, 8192)
    with pytest.raises(TimeoutError):
        file.write(b"x" * 100_000 + b"\n")
    written = drain(reader).lstrip(b"-")
    assert set(written) == {ord("x")}
    file.write(b"next\n")
    file.write(b"last\n")
    assert drain(reader) == b"\nnext\nlast\n"
    os.close(reader)
    file.close()


def test_a_pipe_whose_reader_is_gone_is_an_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    file = opened(tmp_path / "log")
    file.replace(writer)
    with pytest.raises(BrokenPipeError):
        file.write(b"x\n")
    file.close()


def test_a_disk_that_is_full_is_an_error():
    file = opened("/dev/full")
    with pytest.raises(OSError) as caught:
        file.write(b"x\n")
    assert caught.value.errno == errno.ENOSPC
    file.close()


# Handing over


def test_the_newest_file_is_taken_and_the_others_are_closed(tmp_path):
    hand_over = HandOver()
    assert hand_over.take() is None
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for name in ("one", "two"):
        fd = os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT)
        hand_over.give(fd)
        os.close(fd)
    fd = hand_over.take()
    assert fd is not None
    assert not os.get_inheritable(fd)
    os.write(fd, b"x")
    assert (tmp_path / "two").read_text() == "x"
    os.close(fd)
    assert hand_over.take() is None
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    hand_over.close()


def test_a_worker_that_takes_nothing_stops_nobody(tmp_path):
    hand_over = HandOver()
    with pytest.raises(BlockingIOError):
        for _ in range(100_000):
            hand_over.give(0)
    hand_over.close()


def test_a_worker_whose_arbiter_is_dead_takes_nothing():
    hand_over = HandOver()
    hand_over.keep_workers_end()
    assert hand_over.take() is None
    hand_over.close()


def test_a_timeout_that_the_application_sets_for_its_sockets_changes_nothing():
    socket.setdefaulttimeout(5)
    try:
        hand_over = HandOver()
    finally:
        socket.setdefaulttimeout(None)
    started = time.monotonic()
    assert hand_over.take() is None
    assert time.monotonic() - started < 3
    hand_over.close()
