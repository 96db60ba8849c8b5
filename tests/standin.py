"""A router and workers that stand in for the real ones, so that the arbiter is tested alone.

Run as a program it is a server: `standin.py DIRECTORY [ARGUMENTS of remuda]`. In DIRECTORY

* `journal` gets a JSON line for whatever happens in a child: what the router was told, what a
  worker saw;
* `router.sock` takes orders for the router: `{"say": MESSAGE}` to tell the arbiter something,
  `{"exit": CODE}`, `{"hang": true}` to stop reading, `{"hang_up": true}` to close the control
  socket;
* `worker` says what workers do when they boot: a word of `BOOTS`, read at each boot;
* `no_descriptors`, when it exists, lets no channel be made, and `no_processes` no process;
* `oom_kills` is the kernel's count of those that it killed for want of memory;
* `no_router` and `router_hangs`, when they exist, have the router exit or sleep before it begins;
* `slow_stop`, when it exists, keeps the router from saying `stopped`.

A worker says that it is ready over the channel's descriptors socket, and is told to stop there.
"""

# Numbers of descriptors are no paths.
# ruff: noqa: PTH115, PTH208

from __future__ import annotations

import array
import errno
import faulthandler
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from remuda import config as configuration
from remuda.arbiter import Arbiter
from remuda.children import Child
from remuda.errors import AppLoadError, RemudaError, WorkerBootError
from remuda.machinery import Machinery
from remuda.oom import OomKills
from remuda.workers import WorkerClass

BOOTS = ("ready", "exit3", "exit4", "raise", "abort", "sleep", "die_after_ready")


class StandIn(Machinery):
    """What the arbiter runs instead of the real thing."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.preloaded: list[str] = []

    def load(self) -> None:
        """Nothing: the extension module is not needed here."""

    def worker_class(self, config: configuration.Config) -> WorkerClass:
        slots = config.threads
        return WorkerClass("stand-in", "none:None", slots, streams=False, evented=False)

    def channel(self, slots: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if (self.directory / "no_descriptors").exists():
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(5)]
        return (
            tuple(one.detach() for one, _ in pairs),
            tuple(other.detach() for _, other in pairs),
        )

    def knows_class(self, config: configuration.Config) -> bool:
        return True

    def fork(self) -> int:
        if (self.directory / "no_processes").exists():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return super().fork()

    def oom_kills(self) -> OomKills:
        return OomKills([str(self.directory / "oom_kills")])

    def preload(self, config: configuration.Config) -> str:
        if config.app == "missing:app":
            raise AppLoadError("there is no module 'missing'")
        self.preloaded.append(config.app)
        return "wsgi"

    def note(self, who: str, what: str, **more: Any) -> None:
        line = json.dumps({"who": who, "pid": os.getpid(), "what": what, **more}) + "\n"
        fd = os.open(self.directory / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(fd, line.encode())
        os.close(fd)

    # The worker

    def work(self, arbiter: Arbiter, child: Child, files: tuple[int, ...]) -> int:
        boot = (self.directory / "worker").read_text().strip()
        link = socket.socket(fileno=files[-1])
        for fd in files[:-1]:
            os.close(fd)
        faulthandler.register(signal.SIGUSR2, child.log.fileno())
        self.note(
            "worker",
            "born",
            id=child.id,
            boot=boot,
            fds=sorted(os.listdir("/proc/self/fd")),
            threads=len(os.listdir("/proc/self/task")),
            sockets=_sockets(),
            title=_title(),
            uid=os.getuid(),
            groups=os.getgroups(),
            umask=_umask(),
            preloaded=self.preloaded,
            environ=dict(os.environ),
            dispositions=_dispositions(),
        )
        if boot == "exit3":
            raise WorkerBootError("there is no room")
        if boot == "exit4":
            raise AppLoadError("there is no application")
        if boot == "raise":
            raise RuntimeError("boom at boot")
        if boot == "abort":
            os.kill(os.getpid(), signal.SIGKILL)
        if boot == "sleep":
            time.sleep(3600)
        stop, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        link.send(b"ready")
        if boot == "die_after_ready":
            # Read once the router has seen it: then the arbiter hears it before the death.
            link.recv(100)
            os._exit(7)
        while True:
            readable, _, _ = select.select([link, stop], [], [])
            if link in readable:
                order = link.recv(100)
                if order in (b"", b"stop"):
                    self.note("worker", "stopped", by="channel" if order else "end of file")
                    return 0
            if stop in readable:
                for number in os.read(stop, 100):
                    self.note("worker", "signal", signal=signal.Signals(number).name)
                    if number in (signal.SIGTERM, signal.SIGQUIT):
                        return 0

    # The router

    def route(self, control: int) -> int:
        self.note(
            "router",
            "born",
            fds=sorted(os.listdir("/proc/self/fd")),
            title=_title(),
            uid=os.getuid(),
            dispositions=_dispositions(),
        )
        if (self.directory / "no_router").exists():
            return 9
        if (self.directory / "router_hangs").exists():
            time.sleep(3600)
        return RouterStandIn(self, socket.socket(fileno=control)).run()


class RouterStandIn:
    """Does what the architecture says of the control socket, but for HTTP."""

    def __init__(self, machinery: StandIn, control: socket.socket) -> None:
        self.machinery = machinery
        self.control = control
        control.setblocking(True)
        path = machinery.directory / "router.sock"
        path.unlink(missing_ok=True)
        self.orders = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.orders.bind(str(path))
        self.links: dict[int, socket.socket] = {}
        self.listeners: list[int] = []
        self.hangs = False

    def say(self, message: dict[str, Any]) -> None:
        self.control.send(json.dumps(message).encode())

    def run(self) -> int:
        while True:
            watched = [self.orders, *self.links.values()]
            if not self.hangs:
                watched.append(self.control)
            readable, _, _ = select.select(watched, [], [])
            if self.orders in readable:
                code = self.obey(json.loads(self.orders.recv(65536)))
                if code is not None:
                    return code
                continue
            for number, link in list(self.links.items()):
                if link in readable:
                    if link.recv(100) == b"ready":
                        self.say({"type": "ready", "id": number})
                        self.machinery.note("router", "ready", id=number)
                        link.send(b"seen")
                    else:
                        del self.links[number]
            if self.control in readable:
                data, ancillary, _, _ = self.control.recvmsg(65536, 8192)
                fds = array.array("i")
                for _, _, payload in ancillary:
                    fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
                if not data:
                    self.machinery.note("router", "orphaned")
                    for link in self.links.values():
                        link.send(b"stop")
                    return 0
                code = self.hear(json.loads(data), list(fds))
                if code is not None:
                    return code

    def obey(self, order: dict[str, Any]) -> int | None:
        if "say" in order:
            self.say(order["say"])
        if "raw" in order:
            self.control.send(order["raw"].encode())
        if "hang" in order:
            self.hangs = True
        if "hang_up" in order:
            self.control.close()
            time.sleep(3600)
        if "stopped" in order:
            self.say({"type": "stopped"})
        return order.get("exit")

    def hear(self, message: dict[str, Any], fds: list[int]) -> int | None:
        if message["type"] == "ping":
            self.say({"type": "pong"})
            return None
        self.machinery.note("router", message["type"], message=message, fds=len(fds))
        kind = message["type"]
        if kind == "listeners":
            for fd in self.listeners:
                os.close(fd)
            self.listeners = fds
            self.say({"type": "started"})
        elif kind == "worker":
            link = socket.socket(fileno=fds[-1])
            for fd in fds[:-1]:
                os.close(fd)
            self.links[message["id"]] = link
        elif kind == "retire":
            if link := self.links.get(message["id"]):
                link.send(b"stop")
            self.say({"type": "retired", "id": message["id"]})
        elif kind == "stop":
            for fd in self.listeners:
                os.close(fd)
            self.listeners = []
            if not (self.machinery.directory / "slow_stop").exists():
                self.say({"type": "stopped"})
        elif kind == "quit":
            return 0
        return None


def _title() -> str:
    return Path("/proc/self/cmdline").read_bytes().strip(b"\0").decode()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sockets() -> int:
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue
    return sum(link.startswith("socket:") for link in links)


def _dispositions() -> dict[str, str]:
    names = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGCHLD", "SIGWINCH", "SIGTTIN")
    found = {}
    for name in names:
        handler = signal.getsignal(getattr(signal, name))
        found[name] = {signal.SIG_DFL: "default", signal.SIG_IGN: "ignored"}.get(handler, "handled")
    found["blocked"] = " ".join(str(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, []))
    return found


def main() -> int:
    directory = Path(sys.argv[1])
    try:
        config = configuration.load(sys.argv[2:], dict(os.environ), str(directory))
        return Arbiter(config, machinery=StandIn(directory)).run()
    except RemudaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
