"""The start: what goes wrong, what is said then, and the exit code. And what a good start says."""

from __future__ import annotations

import os
import re
import resource
import socket
import time
from pathlib import Path

import pytest

from .applications import WSGI
from .conftest import Serve, WorkerClass
from .processes import children, title
from .server import run

GOOD = (
    "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"
)


def test_the_start_speaks_as_gunicorn_does(serve: Serve, worker_class: WorkerClass) -> None:
    server = serve("-w", "2", worker_class=worker_class)
    stamp = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\]"
    lines = server.log.splitlines()
    for pid, text in [
        (server.pid, r"Starting remuda \d+\.\d+.*"),
        (server.pid, rf"Listening at: http://127\.0\.0\.1:{server.port} \({server.pid}\)"),
        (server.pid, rf"Using worker: {worker_class.arguments[1]}"),
        *((pid, rf"Booting worker with pid: {pid}") for pid in server.workers),
    ]:
        pattern = re.compile(rf"{stamp} \[{pid}\] \[INFO\] {text}")
        assert any(pattern.fullmatch(line) for line in lines), (pattern, lines)
    assert all(re.match(rf"{stamp} \[\d+\] \[INFO\] ", line) for line in lines)
    assert (server.directory / "stdout").read_text() == ""


def test_the_end_speaks_as_gunicorn_does(serve: Serve) -> None:
    server = serve("-w", "1")
    (pid,) = server.workers
    server.stop()
    for text in ("Handling signal: term", f"Worker exiting (pid: {pid})", "Shutting down: Master"):
        assert text in server.log
    assert "ERROR" not in server.log
    assert "WARNING" not in server.log


def test_processes_say_what_they_are(serve: Serve, worker_class: WorkerClass) -> None:
    server = serve("-w", "2", worker_class=worker_class)
    # The order of birth: whatever is forked first, the titles are these.
    assert title(server.pid) == "remuda: arbiter [app:app]"
    titles = sorted(title(pid) for pid in children(server.pid))
    assert titles == ["remuda: router", *["remuda: worker [app:app]"] * 2]


def test_a_name_of_ones_own_is_in_the_titles(serve: Serve) -> None:
    server = serve("-w", "1", "--name", "shop")
    assert title(server.pid) == "remuda: arbiter [shop]"
    assert title(server.workers[0]) == "remuda: worker [shop]"


def test_threads_make_sync_gthread(serve: Serve) -> None:
    server = serve("-w", "1", "--threads", "2")
    assert "Using worker: gthread" in server.log
    assert server.get("/environ").json["wsgi.multithread"] is True


# An application that fails at the start: its text, the exit code, what is said.
BOOT_FAILURES = {
    "a syntax error": ("def app(:\n", 4, ["SyntaxError", "app.py", "App failed to load."]),
    "an exception": ("1 / 0\n", 4, ["ZeroDivisionError", "app.py", "App failed to load."]),
    "an import that fails": ("import nowhere\n", 4, ["No module named 'nowhere'", "app.py"]),
    "no such attribute": ("application = 1\n", 4, ["app"]),
    "not callable": ("app = 5\n", 4, ["app"]),
    "sys.exit": ("import sys\nsys.exit('no')\n", 4, ["app.py"]),
    "os._exit": ("import os\nos._exit(5)\n", 3, ["exited with code 5", "Worker failed to boot."]),
    "a crash": ("import os\nos.abort()\n", 3, ["killed by SIGABRT", "Worker failed to boot."]),
}


@pytest.mark.parametrize(
    ("application", "code", "said"), BOOT_FAILURES.values(), ids=BOOT_FAILURES.keys()
)
def test_an_application_that_does_not_load_ends_the_server(
    serve: Serve, worker_class: WorkerClass, application: str, code: int, said: list[str]
) -> None:
    server = serve("-w", "2", application=application, ready=False, worker_class=worker_class)
    assert server.wait_exit() == code, server.log
    for text in said:
        assert text in server.log
    # Only the user's own traceback, no frame of ours; a crash shows all there was.
    assert "python/remuda/" not in server.log or "SIGABRT" in server.log
    server.assert_nothing_left()


def test_a_hook_that_fails_in_the_worker_ends_the_server_with_3(serve: Serve) -> None:
    server = serve("-w", "1", "-c", "hooks.py", application=GOOD, ready=False)
    (server.directory / "hooks.py").write_text("def post_worker_init(worker):\n    1 / 0\n")
    # The file may have been read before it was written: then there is none, exit code 1.
    code = server.wait_exit()
    if code == 1:
        again = serve(
            "-w", "1", "-c", str(server.directory / "hooks.py"), application=GOOD, ready=False
        )
        code, server = again.wait_exit(), again
    assert code == 3, server.log
    assert "ZeroDivisionError" in server.log


# A command line that is wrong: the exit code, and what the one or two lines must name.
MISTAKES = {
    "no application": ([], 2, ["application"]),
    "an unknown flag": (["--wrokers", "3", "app:app"], 2, ["--wrokers", "--workers"]),
    "a flag without its value": (["--workers"], 2, ["--workers"]),
    "a word for a number": (["-w", "many", "app:app"], 1, ["workers", "many"]),
    "a port that is none": (["-b", "127.0.0.1:99999", "app:app"], 1, ["99999"]),
    "a class that is none": (["-k", "gthred", "app:app"], 1, ["gthred", "gthread"]),
    "a timeout below 0": (["-t", "-3", "app:app"], 1, ["timeout"]),
    "a file that is missing": (["-c", "nowhere.py", "app:app"], 1, ["nowhere.py"]),
    "a log that cannot be opened": (
        ["--error-logfile", "no/such/dir/log", "app:app"], 1, ["no/such/dir"],
    ),
    "an access log that cannot be opened": (
        ["--access-logfile", "no/such/dir/log", "app:app"], 1, ["accesslog", "no/such/dir"],
    ),
    "a pid file that cannot be written": (
        ["--pid", "no/such/dir/pid", "app:app"], 1, ["pidfile", "no/such/dir"],
    ),
    "a directory that is missing": (["--chdir", "no/such/dir", "app:app"], 1, ["no/such/dir"]),
    "a host that is none": (["-b", "256.1.1.1:0", "app:app"], 1, ["256.1.1.1"]),
    "an address of another machine": (["-b", "192.0.2.1:0", "app:app"], 1, ["192.0.2.1"]),
    "a descriptor that is none": (["-b", "fd://99", "app:app"], 1, ["99"]),
    "too small a head": (["--limit-request-head", "1", "app:app"], 1, ["limit-request-head"]),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "named"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_of_the_user_is_named_in_a_line_or_two(
    tmp_path: Path, arguments: list[str], code: int, named: list[str]
) -> None:
    (tmp_path / "app.py").write_text(GOOD)
    exit_code, out, err = run(tmp_path, *arguments)
    assert exit_code == code, err
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("[")]
    assert 1 <= len(lines) <= 2, err
    assert lines[0].startswith("remuda: error: ")
    assert "Traceback" not in err
    for text in named:
        assert text in "\n".join(lines)


@pytest.mark.parametrize(
    ("flag", "setting"),
    [("--error-logfile", "errorlog"), ("--access-logfile", "accesslog"), ("--pid", "pidfile")],
)
def test_check_config_finds_a_file_that_cannot_be_written_and_makes_none(
    tmp_path: Path, flag: str, setting: str
) -> None:
    (tmp_path / "app.py").write_text(GOOD)
    before = set(tmp_path.iterdir())
    assert run(tmp_path, "--check-config", flag, "file", "app:app") == (0, "", "")
    assert set(tmp_path.iterdir()) == before
    code, out, err = run(tmp_path, "--check-config", flag, "no/such/file", "app:app")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 2
    assert err.startswith(f"remuda: error: {setting}: cannot ")
    assert f"{tmp_path}/no/such/file" in err


def test_check_config_of_a_running_server_s_pid_file_is_well(serve: Serve) -> None:
    server = serve("-w", "1", "--pid", "pid")
    assert run(server.directory, "--check-config", "--pid", "pid", "app:app") == (0, "", "")
    assert (server.directory / "pid").read_text() == f"{server.pid}\n"


def test_print_config_masks_what_looks_like_a_secret(tmp_path: Path) -> None:
    arguments = [
        text
        for pair in (
            "COLOUR=green", "API_KEY=hidden-1", "db_password=hidden-2",
            "DATABASE_URL=postgres://shop:hidden-3@db:5432/shop?a=b", "REDIS=redis://:hidden@4@r/0",
            "SENTRY_DSN=https://hidden-5@sentry.example/1", "SITE=http://www.example/@home",
        )
        for text in ("--env", pair)
    ]  # fmt: skip
    code, out, err = run(tmp_path, "--print-config", *arguments, "app:app")
    assert (code, err) == (0, "")
    assert "hidden" not in out
    (line,) = [line for line in out.splitlines() if line.startswith("raw_env")]
    for shown in (
        "COLOUR=green", "API_KEY=***", "db_password=***", "postgres://shop:***@db:5432/shop?a=b",
        "redis://:***@r/0", "SENTRY_DSN=***", "SITE=http://www.example/@home",
    ):  # fmt: skip
        assert shown in line


# An application that is not there, under --check-config: what is named.
MISSING = {
    "a module that is not there": ("demmo:app", ["demmo"]),
    "an attribute that is not there": ("app:aplication", ["aplication"]),
    "an attribute that is no application": ("app:number", ["number"]),
    "an application that expects arguments": ("app:factory", ["factory"]),
}


@pytest.mark.parametrize(("target", "named"), MISSING.values(), ids=MISSING.keys())
def test_check_config_names_what_is_wrong_with_the_application(
    tmp_path: Path, target: str, named: list[str]
) -> None:
    (tmp_path / "app.py").write_text(GOOD + "number = 5\ndef factory(settings): pass\n")
    code, out, err = run(tmp_path, "--check-config", target)
    assert code == 1, err
    assert out == ""
    assert len(err.splitlines()) <= 2, err
    assert "Traceback" not in err
    for text in named:
        assert text in err


def test_check_config_of_what_is_well_says_nothing_and_exits_with_0(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(GOOD)
    assert run(tmp_path, "--check-config", "app:app") == (0, "", "")


def test_check_config_reports_a_traceback_of_the_users_own_code(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "def helper():\n    raise KeyError('DATABASE_URL')\nhelper()\n"
    )
    code, _, err = run(tmp_path, "--check-config", "app:app")
    assert code == 1
    assert "KeyError: 'DATABASE_URL'" in err
    assert "python/remuda/" not in err


def test_print_config_shows_where_each_value_came_from(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(GOOD)
    (tmp_path / "remuda.toml").write_text("timeout = 12\n")
    code, out, err = run(
        tmp_path, "--print-config", "-w", "3", "app:app", env={"REMUDA_KEEPALIVE": "9"}
    )
    assert (code, err) == (0, "")

    def line(name: str) -> str:
        return next(line for line in out.splitlines() if line.split("=")[0].strip() == name)

    assert "12" in line("timeout")
    assert "remuda.toml" in line("timeout")
    assert "9" in line("keepalive")
    assert "REMUDA_KEEPALIVE" in line("keepalive")
    assert "3" in line("workers")
    assert "default" in line("backlog")


def test_the_layers_reach_the_running_server(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(
        "import os\nworkers = 2\nraw_env = ['GREETING=from the file']\nproc_name = 'from-file'\n"
    )
    server = serve(
        application=(
            "import os\ndef app(environ, start_response):\n"
            "    start_response('200 OK', [])\n    return [os.environ['GREETING'].encode()]\n"
        ),
        env={"GUNICORN_CMD_ARGS": "--name from-variable"},
    )
    assert server.get().text == "from the file"
    assert len(server.wait_workers(2)) == 2
    assert title(server.pid) == "remuda: arbiter [from-variable]"


def test_a_port_in_use_is_tried_again_and_then_ends_with_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(GOOD)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        started = time.monotonic()
        code, _, err = run(tmp_path, "-b", f"127.0.0.1:{port}", "app:app")
    assert code == 1
    assert time.monotonic() - started > 3
    # gunicorn's retries in the log, then the fault and the fix.
    assert err.count(f"Connection in use: ('127.0.0.1', {port})") == 5
    assert [line for line in err.splitlines() if not line.startswith("[")] == [
        f"remuda: error: Can't connect to ('127.0.0.1', {port}): Address already in use",
        "remuda: stop the other server, or bind another port (-b HOST:PORT)",
    ]
    assert "Traceback" not in err


def test_a_port_that_is_freed_meanwhile_is_taken(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve("-w", "1", bind=[f"127.0.0.1:{port}"], ready=False)
        server.says("Connection in use")
    server.wait_ready()
    assert server.port == port


def test_a_pid_file_holds_the_arbiters_pid_and_is_removed(serve: Serve) -> None:
    server = serve("-w", "1", "--pid", "remuda.pid")
    path = server.directory / "remuda.pid"
    assert path.read_text() == f"{server.pid}\n"
    server.stop()
    assert not path.exists()


def test_a_pid_file_of_a_living_server_is_not_taken(serve: Serve) -> None:
    server = serve("-w", "1", "--pid", "remuda.pid")
    code, _, err = run(server.directory, "-b", "127.0.0.1:0", "--pid", "remuda.pid", "app:app")
    assert code == 1
    assert "remuda.pid" in err
    assert str(server.pid) in err
    assert (server.directory / "remuda.pid").read_text() == f"{server.pid}\n"


def test_a_stale_pid_file_is_taken(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "remuda.pid").write_text("4194303\n")
    server = serve("-w", "1", "--pid", "remuda.pid")
    assert (server.directory / "remuda.pid").read_text() == f"{server.pid}\n"


def test_a_preloaded_application_that_fails_ends_before_anything_is_forked(serve: Serve) -> None:
    server = serve("-w", "2", "--preload", application="import nowhere\n", ready=False)
    assert server.wait_exit() == 4
    assert "Booting worker" not in server.log
    assert "No module named 'nowhere'" in server.log


def test_a_preloaded_application_is_loaded_once(serve: Serve) -> None:
    server = serve(
        "-w", "3", "--preload",
        application="import os\nos.write(2, b'loaded\\n')\n" + WSGI,
    )  # fmt: skip
    server.wait_workers(3)
    assert server.log.count("loaded\n") == 1
    # It was given to the workers, not loaded by them again.
    assert server.get("/pid").text in {str(pid) for pid in server.workers}


def test_environment_variables_are_set_for_the_application(serve: Serve) -> None:
    server = serve(
        "-e", "COLOUR=green", "--env", "SIZE=a=b",
        application=(
            "import os\ndef app(environ, start_response):\n"
            "    start_response('200 OK', [])\n"
            "    return [os.environ['COLOUR'].encode(), os.environ['SIZE'].encode()]\n"
        ),
    )  # fmt: skip
    assert server.get().text == "greena=b"


def test_chdir_is_where_the_application_is_found_and_runs(serve: Serve, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "other.py").write_text(
        "import os\ndef app(environ, start_response):\n"
        "    start_response('200 OK', [])\n    return [os.getcwd().encode()]\n"
    )
    server = serve("--chdir", "inner", target="other:app")
    assert server.get().text == os.fspath(inner)


def test_a_limit_that_forbids_rings_is_named_with_the_file_and_the_fix(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(GOOD)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 10, limit[1]))
    try:
        code, _, stderr = run(tmp_path, "-b", "127.0.0.1:0", "app:app")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert code == 3
    (line,) = (line for line in stderr.splitlines() if "memfd" in line)
    assert "the channel of a worker cannot be made" in line
    assert "File too large" in line
    assert "RLIMIT_FSIZE is 102400, raise it (ulimit -f)" in line
    assert "Traceback" not in stderr


def test_a_directory_for_bodies_that_takes_none_is_found_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(GOOD)
    arguments = ("--tmp-upload-dir", "/proc/self", "-b", "127.0.0.1:0")
    for more in ([], ["--check-config"]):
        code, _, stderr = run(tmp_path, *arguments, *more, "app:app")
        assert code == 1
        assert "remuda: error: tmp_upload_dir: nothing can be stored in /proc/self" in stderr
        assert "Booting worker" not in stderr


def test_a_system_without_a_directory_for_bodies_is_warned(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(GOOD)
    env = {"TMPDIR": "/proc/self"}
    code, _, stderr = run(tmp_path, "--check-config", "app:app", env=env)
    assert (code, "cannot be stored in /proc/self" in stderr) == (0, True)
    server = serve("-w", "1", env=env)
    assert "cannot be stored in /proc/self" in server.log
    assert server.get().status == 200
    # What fits into memory is served all the same.
    assert server.connect().post("/digest", bytes(500_000)).json["length"] == 500_000


def test_the_user_and_group_of_router_and_workers_change(serve: Serve, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can")
    # Preloaded, and elsewhere: that user may be unable to read this directory, and even Python
    # itself where that is in a home directory.
    server = serve(
        "-w", "1", "--preload", "--user", "nobody", "--group", "nogroup",
        "--chdir", "/", "--pythonpath", str(tmp_path),
    )  # fmt: skip
    assert Path(f"/proc/{server.pid}").stat().st_uid == 0
    for pid in [server.router, *server.workers]:
        status = Path(f"/proc/{pid}/status").read_text()
        uids = re.search(r"Uid:\t(\d+)\t(\d+)\t(\d+)", status)
        assert uids is not None
        assert "0" not in uids.groups(), status
    assert server.get().status == 200
