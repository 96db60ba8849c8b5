"""Starting a server, waiting until it answers, and leaving nothing behind."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import procfs, report
from bench.paths import APPS
from bench.servers import Launch, Server

START_SECONDS = 30.0
STOP_SECONDS = 15.0


class BenchError(Exception):
    """A benchmark cannot go on; the message says why, in lines for the user."""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    server: Server
    port: int
    pid: int
    workdir: Path

    def pids(self) -> list[int]:
        return procfs.members(self.pid)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(port: int, path: str = "/", timeout: float = 5.0) -> tuple[int, bytes, int]:
    """One request on a connection of its own: the status, the body, the size of the headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        size = sum(len(name) + len(value) + 4 for name, value in response.getheaders())
        return response.status, response.read(), size
    finally:
        connection.close()


def on_core(core: int | None, command: list[str]) -> list[str]:
    return command if core is None else ["taskset", "-c", str(core), *command]


def _gone(process: subprocess.Popen[bytes], patience: float) -> bool:
    """Whether the whole session has ended, after at most `patience` seconds."""
    deadline = time.monotonic() + patience
    while process.poll() is None or procfs.members(process.pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _end(process: subprocess.Popen[bytes], patience: float) -> None:
    """TERM to the leader, then KILL to whatever of its session is left after a while."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    if _gone(process, patience):
        return
    left = procfs.members(process.pid)
    report.note(f"{len(left)} processes outlived TERM by {patience:g} s and were killed")
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not _gone(process, STOP_SECONDS):
        raise BenchError(f"processes of session {process.pid} survive KILL")


@contextlib.contextmanager
def session(
    command: list[str], workdir: Path, environment: Mapping[str, str], patience: float
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A program as the leader of a session of its own; ended, with all of it, on the way out."""
    log = workdir / "log"
    with log.open("wb") as sink:
        try:
            process = subprocess.Popen(
                command,
                cwd=workdir,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise BenchError(f"{error.filename} is not there: run make bench") from error
    try:
        yield process, log
    finally:
        _end(process, patience)


def wait_until_it_answers(
    name: str, process: subprocess.Popen[bytes], port: int, log: Path, path: str, within: float
) -> None:
    deadline = time.monotonic() + within
    answer = "nothing"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            answer = f"exit code {process.returncode}"
            break
        try:
            status, _, _ = get(port, path)
        except (OSError, http.client.HTTPException) as error:
            answer = repr(error)
        else:
            if status == 200:
                return
            answer = f"status {status}"
        time.sleep(0.02)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise BenchError(f"{name} did not start to serve ({answer}); its log ends with\n{tail}")


@contextlib.contextmanager
def serving(
    server: Server,
    app: str,
    *,
    workers: int = 1,
    threads: int = 1,
    core: int | None = None,
    ready: str = "/",
    environment: Mapping[str, str] | None = None,
    patience: float = STOP_SECONDS,
    prefix: Sequence[str] = (),
    start: float = START_SECONDS,
) -> Iterator[Running]:
    """Run a server until the block ends; `prefix` is a command that runs another one.

    `start` and `patience` are how long it may take to answer and to stop, in seconds. Raises
    BenchError when it does not answer `ready`.
    """
    variables = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    variables["PYTHONPATH"] = os.pathsep.join(str(path) for path in (APPS, *server.pythonpath))
    variables.update(environment or {})
    with tempfile.TemporaryDirectory(prefix=f"bench-{server.name}-") as directory:
        workdir = Path(directory)
        at = Launch(free_port(), app, workers, threads, workdir)
        command = [*prefix, *on_core(core, server.command(at))]
        with session(command, workdir, variables, patience) as (process, log):
            wait_until_it_answers(server.name, process, at.port, log, ready, start)
            yield Running(server, at.port, process.pid, workdir)


@contextlib.contextmanager
def redis_server(core: int | None = None) -> Iterator[int]:
    """A Redis of our own, nothing kept on disk; gives its port."""
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as directory:
        port = free_port()
        keep_nothing = ["--save", "", "--appendonly", "no", "--maxclients", "10000"]
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), *keep_nothing]
        with session(on_core(core, command), Path(directory), os.environ, STOP_SECONDS) as (
            process,
            log,
        ):
            deadline = time.monotonic() + START_SECONDS
            while True:
                with contextlib.suppress(OSError):
                    if redis_command(port, "PING") == b"+PONG\r\n":
                        break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchError(f"redis-server did not start:\n{log.read_text()[-1000:]}")
                time.sleep(0.02)
            yield port


def redis_url(port: int, connections: int | None = None) -> str:
    """Where it is; `connections` is the limit of redis-py's pool, beyond which it raises."""
    limit = "" if connections is None else f"?max_connections={connections}"
    return f"redis://127.0.0.1:{port}/0{limit}"


def redis_command(port: int, *words: str) -> bytes:
    """One command in Redis's protocol; the raw answer, which must fit one small read."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
        link.sendall(f"*{len(words)}\r\n".encode())
        for word in words:
            link.sendall(f"${len(word)}\r\n{word}\r\n".encode())
        return link.recv(4096)
