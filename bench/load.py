"""Running wrk, ab and our own generator, and reading what they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from bench.paths import ROOT
from bench.process import BenchError, on_core


@dataclass(frozen=True)
class Result:
    """One run of a load generator. Times are in milliseconds.

    `failed` counts answers that are missing, cut, of a wrong length or not 2xx/3xx.
    """

    requests: int
    seconds: float
    failed: int
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def _run(command: list[str], timeout: float) -> str:
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise BenchError(f"{error.filename} is not there") from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{command[0]} was not done after {timeout:.0f} s") from error
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done.stdout


def _number(pattern: str, text: str, default: float | None = None) -> float:
    found = re.search(pattern, text)
    if found is None:
        if default is None:
            raise BenchError(f"no {pattern!r} in\n{text}")
        return default
    return float(found.group(1))


def wrk(
    port: int,
    seconds: int,
    connections: int,
    core: int | None,
    fields: Mapping[str, str] | None = None,
) -> Result:
    """wrk with one thread over keep-alive connections; `fields` go with each request."""
    load = ["-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    for name, value in (fields or {}).items():
        load += ["-H", f"{name}: {value}"]
    command = on_core(core, ["wrk", *load, f"http://127.0.0.1:{port}/"])
    return read_wrk(_run(command, seconds + 30))


UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


def read_wrk(text: str) -> Result:
    def latency(share: str) -> float:
        found = re.search(rf"^\s+{share}%\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE)
        return float(found.group(1)) * UNITS[found.group(2)] if found else float("nan")

    total = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m),", text)
    if total is None:
        raise BenchError(f"wrk says no number of requests:\n{text}")
    errors = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    broken = sum(int(count) for count in errors.groups()) if errors else 0
    return Result(
        requests=int(total.group(1)),
        seconds=float(total.group(2)) * UNITS[total.group(3)] / 1000,
        failed=broken + int(_number(r"Non-2xx or 3xx responses: (\d+)", text, 0)),
        p50=latency("50"),
        p99=latency("99"),
    )


def ab(port: int, requests: int, clients: int, *, lasting: bool, path: str = "/") -> Result:
    """ApacheBench: a connection for each request; `lasting` is -r, go on after socket errors."""
    options = ["-q", "-n", str(requests), "-c", str(clients), *(["-r"] if lasting else [])]
    text = _run(["ab", *options, f"http://127.0.0.1:{port}{path}"], 600)
    return read_ab(text)


def read_ab(text: str) -> Result:
    """An error page counts once, though ab counts its length and its status."""
    reasons = re.search(r"Connect: (\d+), Receive: (\d+), Length: (\d+), Exceptions: (\d+)", text)
    connect, receive, length, exceptions = map(int, reasons.groups() if reasons else (0,) * 4)
    errors = int(_number(r"Non-2xx responses:\s+(\d+)", text, 0))
    return Result(
        requests=int(_number(r"Complete requests:\s+(\d+)", text)),
        seconds=_number(r"Time taken for tests:\s+([\d.]+) seconds", text),
        failed=connect + receive + exceptions + max(length, errors),
        p50=_number(r"\n\s+50%\s+(\d+)", text),
        p99=_number(r"\n\s+99%\s+(\d+)", text),
    )


@dataclass(frozen=True)
class Generated:
    """What our own generator saw: latencies in ms by path, and how the connections fared.

    `late` is the 99th percentile of how late (ms) it was itself; `windows` counts the answers of
    each tenth of a second.
    """

    latencies: dict[str, list[float]]
    failed: int
    reconnects: int
    late: float
    reasons: dict[str, int]
    windows: list[int]


def generate(mode: str, port: int, core: int | None, seconds: float, *options: str) -> Generated:
    """`python -m bench.generator` as a process of its own, for its own core."""
    words = [mode, "--port", str(port), "--seconds", f"{seconds:g}", *options]
    command = on_core(core, [sys.executable, "-m", "bench.generator", *words])
    said = json.loads(_run(command, seconds + 90))
    return Generated(**said)
