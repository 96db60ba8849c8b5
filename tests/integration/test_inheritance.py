"""What the application finds its process to be, in every class: mask, limits, groups, rights."""

from __future__ import annotations

import os
import pwd
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from .conftest import Serve
from .processes import session
from .server import Server

# The class, its application, and the arguments.
WSGI = """
import json
from look import look
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(look()).encode()]
"""
ASGI = """
import json
from look import look
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(look()).encode()})
"""
LOOK = """
import os, resource, subprocess, tempfile

with open("at-import", "w"):
    pass

def status(path):
    found = dict(line.split(":\\t", 1) for line in open(path).read().splitlines() if ":\\t" in line)
    return {name: found[name] for name in ("Umask", "Uid", "Gid", "Groups", "NoNewPrivs")}

def look():
    # As uploads, media folders and caches are made.
    with open("file", "w"):
        pass
    os.mkdir("folder")
    os.makedirs("many/folders")
    with tempfile.NamedTemporaryFile(dir=".", delete=False) as file:
        os.rename(file.name, "temporary")
    child = subprocess.run(
        ["sh", "-c", "ulimit -Sn; ulimit -Hn; umask; cat /proc/self/status"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()
    return {
        "limit": resource.getrlimit(resource.RLIMIT_NOFILE),
        "status": status("/proc/self/status"),
        "child": child[:3],
        "child privileges": [line for line in child if line.startswith("NoNewPrivs")],
    }
"""

CLASSES = {
    "sync": (WSGI, "-k", "sync"),
    "gthread": (WSGI, "-k", "gthread", "--threads", "2"),
    "gevent": (WSGI, "-k", "gevent"),
    "eventlet": (WSGI, "-k", "eventlet"),
    "tornado": (WSGI, "-k", "tornado"),
    "asgi": (ASGI, "-k", "asgi"),
}
EVERY_CLASS = pytest.mark.parametrize("worker_class", CLASSES)


def start(serve: Serve, worker_class: str, directory: Path, *arguments: str, **more: Any) -> Server:
    application, *chosen = CLASSES[worker_class]
    (directory / "look.py").write_text(LOOK)
    return serve(*chosen, *arguments, application=application, ready=False, **more)


def modes(directory: Path, *names: str) -> list[int]:
    return [stat.S_IMODE((directory / name).stat().st_mode) for name in names]


@EVERY_CLASS
def test_the_application_has_the_umask_that_the_server_was_started_with(
    serve: Serve, tmp_path: Path, worker_class: str
) -> None:
    server = start(
        serve, worker_class, tmp_path, "--access-logfile", "access.log", "--pid", "pid",
        "--error-logfile", "error.log", umask=0o022,
    )  # fmt: skip
    server.error_log = tmp_path / "error.log"
    found = server.get().json
    assert found["status"]["Umask"] == "0022"
    assert found["child"][2] == "0022"
    assert modes(tmp_path, "file", "at-import", "access.log", "error.log", "pid") == [0o644] * 5
    assert modes(tmp_path, "folder", "many", "many/folders") == [0o755] * 3
    assert modes(tmp_path, "temporary") == [0o600]
    router = Path(f"/proc/{server.router}/status").read_text()
    assert "Umask:\t0022" in router


@EVERY_CLASS
def test_a_umask_that_is_set_is_the_application_s(
    serve: Serve, tmp_path: Path, worker_class: str
) -> None:
    server = start(
        serve, worker_class, tmp_path, "--umask", "007", "--access-logfile", "access.log",
        umask=0o022,
    )  # fmt: skip
    found = server.get().json
    assert found["status"]["Umask"] == "0007"
    assert found["child"][2] == "0007"
    assert modes(tmp_path, "file", "access.log") == [0o660] * 2
    assert modes(tmp_path, "folder") == [0o770]


def test_a_umask_of_0_that_is_set_is_one(serve: Serve, tmp_path: Path) -> None:
    server = start(serve, "sync", tmp_path, "--umask", "0", umask=0o022)
    assert server.get().json["status"]["Umask"] == "0000"
    assert modes(tmp_path, "file") == [0o666]


def test_logs_are_for_nobody_else_to_write_whatever_the_umask(serve: Serve, tmp_path: Path) -> None:
    server = start(serve, "sync", tmp_path, "--access-logfile", "access.log", umask=0)
    server.get()
    assert modes(tmp_path, "access.log") == [0o644]


def test_a_unix_socket_is_open_to_all_and_files_are_not(serve: Serve, tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    server = start(serve, "sync", tmp_path, bind=[f"unix:{path}"], umask=0o027)
    assert server.get().status == 200
    # As gunicorn's.
    assert modes(tmp_path, "s", "file") == [0o777, 0o640]


@EVERY_CLASS
def test_the_application_has_the_limit_of_open_files_that_the_user_gave(
    serve: Serve, tmp_path: Path, worker_class: str
) -> None:
    raised = ["sh", "-c", 'ulimit -Sn 400; ulimit -Hn 4000; exec "$@"', "sh"]
    server = start(serve, worker_class, tmp_path, "-w", "2", prefix=raised)
    found = server.get().json
    assert found["limit"] == [400, 4000]
    assert found["child"][:2] == ["400", "4000"]
    # Those who hold many have what there is.
    for pid in (server.pid, server.router):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max open files +4000 +4000 ", limits), limits


def test_a_worker_that_is_born_later_has_the_same_limit(serve: Serve, tmp_path: Path) -> None:
    raised = ["sh", "-c", 'ulimit -Sn 400; exec "$@"', "sh"]
    server = start(serve, "sync", tmp_path, prefix=raised)
    server.get()
    (first,) = server.workers
    os.kill(first, 9)
    server.wait_gone(first)
    (second,) = server.wait_workers(1)

    def limit() -> bool:
        limits = Path(f"/proc/{second}/limits").read_text()
        return bool(re.search(r"Max open files +400 ", limits))

    server.eventually("its limit is the same", limit)


# Becoming someone else

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
# A user whose primary group is none of root's.
NOBODY = pwd.getpwnam("nobody")
ALIEN = 54321


def open_to_all(directory: Path) -> None:
    directory.chmod(0o777)
    for parent in list(directory.parents)[:3]:
        if parent != Path("/tmp"):
            parent.chmod(0o755)


def preloaded(serve: Serve, directory: Path, *arguments: str) -> Server:
    """Preloaded, and elsewhere: the user may be unable to read these directories, and Python."""
    open_to_all(directory)
    return serve(
        "--preload", "--chdir", "/", "--pythonpath", str(directory), *arguments, ready=False
    ).wait_listening()


def identity(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: found[name].split() for name in ("Uid", "Gid", "Groups", "NoNewPrivs", "CapEff")}


def others(server: Server) -> list[int]:
    """Its router and workers, once these have become what they are."""
    assert server.get().status == 200
    return [pid for pid in session(server.pid) if pid != server.pid]


@AS_ROOT
@pytest.mark.parametrize("name", ["nobody", str(NOBODY.pw_uid)])
def test_a_user_without_a_group_has_its_primary_group(
    serve: Serve, tmp_path: Path, name: str
) -> None:
    server = preloaded(serve, tmp_path, "--user", name)
    for pid in others(server):
        found = identity(pid)
        assert found["Uid"] == [str(NOBODY.pw_uid)] * 4
        assert found["Gid"] == [str(NOBODY.pw_gid)] * 4
        assert found["Groups"] == [str(NOBODY.pw_gid)]
        assert set(found["CapEff"][0]) == {"0"}


@AS_ROOT
def test_a_number_that_is_no_user_needs_a_group(serve: Serve, tmp_path: Path) -> None:
    server = serve("--user", str(ALIEN), ready=False)
    assert server.wait_exit() == 1
    assert f"remuda: error: user: {ALIEN} is no user of this machine" in server.log
    assert "--group" in server.log
    again = preloaded(serve, tmp_path, "--user", str(ALIEN), "--group", "54322")
    for pid in others(again):
        assert identity(pid)["Gid"] == ["54322"] * 4
        assert identity(pid)["Groups"] == ["54322"]


@AS_ROOT
def test_initgroups_adds_the_other_groups_of_the_user(serve: Serve, tmp_path: Path) -> None:
    wanted = sorted(os.getgrouplist("nobody", NOBODY.pw_gid))
    server = preloaded(serve, tmp_path, "--user", "nobody", "--initgroups")
    for pid in others(server):
        assert sorted(int(group) for group in identity(pid)["Groups"]) == wanted


def test_the_router_gains_no_privileges_and_workers_may(serve: Serve, tmp_path: Path) -> None:
    server = start(serve, "sync", tmp_path)
    found = server.get().json
    assert found["status"]["NoNewPrivs"] == "0"
    assert identity(server.router)["NoNewPrivs"] == ["1"]
    assert identity(server.pid)["NoNewPrivs"] == ["0"]


@EVERY_CLASS
def test_no_new_privs_is_for_workers_and_what_they_start(
    serve: Serve, tmp_path: Path, worker_class: str
) -> None:
    server = start(serve, worker_class, tmp_path, "--no-new-privs")
    found = server.get().json
    assert found["status"]["NoNewPrivs"] == "1"
    assert found["child privileges"] == ["NoNewPrivs:\t1"]
    assert identity(server.pid)["NoNewPrivs"] == ["0"]
