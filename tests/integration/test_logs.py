"""Logs that nobody reads, that fill their disk, or that are root's alone: traffic goes on."""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .applications import WSGI
from .conftest import Serve
from .processes import PATIENCE
from .server import LISTENING, Server

FORM = ("--access-logformat", "%(s)s %(U)s end")
# The longest target that is taken by default, nearly.
LONG = "/" + "x" * 4000
LINE = f"200 {LONG} end".encode()
LOST = re.compile(r"is written again; (\d+) lines were lost")


class Reader:
    """The reading end of a pipe, which is read when it suits the test."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.set_blocking(fd, False)
        self.text = b""

    def read(self) -> bytes:
        """All that came so far."""
        try:
            while piece := os.read(self.fd, 65536):
                self.text += piece
        except BlockingIOError:
            pass
        return self.text

    def close(self) -> None:
        os.close(self.fd)


def lose_lines(server: Server, why: str) -> int:
    """Send requests until the access log loses lines, and some more; how many there were."""
    count = 0
    deadline = time.monotonic() + PATIENCE
    with server.connect() as client:
        while "loses lines" not in server.log:
            assert client.get(LONG).status == 200
            count += 1
            assert time.monotonic() < deadline
        for _ in range(50):
            assert client.get(LONG).status == 200
    assert server.log.count(why) == 1
    return count + 50


def lost_lines(server: Server) -> int:
    """How many the log says were lost, once it says so."""
    found = server.eventually("it is written again", lambda: LOST.search(server.log))
    return int(found[1])


def test_an_access_log_on_a_stdout_that_nobody_reads_stops_no_traffic(serve: Serve) -> None:
    read, write = os.pipe()
    reader = Reader(read)
    server = serve("-w", "1", "--access-logfile", "-", *FORM, ready=False, stdout=write)
    count = lose_lines(server, "the access log on stdout loses lines: nobody reads it")
    # What we share with it is as it was.
    assert os.get_blocking(write)
    os.close(write)

    def is_over() -> bool:
        reader.read()
        return bool(LOST.search(server.log))

    server.eventually("it is written again", is_over)
    assert server.get("/last").status == 200
    server.eventually("the last line", lambda: reader.read().endswith(b"200 /last end\n"))
    lines = reader.text.splitlines()[:-1]
    # Whole lines only, and none is missing that was not counted.
    assert set(lines) == {LINE}
    assert len(lines) + lost_lines(server) == count
    assert server.log.count("loses lines") == 1
    reader.close()


def test_a_reader_that_goes_on_after_a_while_gets_every_line(serve: Serve) -> None:
    read, write = os.pipe()
    reader = Reader(read)
    server = serve("-w", "1", "--access-logfile", "-", *FORM, ready=False, stdout=write)
    os.close(write)
    # More than a pipe holds (64 KiB).
    with server.connect() as client:
        for _ in range(50):
            assert client.get(LONG).status == 200
    server.eventually("all lines", lambda: reader.read().count(b"\n") == 50)
    assert set(reader.text.splitlines()) == {LINE}
    assert "lines" not in server.log
    reader.close()


def test_a_fifo_is_reopened_after_its_reader_has_gone(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    first = Reader(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    server = serve("-w", "1", "--access-logfile", "fifo", *FORM, ready=False)
    assert server.get("/one").status == 200
    server.eventually("a line", lambda: first.read() == b"200 /one end\n")
    first.close()
    assert server.get("/two").status == 200
    server.says("loses lines: Broken pipe")
    # Nobody is there when it is reopened: nobody waits for that.
    server.signal(signal.SIGUSR1)
    server.says(f"Cannot reopen the access log {path}: No such device or address")
    assert server.get("/three").status == 200
    second = Reader(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    assert server.get("/four").status == 200
    server.eventually("a line again", lambda: b"200 /four end\n" in second.read())
    assert lost_lines(server) == 2
    second.close()


def test_an_error_log_that_nobody_reads_stops_nobody(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = Reader(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    server = serve("-w", "1", "--error-logfile", "fifo", ready=False)
    server.eventually("it listens", lambda: LISTENING.search(reader.read().decode()))
    listening = LISTENING.search(reader.text.decode())
    assert listening is not None
    server.error_log.write_text(listening[0] + "\n")
    # The worker writes a traceback for each; the router, a line.
    with server.connect() as client:
        for _ in range(200):
            assert client.get("/raise").status == 500
    (worker,) = server.workers
    # The arbiter writes, too, and goes on.
    for _ in range(3):
        server.signal(signal.SIGUSR1)
    server.signal(signal.SIGTTIN)
    server.wait_workers(2)
    server.signal(signal.SIGKILL, worker)
    server.wait_gone(worker)
    server.wait_workers(2)
    server.signal(signal.SIGHUP)
    old = server.workers
    server.wait_gone(*old)
    assert server.get("/").status == 200
    # Whoever reads again is told that there was more.
    reader.read()
    assert server.get("/raise").status == 500
    server.eventually("the count", lambda: b"log records could not be written" in reader.read())
    server.stop()
    reader.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 128 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)],
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_stops_no_traffic_and_is_named(serve: Serve, small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 65536)
    access = small_disk / "access.log"
    server = serve("-w", "1", "--access-logfile", str(access), *FORM, ready=False)
    count = lose_lines(server, f"the access log {access} loses lines: No space left on device")
    filler.unlink()
    assert server.get(LONG).status == 200
    lost = lost_lines(server)
    lines = access.read_bytes().split(b"\n")
    # The line that filled the disk was torn; its rest came when there was room.
    assert lines.pop() == b""
    assert set(lines) == {LINE}
    assert len(lines) + lost == count + 1


# Logs that are root's alone


def others_can_read(path: str) -> bool:
    """Whether any user may read this file."""
    found = Path(path).resolve()
    return bool(found.stat().st_mode & 0o004) and all(
        parent.stat().st_mode & 0o001 for parent in found.parents
    )


# Preloaded, with all that the worker is going to import: its user may be unable to read Python.
PRELOADED = "import asyncio, selectors, traceback, remuda.workers.asgi\n" + WSGI
ASGI = """
import asyncio, os, selectors, traceback, uvloop, remuda.workers.asgi
async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/raise":
        raise RuntimeError("on purpose")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
@pytest.mark.parametrize(
    ("application", "arguments"),
    [
        (PRELOADED, ["-k", "sync", "--preload"]),
        (WSGI, ["-k", "gevent"]),
        (ASGI, ["-k", "asgi", "--preload"]),
    ],
    ids=["sync", "gevent", "asgi"],
)
def test_logs_that_only_root_can_open_are_written_and_rotated(
    serve: Serve, tmp_path: Path, application: str, arguments: list[str]
) -> None:
    if "--preload" not in arguments and not others_can_read(os.__file__):
        pytest.skip("this Python is root's alone")
    for parent in (tmp_path, *list(tmp_path.parents)[:3]):
        if parent != Path("/tmp"):
            parent.chmod(0o755)
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o700)
    access, errors = logs / "access.log", logs / "error.log"
    server = serve(
        "-w", "2", "--user", "nobody", "--access-logfile", str(access), "--error-logfile",
        str(errors), "--access-logformat", "%(U)s", "--chdir", "/", "--pythonpath", str(tmp_path),
        *arguments, application=application, ready=False,
    )  # fmt: skip
    server.error_log = errors
    server.wait_ready()
    assert Path(f"/proc/{server.router}").stat().st_uid == pwd.getpwnam("nobody").pw_uid

    def rotate(name: str) -> None:
        """Move the logs away; router and all workers go on in new ones."""
        for path in (access, errors):
            path.rename(path.with_suffix(name))
        server.signal(signal.SIGUSR1)
        server.eventually("there are new ones", lambda: access.exists() and errors.exists())
        assert server.get("/raise").status == 500
        server.eventually("the router has written", lambda: "/raise" in access.read_text())
        server.says("on purpose")
        for pid in server.wait_workers(2):
            server.signal(signal.SIGTERM, pid)
            server.says(f"[{pid}] [INFO] Worker exiting (pid: {pid})")
            server.wait_gone(pid)
        server.wait_workers(2)

    server.wait_workers(2)
    rotate(".1")
    # Whoever comes later has them as well.
    router, worker = server.router, server.workers[0]
    server.signal(signal.SIGKILL, router)
    server.wait_gone(router)
    server.signal(signal.SIGKILL, worker)
    server.wait_gone(worker)
    server.wait_workers(2)
    assert server.get("/after").status == 200
    server.eventually("the new router writes", lambda: "/after" in access.read_text())
    rotate(".2")
    old = server.workers
    access.rename(logs / "access.3")
    errors.rename(logs / "error.3")
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 2 new workers are ready")
    server.wait_gone(*old)
    rotate(".4")
    assert "Cannot reopen" not in "".join(path.read_text() for path in logs.iterdir())
    assert all(path.stat().st_uid == 0 for path in logs.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_a_log_that_cannot_be_reopened_is_named_and_the_old_one_is_kept(
    serve: Serve, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    access = logs / "access.log"
    server = serve("-w", "1", "--access-logfile", str(access), *FORM, ready=False)
    assert server.get("/one").status == 200
    moved = tmp_path / "moved"
    logs.rename(moved)
    server.signal(signal.SIGUSR1)
    server.says(f"Cannot reopen the access log {access}: No such file or directory")
    assert server.get("/two").status == 200
    server.eventually("it is in the old one", lambda: "/two" in (moved / "access.log").read_text())
