"""Servers and workers of the classes that run greenlets, for their tests."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from email.message import Message
from pathlib import Path

from arbiter_driver import alive, eventually

CLASSES = ["gevent", "eventlet"]


class Answer:
    """What a request got."""

    def __init__(self, status: int, headers: Message, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()


class Call(threading.Thread):
    """A request that goes on beside the test."""

    def __init__(self, server: Server, path: str) -> None:
        super().__init__(daemon=True)
        self.server, self.path = server, path
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self.server.get(self.path)
        except (OSError, http.client.HTTPException) as error:
            self.error = error

    def result(self) -> Answer:
        self.join(30)
        assert not self.is_alive(), f"no answer to {self.path}"
        assert self.answer is not None, self.error
        return self.answer


class Server:
    """A real server on a port of its own, serving `demo:app` of its directory."""

    def __init__(
        self, directory: Path, application: str, *arguments: str, app: str = "app"
    ) -> None:
        self.directory = directory
        (directory / "demo.py").write_text(application)
        self.path = directory / "log"
        with self.path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "remuda", "-b", "127.0.0.1:0", *arguments, f"demo:{app}"],
                cwd=directory,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        try:
            self.says("Listening at: http://127.0.0.1:")
        except BaseException:
            self.stop()
            raise
        self.port = int(self.log().split("Listening at: http://127.0.0.1:")[1].split()[0])

    def log(self) -> str:
        return self.path.read_text()

    def says(self, text: str, times: int = 1) -> None:
        """Wait until the log has this text."""

        def said() -> bool:
            if self.process.poll() is None:
                return self.log().count(text) >= times
            assert self.log().count(text) >= times, self.log()
            return True

        eventually(f"the log says {text!r}", said)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str = "/") -> Answer:
        return self.request("GET", path)

    def call(self, path: str) -> Call:
        return Call(self, path)

    def calls(self, path: str, count: int) -> list[Call]:
        return [self.call(path) for _ in range(count)]

    def workers(self) -> list[int]:
        """All that were ever booted."""
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.log())]

    def begun(self, name: str) -> Path:
        """Wait until the application has made this file."""
        path = self.directory / name
        eventually(f"{name} exists", path.exists)
        return path

    def terminate(self) -> int:
        """TERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def stop(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        for pid in self.workers():
            eventually(f"worker {pid} is gone", lambda pid=pid: not alive(pid))


def idle_ticks(pid: int) -> int:
    """How much processor time a process has had, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
