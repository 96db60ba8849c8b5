"""Layers, configuration files, and what the layers come to."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from remuda.config import Config, load
from remuda.errors import AppLoadError, ConfigError, RemudaError, UsageError
from remuda.settings import SETTINGS


@pytest.fixture(autouse=True)
def _no_trace():
    """Configuration files put their directory on sys.path and a module in sys.modules."""
    path, modules = [*sys.path], {*sys.modules}
    yield
    sys.path[:] = path
    for name in {*sys.modules} - modules:
        del sys.modules[name]


def configure(tmp_path: Path, *argv: str, **environ: str) -> Config:
    return load(argv, environ, str(tmp_path))


def refusal(tmp_path: Path, *argv: str, **environ: str) -> RemudaError:
    with pytest.raises(RemudaError) as caught:
        configure(tmp_path, *argv, **environ)
    assert "\n" not in str(caught.value)
    return caught.value


def python_file(tmp_path: Path, text: str, name: str = "gunicorn.conf.py") -> str:
    (tmp_path / name).write_text(text)
    return name


# Layers

# From weak to strong: how each layer says `workers = n`.
LAYERS = {
    "default": None,
    "WEB_CONCURRENCY": lambda n: {"WEB_CONCURRENCY": str(n)},
    "file": None,
    "GUNICORN_CMD_ARGS": lambda n: {"GUNICORN_CMD_ARGS": f"--workers {n}"},
    "REMUDA_WORKERS": lambda n: {"REMUDA_WORKERS": str(n)},
    "REMUDA_CMD_ARGS": lambda n: {"REMUDA_CMD_ARGS": f"-w {n}"},
    "command line": None,
}


@given(given_layers=st.sets(st.sampled_from([*LAYERS][1:])), toml=st.booleans())
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_strongest_layer_wins_whichever_others_there_are(tmp_path, given_layers, toml):
    order = [*LAYERS]
    environ: dict[str, str] = {}
    argv = ["demo:app"]
    for name in NAMES:
        (tmp_path / name).unlink(missing_ok=True)
    file = "remuda.toml" if toml else "gunicorn.conf.py"
    for layer in given_layers:
        count = order.index(layer) + 1
        if layer == "file":
            (tmp_path / file).write_text(f"workers = {count}\n")
        elif layer == "command line":
            argv += ["-w", str(count)]
        else:
            environ |= LAYERS[layer](count)
    config = configure(tmp_path, *argv, **environ)
    winner = max(("default", *given_layers), key=order.index)
    assert config.workers == order.index(winner) + 1
    assert config.origins["workers"] == (file if winner == "file" else winner)


NAMES = ("remuda.toml", "pyproject.toml", "remuda.conf.py", "gunicorn.conf.py")


def test_nothing_given_means_the_defaults(tmp_path):
    config = configure(tmp_path)
    for setting in SETTINGS:
        if setting.name not in ("chdir", "proc_name"):
            assert getattr(config, setting.name) == setting.default
    assert {*config.origins.values()} == {"default"}
    assert config.chdir == str(tmp_path)
    assert config.warnings == ()


def test_gunicorns_variables_give_defaults(tmp_path):
    config = configure(
        tmp_path, PORT="5000", WEB_CONCURRENCY="3", FORWARDED_ALLOW_IPS="*", SENDFILE="no"
    )
    assert config.bind == ("0.0.0.0:5000",)
    assert config.origins["bind"] == "PORT"
    assert (config.workers, config.forwarded_allow_ips, config.sendfile) == (3, ("*",), False)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("PORT", "http", "PORT must have a port from 0 to 65535, not 'http'"),
        ("WEB_CONCURRENCY", "x", "WEB_CONCURRENCY must be a whole number"),
        ("REMUDA_WORKERS", "x", "REMUDA_WORKERS must be a whole number"),
        ("REMUDA_CMD_ARGS", "-w x", "REMUDA_CMD_ARGS: --workers must be a whole number"),
        ("REMUDA_CMD_ARGS", "--wokers 3", "REMUDA_CMD_ARGS: there is no option --wokers"),
        ("REMUDA_CMD_ARGS", "-n 'x", "REMUDA_CMD_ARGS: No closing quotation"),
        ("GUNICORN_CMD_ARGS", "demo:app", "GUNICORN_CMD_ARGS: demo:app does not belong there"),
        ("GUNICORN_CMD_ARGS", "--certfile x", "GUNICORN_CMD_ARGS: --certfile is a gunicorn"),
        ("REMUDA_CMD_ARGS", "--help", "does not belong there"),
    ],
)
def test_a_bad_variable_is_named(tmp_path, variable, text, message):
    assert message in str(refusal(tmp_path, **{variable: text}))


def test_a_list_in_a_variable_has_commas(tmp_path):
    config = configure(tmp_path, REMUDA_BIND=":1,unix:x.sock", REMUDA_RAW_ENV="A=1,B=2")
    assert config.bind == (":1", "unix:x.sock")
    assert config.env == {"A": "1", "B": "2"}


def test_a_list_on_the_command_line_grows_and_replaces_that_of_a_weaker_layer(tmp_path):
    config = configure(tmp_path, "-b", ":1", "-b", ":2", "-e", "A=1,2", REMUDA_BIND=":3")
    assert config.bind == (":1", ":2")
    assert config.env == {"A": "1,2"}


def test_an_empty_variable_is_not_set(tmp_path):
    config = configure(tmp_path, REMUDA_WORKERS="", PORT="", REMUDA_CMD_ARGS="")
    assert {*config.origins.values()} == {"default"}


def test_a_variable_that_is_nearly_a_settings_gets_a_warning(tmp_path):
    config = configure(tmp_path, REMUDA_WORKER="3", REMUDA_SERVICE_HOST="10.0.0.1")
    assert config.warnings == ("REMUDA_WORKER sets nothing; did you mean REMUDA_WORKERS?",)


# The command line


@pytest.mark.parametrize(
    "argv",
    [
        ["-w", "3", "-k", "gthread", "demo:app"],
        ["-w3", "-kgthread", "demo:app"],
        ["demo:app", "--workers", "3", "--worker-class", "gthread"],
        ["--workers=3", "demo:app", "--worker-cl", "gthread"],
        ["--workers=3", "--worker-class=gthread", "--", "demo:app"],
        ["-w", "1", "-w", "3", "-k", "gthread", "demo:app"],
    ],
)
def test_flags_are_written_as_for_gunicorn(tmp_path, argv):
    config = configure(tmp_path, *argv)
    assert (config.workers, config.worker_class, config.app) == (3, "gthread", "demo:app")


def test_switches_take_no_value(tmp_path):
    config = configure(tmp_path, "--preload", "--no-sendfile", "demo:app")
    assert config.preload_app
    assert not config.sendfile


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--wokers", "3"], 2, "there is no option --wokers: did you mean --workers?"),
        (["-z"], 2, "there is no option -z"),
        (["--worker", "3"], 2, "--worker could be --workers, --worker-class, --worker-conn"),
        (["-w"], 2, "-w needs a value: -w INT"),
        (["--preload=yes"], 2, "--preload takes no value"),
        (["a:b", "c:d"], 2, "one application at a time: a:b or c:d?"),
        (["-w", "many"], 1, "--workers must be a whole number from 1 to 4096, or auto, not 'many'"),
        (["-w", "-1"], 1, "not '-1'"),
        (["-b", "x:99999"], 1, "--bind must have a port from 0 to 65535, not '99999'"),
        (["--certfile", "x"], 1, "--certfile is a gunicorn setting that Remuda does not have"),
        (["--certf", "x"], 1, "--certfile is a gunicorn setting"),
        (["--reload"], 1, "--reload is a gunicorn setting"),
        (["--proxy-protocol=v1"], 1, "--proxy-protocol is a gunicorn setting"),
        (["-D"], 1, "-D is a gunicorn setting"),
        (["--chdir", "/no/such"], 1, "there is no directory /no/such (command line)"),
        (["--tmp-upload-dir", "/no/such"], 1, "tmp_upload_dir: there is no directory /no/such"),
        (["--limit-request-line", "70000"], 1, "a whole head may only have 65536"),
    ],
)
def test_a_bad_command_line_is_refused_with_its_exit_code(tmp_path, argv, code, message):
    error = refusal(tmp_path, *argv)
    assert message in str(error)
    assert error.exit_code == code


def test_a_harmless_flag_of_gunicorns_is_passed_over_with_a_warning(tmp_path):
    config = configure(tmp_path, "--worker-tmp-dir", "/dev/shm")
    assert len(config.warnings) == 1
    assert config.warnings[0].startswith("--worker-tmp-dir is passed over: ")


# Finding the file


@pytest.mark.parametrize("first", range(4))
def test_the_first_file_of_the_directory_is_read(tmp_path, first):
    for number, name in enumerate(NAMES):
        if number >= first:
            table = "[tool.remuda]\n" if name == "pyproject.toml" else ""
            (tmp_path / name).write_text(f"{table}workers = {number + 2}\n")
    config = configure(tmp_path)
    assert config.workers == first + 2
    assert config.file == NAMES[first]


def test_a_pyproject_without_a_table_of_ours_is_passed_over(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nx = 'remuda'\n")
    python_file(tmp_path, "workers = 4")
    assert configure(tmp_path).workers == 4


def test_a_broken_pyproject_that_does_not_mention_us_is_no_concern_of_ours(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[[[")
    assert configure(tmp_path).file is None


@pytest.mark.parametrize(
    ("argv", "environ"),
    [
        (["-c", "a.py"], {"REMUDA_CMD_ARGS": "-c b.py"}),
        ([], {"REMUDA_CMD_ARGS": "-c a.py", "REMUDA_CONFIG": "b.py"}),
        ([], {"REMUDA_CONFIG": "a.py", "GUNICORN_CMD_ARGS": "-c b.py"}),
        ([], {"GUNICORN_CMD_ARGS": "--config a.py"}),
        (["-c", "file:a.py"], {}),
        (["-c", "./a.py"], {}),
    ],
)
def test_a_named_file_is_read_instead_of_the_directorys(tmp_path, argv, environ):
    python_file(tmp_path, "workers = 4", "a.py")
    python_file(tmp_path, "workers = 5", "b.py")
    python_file(tmp_path, "workers = 6")
    assert configure(tmp_path, *argv, **environ).workers == 4


def test_a_module_can_be_the_configuration(tmp_path):
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "live.py").write_text("workers = 7\n")
    assert configure(tmp_path, "-c", "python:deploy.live").workers == 7


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("gunicorn.cnf.py", "did you mean gunicorn.conf.py?"),
        ("nowhere/x.py", "no directory"),
        (".", "is a directory"),
        ("python:no_such_module", "there is no module no_such_module for the configuration"),
    ],
)
def test_a_named_file_that_is_not_there_is_an_error(tmp_path, location, message):
    python_file(tmp_path, "")
    assert message in str(refusal(tmp_path, "-c", location))


# Python files


def test_a_gunicorn_file_is_read_with_its_hooks_and_names_of_its_own(tmp_path):
    python_file(
        tmp_path,
        "import multiprocessing\n"
        "import os as threads\n"
        "from importlib import reload\n"
        "HOST = '127.0.0.1'\n"
        "_workers = 3\n"
        "region = 'eu'\n"
        "bind = [f'{HOST}:8001']\n"
        "workers = _workers\n"
        "daemon = False\n"
        "certfile = None\n"
        "def helper(a, b): pass\n"
        "def post_fork(server, worker):\n"
        "    server.append(region)\n",
    )
    config = configure(tmp_path)
    assert (config.bind, config.workers, config.threads) == (("127.0.0.1:8001",), 3, 1)
    assert config.warnings == ()
    seen: list[str] = []
    config.post_fork(seen, None)
    assert seen == ["eu"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers = = 3", "gunicorn.conf.py:1: SyntaxError: invalid syntax"),
        ("\n\nworkers = cpus()", "gunicorn.conf.py:3: NameError: name 'cpus' is not defined"),
        ("import no_such", "gunicorn.conf.py:1: ModuleNotFoundError: No module named 'no_such'"),
        ("\nimport json\njson.loads('{')", "gunicorn.conf.py:3: JSONDecodeError: "),
        ("raise SystemExit(3)", "gunicorn.conf.py:1: SystemExit: 3"),
        ("def f():\n  raise KeyError\nf()", "gunicorn.conf.py:2: KeyError"),
        ("x = '\0'", "gunicorn.conf.py"),
        ("workers = 'x'", "gunicorn.conf.py: workers must be a whole number"),
        ("on_exit = 3", "gunicorn.conf.py: on_exit must be a function, not 3"),
        ("certfile = 'x.pem'", "gunicorn.conf.py: certfile is a gunicorn setting"),
        ("def pre_exec(server): pass", "gunicorn.conf.py: pre_exec is a gunicorn setting"),
        ("class logger_class: pass", "gunicorn.conf.py: logger_class is a gunicorn setting"),
        ("reload = True", "gunicorn.conf.py: reload is a gunicorn setting"),
    ],
)
def test_a_mistake_in_a_python_file_is_one_line_with_its_place(tmp_path, text, message):
    python_file(tmp_path, text)
    error = refusal(tmp_path)
    assert message in str(error)
    assert error.exit_code == 1


def test_an_error_in_what_a_file_imports_names_both_places(tmp_path):
    (tmp_path / "common.py").write_text("\nx = 1 / 0\n")
    python_file(tmp_path, "import common\n")
    error = str(refusal(tmp_path))
    assert error.startswith("gunicorn.conf.py:1: ZeroDivisionError: division by zero")
    assert "common.py:2)" in error


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("worker = 4", "worker is no setting; did you mean workers?"),
        ("time_out = 4", "time_out is no setting; did you mean timeout?"),
        ("def post_forks(s, w): pass", "post_forks is no setting; did you mean post_fork?"),
        ("config = 'x.py'", "config has no effect in a configuration file"),
        ("print_config = True", "print_config has no effect in a configuration file"),
        ("worker_tmp_dir = '/dev/shm'", "worker_tmp_dir is passed over"),
    ],
)
def test_a_doubtful_name_in_a_python_file_gets_a_warning(tmp_path, text, warning):
    python_file(tmp_path, text)
    (said,) = configure(tmp_path).warnings
    assert warning in said


# TOML


@pytest.mark.parametrize("text", ["workers = 4", "[remuda]\nworkers = 4"])
def test_toml_has_settings_at_the_top_or_in_a_table(tmp_path, text):
    (tmp_path / "remuda.toml").write_text(text)
    assert configure(tmp_path).workers == 4


def test_toml_can_say_every_kind_of_value(tmp_path):
    (tmp_path / "remuda.toml").write_text(
        'bind = [":1", "unix:x"]\nworkers = "auto"\ntimeout = 0.5\npreload_app = true\n'
        'limit_request_body = "1M"\nforwarded_allow_ips = ["10.0.0.0/8"]\non_exit = "sys.exit"\n'
        '[secure_scheme_headers]\nX-Proto = "https"\n'
    )
    config = configure(tmp_path)
    assert config.bind == (":1", "unix:x")
    assert config.workers >= 3
    assert (config.timeout, config.preload_app, config.limit_request_body) == (0.5, True, 1 << 20)
    assert config.forwarded_allow_ips == ("10.0.0.0/8",)
    assert config.secure_scheme_headers == {"X-PROTO": "https"}
    assert config.on_exit is sys.exit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wokers = 4", "remuda.toml: there is no setting wokers: did you mean workers?"),
        ("graceful-timeout = 4", "did you mean graceful_timeout?"),
        ("workers = ", "remuda.toml is not good TOML: "),
        ("workers = [1]", "remuda.toml: workers must be a whole number"),
        ("certfile = 'x'", "remuda.toml: certfile is a gunicorn setting"),
        ("x = 1\n[remuda]\nworkers = 4", "x is outside the table [remuda]"),
        ("remuda = 1", "remuda must be a table"),
    ],
)
def test_a_mistake_in_toml_is_one_line(tmp_path, text, message):
    (tmp_path / "remuda.toml").write_text(text)
    assert message in str(refusal(tmp_path))


def test_a_named_pyproject_must_have_our_table(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.x]\n")
    assert "has no table [tool.remuda]" in str(refusal(tmp_path, "-c", "pyproject.toml"))


# What the layers come to


def test_a_config_is_frozen(tmp_path):
    config = configure(tmp_path)
    with pytest.raises(AttributeError, match="frozen"):
        config.workers = 3
    with pytest.raises(AttributeError):
        config.worker = 3
    assert config.workers == 1


def test_no_application_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError):
        configure(tmp_path).app  # noqa: B018  (it raises)


def test_the_application_may_stand_in_the_file_and_the_command_line_overrides_it(tmp_path):
    python_file(tmp_path, "wsgi_app = 'a:b'")
    assert configure(tmp_path).app == "a:b"
    assert configure(tmp_path, "c:d").app == "c:d"


def test_the_processes_are_named_after_the_application_or_as_said(tmp_path):
    assert configure(tmp_path, "demo:app").proc_name == "demo:app"
    assert configure(tmp_path, "demo:app", "-n", "shop").proc_name == "shop"


def test_paths_are_relative_to_the_directory_of_the_application(tmp_path):
    (tmp_path / "site" / "tmp").mkdir(parents=True)
    config = configure(
        tmp_path,
        *("--chdir", "site", "--access-logfile", "a.log", "--error-logfile", "-", "-p", "/run/x"),
        *("--tmp-upload-dir", "tmp", "-b", "unix:x.sock", "--pythonpath", "lib,/opt/lib"),
    )
    site = tmp_path / "site"
    assert config.chdir == str(site)
    assert config.accesslog == str(site / "a.log")
    assert (config.errorlog, config.pidfile) == ("-", "/run/x")
    assert config.tmp_upload_dir == str(site / "tmp")
    assert config.address == [str(site / "x.sock")]
    assert config.import_paths == ["/opt/lib", str(site / "lib"), str(site)]


def test_the_file_is_looked_for_where_the_command_was_started(tmp_path):
    (tmp_path / "site").mkdir()
    python_file(tmp_path, "workers = 4")
    python_file(tmp_path / "site", "workers = 5")
    assert configure(tmp_path, "--chdir", "site").workers == 4


@pytest.mark.parametrize("flag", ["--user", "--group"])
def test_only_root_can_change_the_user(tmp_path, monkeypatch, flag):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    assert f"{flag[2:]}: only root can change it" in str(refusal(tmp_path, flag, "0"))
    assert configure(tmp_path, flag, "1000").warnings == ()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert getattr(configure(tmp_path, flag, "7"), flag[2:]) == 7


@pytest.mark.parametrize(
    ("argv", "warning"),
    [
        (["-k", "gevent", "--threads", "2"], "threads has no effect on worker class gevent"),
        (["--initgroups"], "initgroups has no effect without user"),
        (["--capture-output"], "capture_output has no effect without a file for errorlog"),
        (["--max-requests-jitter", "5"], "max_requests_jitter has no effect"),
    ],
)
def test_settings_that_do_nothing_together_get_a_warning(tmp_path, argv, warning):
    (said,) = configure(tmp_path, *argv).warnings
    assert warning in said


@pytest.mark.parametrize(
    ("argv", "kind", "expected"),
    [
        ([], None, "sync"),
        ([], "wsgi", "sync"),
        ([], "asgi", "asgi"),
        ([], "tornado", "tornado"),
        (["--threads", "2"], "wsgi", "gthread"),
        (["--threads", "2"], None, "gthread"),
        (["--threads", "2", "-k", "sync"], "wsgi", "gthread"),
        (["--threads", "2"], "asgi", "asgi"),
        (["--threads", "2", "-k", "gevent"], "wsgi", "gevent"),
        (["-k", "tornado"], "wsgi", "tornado"),
        (["-k", "my.own.Class"], "asgi", "my.own.Class"),
    ],
)
def test_the_worker_class_follows_from_threads_and_application(tmp_path, argv, kind, expected):
    assert configure(tmp_path, "demo:app", *argv).worker_class_for(kind) == expected


@pytest.mark.parametrize(
    ("chosen", "kind", "fix"),
    [
        ("sync", "asgi", "demo:app is an ASGI application, which worker class sync cannot run"),
        ("gevent", "asgi", "use -k asgi"),
        ("tornado", "asgi", "use -k asgi"),
        ("sync", "tornado", "use -k tornado"),
        ("asgi", "wsgi", "demo:app is a WSGI application, which worker class asgi cannot run"),
    ],
)
def test_a_class_that_cannot_run_the_application_is_refused(tmp_path, chosen, kind, fix):
    config = configure(tmp_path, "demo:app", "-k", chosen)
    with pytest.raises(AppLoadError) as caught:
        config.worker_class_for(kind)
    assert fix in str(caught.value)
    assert caught.value.exit_code == 4


def test_the_routers_options_are_json_and_have_no_unbounded_head(tmp_path):
    argv = [
        "--limit-request-line",
        "0",
        "--limit-request-fields",
        "0",
        "--limit-request-head",
        "8K",
    ]
    config = configure(tmp_path, *argv, "--limit-request-field_size", "0")
    options = config.router_options()
    assert json.loads(json.dumps(options)) == options
    assert {*options} == {s.name for s in SETTINGS if s.router}
    assert options["limit_request_line"] == options["limit_request_field_size"] == 8192
    assert options["limit_request_fields"] == 32768


def test_the_description_says_where_each_value_came_from(tmp_path):
    (tmp_path / "remuda.toml").write_text("threads = 2\n")
    lines = configure(tmp_path, "-w", "4", REMUDA_TIMEOUT="5").describe().splitlines()
    said = [" ".join(line.split()) for line in lines]
    assert "workers = 4 (command line)" in said
    assert "threads = 2 (remuda.toml)" in said
    assert "timeout = 5 s (REMUDA_TIMEOUT)" in said
    assert "backlog = 2048 (default)" in said
    assert len(lines) == len(SETTINGS)


def test_a_reload_reads_the_file_again_and_a_broken_one_leaves_the_config(tmp_path):
    python_file(tmp_path, "workers = 2")
    config = configure(tmp_path, "demo:app")
    python_file(tmp_path, "workers = 3")
    assert config.reload().workers == 3
    python_file(tmp_path, "workers = (")
    with pytest.raises(ConfigError):
        config.reload()
    assert config.workers == 2


def test_a_reload_reads_a_module_again(tmp_path):
    python_file(tmp_path, "workers = 2", "live_settings.py")
    config = configure(tmp_path, "-c", "python:live_settings")
    python_file(tmp_path, "workers = 1200", "live_settings.py")
    assert config.reload().workers == 1200
