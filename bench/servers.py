"""The servers that are compared: one row each, and how each is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.paths import GUNICORN25, PEERS, ROOT


@dataclass(frozen=True)
class Launch:
    """What a server is asked to serve.

    `app` is `module:attribute`; `threads` is the number of threads a worker of a threaded class
    has; `workdir` is a directory for the server's files.
    """

    port: int
    app: str
    workers: int
    threads: int
    workdir: Path


@dataclass(frozen=True)
class Server:
    """One row of a table. `interface` says which of a benchmark's applications it runs."""

    name: str
    interface: str
    command: Callable[[Launch], list[str]]
    pythonpath: tuple[Path, ...] = ()


def nginx(at: Launch) -> list[str]:
    """nginx's own `return 200`: no Python, the mark that the table is measured against."""
    temporary = "\n".join(
        f"    {module}_temp_path {at.workdir}/{module};"
        for module in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = at.workdir / "nginx.conf"
    config.write_text(
        f"""daemon off;
pid {at.workdir}/nginx.pid;
worker_processes {at.workers};
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    default_type text/plain;
{temporary}
    server {{
        listen 127.0.0.1:{at.port} backlog=2048;
        location / {{ return 200 "Hello, World!\\n"; }}
    }}
}}
"""
    )
    return ["nginx", "-e", "stderr", "-p", str(at.workdir), "-c", str(config)]


def fastwsgi(at: Launch) -> list[str]:
    address = ["--host", "127.0.0.1", "--port", str(at.port)]
    return [str(PEERS / "fastwsgi"), *address, "--loglevel", "1", at.app]


def granian(interface: str) -> Callable[[Launch], list[str]]:
    def command(at: Launch) -> list[str]:
        address = ["--host", "127.0.0.1", "--port", str(at.port)]
        options = ["--http", "1", "--no-ws", "--log-level", "warning"]
        if interface == "wsgi":
            options += ["--blocking-threads", str(at.threads)]
        else:
            options += ["--loop", "uvloop"]
        workers = ["--interface", interface, "--workers", str(at.workers)]
        return [str(PEERS / "granian"), *workers, *address, *options, at.app]

    return command


def classic(program: list[str], worker_class: str) -> Callable[[Launch], list[str]]:
    """gunicorn's command line, which is Remuda's as well."""

    def command(at: Launch) -> list[str]:
        options = ["-k", worker_class, "-w", str(at.workers), "-b", f"127.0.0.1:{at.port}"]
        if worker_class == "gthread":
            options += ["--threads", str(at.threads)]
        return [*program, *options, at.app]

    return command


def gunicorn(worker_class: str) -> Callable[[Launch], list[str]]:
    return classic([str(PEERS / "gunicorn"), "--no-control-socket"], worker_class)


def gunicorn25(worker_class: str) -> Callable[[Launch], list[str]]:
    return classic([str(GUNICORN25 / "gunicorn"), "--no-control-socket"], worker_class)


def remuda(worker_class: str) -> Callable[[Launch], list[str]]:
    return classic([str(PEERS / "python"), "-m", "remuda"], worker_class)


def uvicorn(at: Launch) -> list[str]:
    address = ["--host", "127.0.0.1", "--port", str(at.port), "--workers", str(at.workers)]
    speed = ["--loop", "uvloop", "--http", "httptools", "--ws", "none", "--no-access-log"]
    return [str(PEERS / "uvicorn"), *address, *speed, "--log-level", "warning", at.app]


def hypercorn(at: Launch) -> list[str]:
    options = ["-b", f"127.0.0.1:{at.port}", "-w", str(at.workers), "-k", "uvloop"]
    return [str(PEERS / "hypercorn"), *options, "--log-level", "warning", at.app]


def waitress(at: Launch) -> list[str]:
    """One process: its threads are the slots, so it has as many as the others have workers."""
    options = [f"--listen=127.0.0.1:{at.port}", f"--threads={at.workers * at.threads}"]
    return [str(PEERS / "waitress-serve"), *options, "--connection-limit=1000", at.app]


def uwsgi(at: Launch) -> list[str]:
    options = ["--http-socket", f"127.0.0.1:{at.port}", "--processes", str(at.workers), "--master"]
    quiet = ["--disable-logging", "--die-on-term", "--need-app", "--single-interpreter"]
    return [str(PEERS / "uwsgi"), *options, "--listen", "1024", *quiet, "--module", at.app]


def flask_run(at: Launch) -> list[str]:
    address = ["--host", "127.0.0.1", "--port", str(at.port)]
    return [str(PEERS / "flask"), "--app", at.app, "run", *address, "--no-debugger", "--no-reload"]


def table() -> dict[str, Server]:
    """Every server by its name."""
    rows = [
        Server("nginx", "none", nginx),
        Server("fastwsgi", "wsgi", fastwsgi),
        Server("granian-wsgi", "wsgi", granian("wsgi")),
        Server("granian-asgi", "asgi", granian("asgi")),
        Server("uvicorn", "asgi", uvicorn),
        Server("hypercorn", "asgi", hypercorn),
        Server("waitress", "wsgi", waitress),
        Server("uwsgi", "wsgi", uwsgi),
        Server("flask-run", "wsgi", flask_run),
    ]
    wsgi_classes = ["sync", "gthread", "gevent", "tornado"]
    for worker_class in wsgi_classes:
        rows.append(Server(f"gunicorn-{worker_class}", "wsgi", gunicorn(worker_class)))
    rows.append(Server("gunicorn-asgi", "asgi", gunicorn("asgi")))
    rows.append(Server("gunicorn25-eventlet", "wsgi", gunicorn25("eventlet")))
    ours = (ROOT / "python",)
    for worker_class in [*wsgi_classes, "eventlet"]:
        rows.append(Server(f"remuda-{worker_class}", "wsgi", remuda(worker_class), ours))
    rows.append(Server("remuda-asgi", "asgi", remuda("asgi"), ours))
    return {row.name: row for row in rows}
