"""The command itself: what it prints, and its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from remuda import __version__
from remuda.cli import help_text
from remuda.settings import SETTINGS

DEMO = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]

async def asgi(scope, receive, send): ...

def create_app(): return app

def expects(request): ...

answer = 42
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "demo.py").write_text(DEMO)
    (tmp_path / "broken.py").write_text("import json\n\njson.loads('{')\n")
    return tmp_path


def remuda(directory: Path, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("REMUDA_", "GUNICORN_"))}
    for name in ("PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "SENDFILE", "PWD"):
        plain.pop(name, None)
    return subprocess.run(
        [sys.executable, "-m", "remuda", *argv],
        cwd=directory,
        env=plain | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check(directory: Path, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return remuda(directory, "--check-config", *argv, **environ)


FAULTS = [
    ([], 2, "no application is named"),
    (["--wokers", "3", "demo:app"], 2, "did you mean --workers?"),
    (["-w"], 2, "-w needs a value"),
    (["demo:app", "demo:asgi"], 2, "one application at a time"),
    (["-w", "many", "demo:app"], 1, "--workers must be a whole number"),
    (["-b", ":99999", "demo:app"], 1, "--bind must have a port from 0 to 65535, not '99999'"),
    (["--certfile", "x.pem", "demo:app"], 1, "that Remuda does not have"),
    (["-c", "nope.py", "demo:app"], 1, "there is no configuration file nope.py"),
    (["dem:app"], 1, "there is no module 'dem'"),
    (["demo:ap"], 1, "did you mean demo:app?"),
    (["demo.py"], 1, "did you mean demo:app?"),
    (["demo:answer"], 1, "demo:answer is an int object, not an application"),
    (["demo:expects"], 1, "demo:expects takes (request)"),
    (["demo:create_app"], 1, "call it: demo:create_app()"),
    (["-k", "sync", "demo:asgi"], 1, "use -k asgi"),
    (["-k", "asgi", "demo:app"], 1, "use -k sync"),
]


@pytest.mark.parametrize(("argv", "code", "message"), FAULTS)
def test_a_fault_is_two_lines_at_most_and_an_exit_code(site, argv, code, message):
    done = check(site, *argv)
    assert message in done.stderr
    assert done.stderr.startswith("remuda: error: ")
    assert len(done.stderr.splitlines()) <= 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.returncode == code


@pytest.mark.parametrize(
    "argv",
    [
        ["demo:app"],
        ["demo:asgi"],
        ["demo:create_app()"],
        ["-k", "gthread", "--threads", "4", "demo:app"],
        ["--chdir", "..", "--pythonpath", "site", "demo:app"],
    ],
)
def test_a_good_configuration_checks_in_silence(tmp_path, argv):
    site = tmp_path / "site"
    site.mkdir()
    (site / "demo.py").write_text(DEMO)
    done = check(site, *argv)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_applications_own_error_is_shown_with_its_traceback_and_not_ours(site):
    done = check(site, "broken:app")
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith('broken.py", line 3, in <module>')
    assert lines[-1].startswith(
        "remuda: error: module 'broken' cannot be imported: JSONDecodeError: "
    )
    assert "remuda/app.py" not in done.stderr
    assert "importlib" not in done.stderr


def test_a_mistake_in_the_configuration_file_is_one_line_without_a_traceback(site):
    (site / "gunicorn.conf.py").write_text("workers = 2\nbind = prot\n")
    done = check(site, "demo:app")
    assert done.returncode == 1
    assert done.stderr == (
        "remuda: error: gunicorn.conf.py:2: NameError: name 'prot' is not defined\n"
    )


def test_a_warning_does_not_stop_the_check(site):
    (site / "gunicorn.conf.py").write_text("worker = 2\n")
    done = check(site, "demo:app")
    assert done.returncode == 0
    assert done.stderr == (
        "remuda: warning: gunicorn.conf.py: worker is no setting; did you mean workers?\n"
    )


def test_the_application_sees_its_environment_while_it_is_checked(site):
    (site / "needs.py").write_text(
        "import os\nos.environ['TOKEN_OF_TEST']\nfrom demo import app as application\n"
    )
    assert check(site, "needs").returncode == 1
    assert check(site, "-e", "TOKEN_OF_TEST=x", "needs").returncode == 0


def test_printing_the_configuration_says_where_each_value_came_from(site):
    (site / "remuda.toml").write_text("threads = 2\n")
    done = remuda(site, "--print-config", "-w", "4", REMUDA_TIMEOUT="5", PORT="5000")
    said = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert "workers = 4 (command line)" in said
    assert "threads = 2 (remuda.toml)" in said
    assert "timeout = 5 s (REMUDA_TIMEOUT)" in said
    assert "bind = 0.0.0.0:5000 (PORT)" in said


def test_printing_and_checking_go_together(site):
    done = check(site, "--print-config", "demo:nothing")
    assert "workers = 1" in done.stdout
    assert "has no attribute 'nothing'" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_the_version_is_printed(site, flag):
    done = remuda(site, flag)
    assert (done.returncode, done.stdout) == (0, f"remuda {__version__}\n")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_is_printed_even_beside_a_bad_value(site, flag):
    done = remuda(site, "-w", "many", flag)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: remuda [OPTIONS] APP\n")
    assert done.stderr == ""


def test_the_help_has_every_flag_in_its_section_and_fits_80_columns():
    text = help_text()
    assert max(map(len, text.splitlines())) <= 80
    sections = dict.fromkeys(s.section for s in SETTINGS if s.flags)
    positions = [text.index(f"\n{section}:\n") for section in sections]
    assert positions == sorted(positions)
    for setting in SETTINGS:
        if setting.flags:
            assert all(f in text for f in setting.flags if not f.startswith("--"))
            assert any(f in text for f in setting.flags if f.startswith("--"))


def test_an_interrupt_while_the_application_loads_ends_quietly(site):
    (site / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = check(site, "slow:app")
    assert (done.returncode, done.stderr) == (130, "")


def test_help_into_a_closed_pipe_ends_quietly(site):
    done = subprocess.run(
        f"'{sys.executable}' -m remuda --help | head -1",
        shell=True,
        cwd=site,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "usage: remuda [OPTIONS] APP\n"
    assert done.stderr == ""


def test_a_symbolic_link_to_the_directory_is_kept_as_the_shell_names_it(site, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(site, target_is_directory=True)
    done = remuda(link, "--print-config", PWD=str(link))
    assert f"chdir = {link}  " in done.stdout
    wrong = remuda(link, "--print-config", PWD="/")
    assert f"chdir = {site}  " in wrong.stdout


def test_loading_the_configuration_imports_nothing_heavy():
    code = (
        "import os, sys; from remuda import cli, config, log, app;"
        "config.load(['-w', '2', '-b', ':1', 'demo:app'], {'PORT': '1'}, '/');"
        "heavy = {'argparse', 'ast', 'asyncio', 'dataclasses', 'inspect', 'ipaddress', 'logging',"
        " 'pathlib', 'shlex', 'ssl', 'tomllib', 'traceback', 'typing'};"
        "print(sorted(heavy & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
