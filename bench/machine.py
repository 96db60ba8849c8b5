"""What the numbers were measured on: named at the top of every report."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from pathlib import Path

from bench import procfs, report
from bench.paths import GUNICORN25, PEERS, ROOT
from bench.process import BenchError

QUIET_SHARE = 0.15

# program -> (Debian's package, how it says its version)
PROGRAMS = {
    "wrk": ("wrk", ["-v"]),
    "ab": ("apache2-utils", ["-V"]),
    "nginx": ("nginx-light", ["-v"]),
    "redis-server": ("redis-server", ["--version"]),
    "taskset": ("util-linux", ["--version"]),
}
PACKAGES = [
    "gunicorn",
    "gevent",
    "eventlet",
    "tornado",
    "granian",
    "fastwsgi",
    "uvicorn",
    "uvloop",
    "httptools",
    "hypercorn",
    "waitress",
    "pyuwsgi",
    "flask",
    "quart",
    "fastapi",
    "starlette",
    "litestar",
    "django",
    "redis",
]
LIST_VERSIONS = """
import importlib.metadata as meta, sys
print(", ".join(f"{name} {meta.version(name)}" for name in sys.argv[1:]))
"""


def check() -> None:
    """Say in one line what is missing and how to get it."""
    missing = [package for name, (package, _) in PROGRAMS.items() if shutil.which(name) is None]
    if missing:
        raise BenchError(f"make bench needs: apt-get install {' '.join(missing)}")
    for python in (PEERS / "python", GUNICORN25 / "python"):
        if not python.exists():
            raise BenchError(f"{python} is not there: run make bench, which makes it")
    if (os.cpu_count() or 1) < 2:
        raise BenchError("make bench needs two processor cores: one for the server, one for wrk")


def said(command: list[str]) -> str:
    """The first line that a command says, wherever it says it; empty when it says nothing."""
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def version(text: str) -> str:
    found = re.search(r"\d+\.\d+(\.\d+)*", text)
    return found.group(0) if found else text


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def total_memory() -> str:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return f"{int(line.split()[1]) / 2**20:.0f} GiB"
    return "?"


def disturbance() -> float:
    """The share of the machine's time that others use while we do nothing for a second."""
    before = procfs.cpu_times()
    time.sleep(1)
    return procfs.busy_share(before, procfs.cpu_times())


def describe() -> None:
    """Print the machine, the versions and how quiet it was."""
    check()
    commit = said(["git", "describe", "--always", "--dirty"])
    others = disturbance()
    report.heading("The machine")
    kernel = f"{platform.system()} {platform.release()}"
    print(f"- {processor()}, {os.cpu_count()} cores, {total_memory()} memory, {kernel}")
    print(
        f"- {time.strftime('%Y-%m-%d %H:%M %Z')}; others used {others:.0%} of it before the start"
    )
    print(f"- remuda {commit}; Python {platform.python_version()} for all of them")
    print(f"- {said([str(PEERS / 'python'), '-c', LIST_VERSIONS, *PACKAGES])}")
    old = said([str(GUNICORN25 / "python"), "-c", LIST_VERSIONS, "gunicorn", "eventlet"])
    print(f"- for gunicorn's eventlet: {old}")
    tools = [f"{name} {version(said([name, *flags]))}" for name, (_, flags) in PROGRAMS.items()]
    print(f"- {', '.join(tools)}", flush=True)
    if others > QUIET_SHARE:
        report.note(f"the machine is not quiet ({others:.0%} busy): distrust the numbers")
