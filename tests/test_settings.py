"""The table of settings, the kinds of values, and the document made from both."""

from __future__ import annotations

import builtins
import grp
import io
import os
import pwd
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remuda import _docs, _native, kinds, values
from remuda.absent import ABSENT
from remuda.absent import BY_FLAG as ABSENT_FLAGS
from remuda.settings import BY_FLAG, BY_NAME, SETTINGS
from remuda.values import GIB, KIB, MIB, parse_address

ROOT = Path(__file__).parents[1]


def convert(name: str, value: object) -> object:
    return BY_NAME[name].kind.convert(value)


def case(value: object) -> str:
    """A name for a parametrized case, the same in every process."""
    return "function" if callable(value) else str(value)[:30]


# The table


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_a_default_is_a_value_that_its_kind_accepts(setting):
    if setting.name != "chdir":  # its default is the working directory, known at start
        assert setting.kind.convert(setting.default) == setting.default


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_a_summary_is_one_short_line(setting):
    assert setting.summary
    assert "\n" not in setting.summary
    assert len(setting.summary) < 100


def test_a_flag_belongs_to_one_setting():
    flags = [f for s in SETTINGS for f in s.flags] + [f for a in ABSENT.values() for f in a.flags]
    assert sorted(flags) == sorted(set(flags))
    assert not set(BY_FLAG) & set(ABSENT_FLAGS)
    assert not set(BY_NAME) & set(ABSENT)


# name -> flags and default, of gunicorn 27.0.1. Whatever is not here is Remuda's own.
GUNICORN = {
    "config": (["-c", "--config"], "./gunicorn.conf.py"),
    "wsgi_app": ([], None),
    "bind": (["-b", "--bind"], ("127.0.0.1:8000",)),
    "backlog": (["--backlog"], 2048),
    "workers": (["-w", "--workers"], 1),
    "worker_class": (["-k", "--worker-class"], "sync"),
    "threads": (["--threads"], 1),
    "worker_connections": (["--worker-connections"], 1000),
    "max_requests": (["--max-requests"], 0),
    "max_requests_jitter": (["--max-requests-jitter"], 0),
    "timeout": (["-t", "--timeout"], 30),
    "graceful_timeout": (["--graceful-timeout"], 30),
    "keepalive": (["--keep-alive"], 2),
    "asgi_loop": (["--asgi-loop"], "auto"),
    "asgi_lifespan": (["--asgi-lifespan"], "auto"),
    "limit_request_line": (["--limit-request-line"], 4094),
    "limit_request_fields": (["--limit-request-fields"], 100),
    "limit_request_field_size": (["--limit-request-field_size"], 8190),
    "check_config": (["--check-config"], False),
    "print_config": (["--print-config"], False),
    "preload_app": (["--preload"], False),
    "sendfile": (["--no-sendfile"], None),
    "reuse_port": (["--reuse-port"], False),
    "chdir": (["--chdir"], ""),
    "raw_env": (["-e", "--env"], ()),
    "pidfile": (["-p", "--pid"], None),
    "user": (["-u", "--user"], None),
    "group": (["-g", "--group"], None),
    "umask": (["-m", "--umask"], 0),
    "initgroups": (["--initgroups"], False),
    "tmp_upload_dir": ([], None),
    "pythonpath": (["--pythonpath"], None),
    "root_path": (["--root-path"], ""),
    "secure_scheme_headers": (
        [],
        {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"},
    ),
    "forwarded_allow_ips": (["--forwarded-allow-ips"], ("127.0.0.1", "::1")),
    "forwarder_headers": (["--forwarder-headers"], ("SCRIPT_NAME", "PATH_INFO")),
    "header_map": (["--header-map"], "drop"),
    "accesslog": (["--access-logfile"], None),
    "access_log_format": (
        ["--access-logformat"],
        '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
    ),
    "errorlog": (["--error-logfile", "--log-file"], "-"),
    "loglevel": (["--log-level"], "info"),
    "capture_output": (["--capture-output"], False),
    "proc_name": (["-n", "--name"], None),
}
# A default that is another value, whose reason stands elsewhere than in `differs`.
SAME_IN_EFFECT = {"config", "sendfile"}


@pytest.mark.parametrize("name", GUNICORN)
def test_a_setting_has_gunicorns_flags_and_default_or_says_why_not(name):
    flags, default = GUNICORN[name]
    setting = BY_NAME[name]
    assert set(flags) <= set(setting.flags)
    if setting.default != default and name not in SAME_IN_EFFECT:
        assert setting.differs


def test_every_setting_of_gunicorn_is_there_or_absent_with_a_reason():
    hooks = {s.name for s in SETTINGS if s.section == "Server hooks"}
    assert len(set(GUNICORN) | hooks | set(ABSENT)) == 120
    assert all(absent.instead for absent in ABSENT.values())


def test_the_router_knows_the_settings_that_it_reads():
    if not hasattr(_native, "router_option_names"):
        pytest.skip("the extension has no router yet")
    assert {s.name for s in SETTINGS if s.router} == set(_native.router_option_names())


# The document


def test_the_document_of_the_settings_is_current():
    on_disk = (ROOT / "docs" / "settings.md").read_text()
    assert on_disk == _docs.markdown(), "run: python -m remuda._docs > docs/settings.md"


def test_the_document_has_each_setting_with_flags_variable_default_and_difference():
    text = _docs.markdown()
    entries = {part.split("\n", 1)[0]: part for part in text.split("\n### ")[1:]}
    assert list(entries) == [s.name for s in SETTINGS]
    for setting in SETTINGS:
        entry = entries[setting.name]
        assert all(f"`{flag}" in entry for flag in setting.flags)
        assert setting.environment is None or f"`{setting.environment}`" in entry
        assert "\n- default: " in entry
        assert ("Differs from gunicorn: " in entry) == bool(setting.differs)


# Kinds


GOOD = [
    ("workers", "4", 4),
    ("workers", 4, 4),
    ("workers", " 4 ", 4),
    ("threads", "1", 1),
    ("timeout", "30", 30),
    ("timeout", "0.5", 0.5),
    ("timeout", 2.0, 2),
    ("keepalive", 0, 0),
    ("limit_request_body", "64k", 64 * KIB),
    ("limit_request_body", "2 MiB", 2 * MIB),
    ("limit_request_body", "1G", GIB),
    ("limit_request_body", "7b", 7),
    ("limit_request_body", "0", 0),
    ("umask", "022", 0o22),
    ("umask", "0o27", 0o27),
    ("umask", "18", 18),
    ("umask", 0o77, 0o77),
    ("preload_app", "yes", True),
    ("preload_app", "False", False),
    ("preload_app", "0", False),
    ("sendfile", False, False),
    ("loglevel", "DEBUG", "debug"),
    ("accesslog", "", None),
    ("accesslog", None, None),
    ("accesslog", Path("a.log"), "a.log"),
    ("bind", ":8000", (":8000",)),
    ("bind", ["[::1]:1", "unix:/x"], ("[::1]:1", "unix:/x")),
    ("bind", ["127.0.0.1:0", "127.0.0.1:0"], ("127.0.0.1:0", "127.0.0.1:0")),
    ("forwarded_allow_ips", "10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")),
    ("forwarded_allow_ips", "*", ("*",)),
    ("forwarded_allow_ips", "", ()),
    ("forwarder_headers", "script_name,remote_user", ("SCRIPT_NAME", "REMOTE_USER")),
    ("secure_scheme_headers", {"x-a": "on"}, {"X-A": "on"}),
    ("raw_env", "A=b=c", ("A=b=c",)),
    ("raw_env", ["A=", "B=1,2"], ("A=", "B=1,2")),
    ("worker_class", "gevent", "gevent"),
    ("worker_class", "GThread", "gthread"),
    ("worker_class", "egg:gunicorn#gevent", "gevent"),
    ("worker_class", "gunicorn.workers.ggevent.GeventWorker", "gevent"),
    ("worker_class", "mypkg.workers.Custom", "mypkg.workers.Custom"),
    ("worker_class", io.StringIO, io.StringIO),
    ("user", str(os.getuid()), os.getuid()),
    ("user", pwd.getpwuid(os.getuid()).pw_name, os.getuid()),
    ("group", grp.getgrgid(os.getgid()).gr_name, os.getgid()),
    ("user", None, None),
]


@pytest.mark.parametrize(("name", "value", "expected"), GOOD, ids=case)
def test_a_good_value_is_converted(name, value, expected):
    assert convert(name, value) == expected


BAD = [
    ("workers", "many", "must be a whole number from 1 to 4096, or auto, not 'many'"),
    ("workers", 0, "must be a whole number from 1 to 4096, or auto, not 0"),
    ("workers", True, "not True"),
    ("workers", 1.5, "not 1.5"),
    ("workers", "-1", "not '-1'"),
    ("workers", "+5", "not '+5'"),
    ("workers", "1_0", "not '1_0'"),
    ("workers", "٣", "not '٣'"),
    ("workers", [4], "not a list"),
    ("threads", "9" * 40, "not '999"),
    ("timeout", "soon", "must be a number of seconds, 0 or more, not 'soon'"),
    ("timeout", -1, "not -1"),
    ("timeout", float("nan"), "not nan"),
    ("timeout", float("inf"), "not inf"),
    ("timeout", "1e3", "not '1e3'"),
    ("timeout", "1.", "not '1.'"),
    ("header_timeout", 0, "0.001 or more, not 0"),
    ("limit_request_head", "10", "at most 96 KiB, not '10'"),
    ("limit_request_body", "10 parsecs", "not '10 parsecs'"),
    ("limit_request_body", "k", "not 'k'"),
    ("limit_request_body", -1, "not -1"),
    ("umask", "0800", "must be a mask from 0 to 0777, not '0800'"),
    ("umask", 512, "not 512"),
    ("umask", "-2", "not '-2'"),
    ("preload_app", "maybe", "must be true or false, not 'maybe'"),
    ("preload_app", 1, "must be true or false, not 1"),
    ("loglevel", "warn", "not 'warn': did you mean warning?"),
    ("loglevel", None, "not None"),
    ("header_map", "allow", "must be drop, refuse or dangerous, not 'allow'"),
    ("errorlog", "", "must not be empty"),
    ("errorlog", 3, "must be text, not 3"),
    ("pidfile", "a\nb", "control characters"),
    ("bind", [], "must have at least one address"),
    ("bind", "127.0.0.1:99999", "must have a port from 0 to 65535, not '99999'"),
    ("bind", "localhost:http", "not 'http'"),
    ("bind", "8000", "did you mean :8000?"),
    ("bind", "::1:8000", "as [::1]:8000"),
    ("bind", "[::1", "as [::1]:8000"),
    ("bind", "[::1]8000", "as [::1]:8000"),
    ("bind", "/run/x.sock", "must be HOST:PORT or unix:PATH"),
    ("bind", "unix:", "must name a path"),
    ("bind", "unix:/" + "x" * 200, "more than 103 bytes"),
    ("bind", "fd://x", "the number of an open descriptor"),
    ("bind", ["a:1", "A:1"], "names A:1 twice"),
    ("bind", [1], "1 is in it"),
    ("bind", 8000, "must be HOST, HOST:PORT"),
    ("forwarded_allow_ips", "proxy", "'proxy' is none"),
    ("forwarded_allow_ips", "10.0.0.1/8", "(the network is 10.0.0.0/8)"),
    ("forwarder_headers", "a b", "'a b' is none"),
    ("secure_scheme_headers", "x", "must be a table"),
    ("secure_scheme_headers", {"a b": "c"}, "'a b' is none"),
    ("secure_scheme_headers", {"A": 1}, "A has 1"),
    ("raw_env", "A", "must be KEY=VALUE, not 'A'"),
    ("raw_env", "=x", "must be KEY=VALUE, not '=x'"),
    ("worker_class", "geven", "did you mean gevent?"),
    ("worker_class", "uvicorn.workers.UvicornWorker", "use asgi"),
    ("worker_class", "gunicorn.workers.base.Worker", "which needs gunicorn"),
    ("worker_class", 3, "not 3"),
    ("user", "nobody-of-that-name", "names no user of this machine"),
    ("group", "nobody-of-that-name", "names no group of this machine"),
    ("user", -1, "not -1"),
    ("on_exit", 3, "must be a function, not 3"),
    ("on_exit", "json", "package.module.function"),
    ("on_exit", "no.such.module.f", "cannot be imported"),
    ("on_exit", "json.no_such", "cannot be imported"),
    ("on_exit", lambda: None, "must be a function that takes (server)"),
    ("pre_fork", lambda server: None, "must be a function that takes (server, worker)"),
    ("post_request", lambda worker: None, "takes (worker, req, environ, resp)"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD, ids=case)
def test_a_bad_value_is_refused_with_what_would_be_good(name, value, message):
    with pytest.raises(ValueError) as caught:
        convert(name, value)
    assert message in str(caught.value)


ADDRESSES = [
    ("127.0.0.1:8000", ("127.0.0.1", 8000)),
    ("localhost", ("localhost", 8000)),
    ("LOCALHOST:1", ("localhost", 1)),
    (":80", ("0.0.0.0", 80)),
    ("tcp://h:80", ("h", 80)),
    ("[::1]:81", ("::1", 81)),
    ("[::]", ("::", 8000)),
    ("unix:/run/x.sock", "/run/x.sock"),
    ("unix:///run/x.sock", "/run/x.sock"),
    ("unix:x.sock", "x.sock"),
    ("fd://3", 3),
]


@pytest.mark.parametrize(("text", "address"), ADDRESSES)
def test_an_address_is_read_as_gunicorn_reads_it(text, address):
    assert parse_address(text) == address


@given(st.text())
def test_any_text_is_an_address_or_refused(text):
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert not isinstance(address, tuple) or 0 <= address[1] <= 65535


@given(st.sampled_from([s for s in SETTINGS if not s.file_only]), st.text() | st.integers())
def test_any_value_is_converted_or_refused_and_converting_again_changes_nothing(setting, value):
    try:
        once = setting.kind.convert(value)
    except ValueError:
        return
    assert setting.kind.convert(once) == once


@given(st.integers(0, 2**40), st.sampled_from([("", 1), ("K", KIB), ("MiB", MIB), (" gb", GIB)]))
def test_a_size_is_its_number_times_its_unit(count, unit):
    suffix, factor = unit
    if count * factor <= 2**62:
        assert convert("limit_request_body", f"{count}{suffix}") == count * factor


def test_auto_is_two_workers_a_processor_and_one_more(monkeypatch):
    monkeypatch.setattr(kinds, "cpus", lambda: 6)
    assert convert("workers", "auto") == 13
    monkeypatch.setattr(kinds, "cpus", lambda: 10_000)
    assert convert("workers", "AUTO") == 4096


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [("max 100000\n", 8), ("150000 100000\n", 2), ("50000 100000", 1), ("9900000 100000", 8)],
)
def test_a_containers_share_of_the_processors_counts(monkeypatch, cpu_max, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    monkeypatch.setattr(builtins, "open", lambda *args, **kwargs: io.StringIO(cpu_max))
    assert values.cpus() == expected


def test_a_hook_that_takes_fewer_arguments_is_given_the_first():
    calls = []

    def hook(worker, req):
        calls.append((worker, req))

    wrapped = convert("post_request", hook)
    wrapped("w", "r", "e", "resp")
    assert calls == [("w", "r")]
    assert wrapped.__qualname__ == hook.__qualname__


def test_a_hook_with_the_right_arguments_is_taken_as_it_is():
    def hook(worker, req, environ, resp):
        pass

    assert convert("post_request", hook) is hook
    assert convert("on_exit", "os.path.exists") is os.path.exists
