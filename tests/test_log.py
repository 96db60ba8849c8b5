"""The error log."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from remuda.errors import ConfigError
from remuda.log import LEVELS, Log

RECORD = re.compile(
    r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[(\d+)\] \[([A-Z]+)\] (.*)$", re.DOTALL
)


class Settings:
    """What a log reads of a Config."""

    def __init__(self, errorlog: Path | str, loglevel: str = "info", **more: object) -> None:
        self.errorlog = str(errorlog)
        self.loglevel = loglevel
        self.capture_output = bool(more.get("capture_output"))
        self.user = self.group = self.umask = None
        self.initgroups = False


@pytest.fixture
def path(tmp_path):
    return tmp_path / "error.log"


@pytest.fixture
def log(path):
    log = Log(Settings(path, "debug"))
    yield log
    log.close()


def message(path: Path) -> str:
    found = RECORD.match(path.read_text().removesuffix("\n"))
    assert found
    return found[3]


def test_a_record_has_gunicorns_format(log, path):
    log.info("Listening at: %s (%d)", "http://127.0.0.1:8000", 7)
    found = RECORD.match(path.read_text())
    assert found
    assert found[1] == str(os.getpid())
    assert found[2] == "INFO"
    assert found[3] == "Listening at: http://127.0.0.1:8000 (7)\n"


@pytest.mark.parametrize("threshold", LEVELS)
def test_records_below_the_level_are_left_out(path, threshold):
    log = Log(Settings(path, threshold))
    for level in LEVELS:
        getattr(log, level)(level)
    log.close()
    expected = [level for level in LEVELS if LEVELS[level] >= LEVELS[threshold]]
    assert [line.rsplit(" ", 1)[1] for line in path.read_text().splitlines()] == expected
    assert log.enabled(threshold)
    assert log.enabled("debug") == (threshold == "debug")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\0\x7f\x9b\t", "\\x00\\x7f\\x9b\\t"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("naïve ☃", "naïve ☃"),
    ],
)
def test_control_characters_are_escaped(log, path, text, written):
    log.error("%s", text)
    assert message(path) == written


@given(st.text(st.characters()))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_message_is_one_line(tmp_path, text):
    path = tmp_path / "any.log"
    path.unlink(missing_ok=True)
    log = Log(Settings(path))
    log.info(text)
    log.close()
    assert len(path.read_bytes().decode("utf-8").splitlines()) == 1


def test_arguments_that_do_not_fit_are_shown_and_nothing_raises(log, path):
    log.info("%d of %d", "x")
    assert message(path) == "%d of %d ('x',)"


def test_a_mapping_serves_names_as_in_the_standard_library(log, path):
    log.info("%(a)s", {"a": 1})
    assert message(path) == "1"


def test_a_percent_sign_without_arguments_is_one(log, path):
    log.info("100% done")
    assert message(path) == "100% done"


def test_an_exception_has_its_traceback_in_lines_of_its_own(log, path):
    try:
        raise ValueError("first\x1b\nsecond")
    except ValueError as error:
        log.exception("GET %s", "/x\n")
        log.error("again", exc_info=error)
        log.warning("and again", exc_info=True)
    lines = path.read_text().splitlines()
    assert lines[0].endswith("[ERROR] GET /x\\n")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines.count("ValueError: first\\x1b") == 3
    assert lines.count("second") == 3


def test_an_exception_outside_of_a_handler_has_no_traceback(log, path):
    log.exception("nothing happened")
    assert message(path) == "nothing happened"


def test_a_detail_keeps_its_lines_but_no_other_control_character(log, path):
    log.error("stacks", detail="one\n\ttwo\r\x1b\n")
    assert message(path) == "stacks\none\n\ttwo\\r\\x1b"


def test_a_renamed_file_is_left_after_reopening_and_the_descriptor_stays(log, path):
    log.info("before")
    fd = log.fileno()
    path.rename(path.with_suffix(".1"))
    log.info("between")
    log.reopen()
    log.info("after")
    assert log.fileno() == fd
    assert not os.get_inheritable(fd)
    assert [line[-7:] for line in path.with_suffix(".1").read_text().splitlines()] == [
        " before",
        "between",
    ]
    assert path.read_text().endswith("after\n")


def test_the_old_file_is_kept_when_the_new_one_cannot_be_opened(log, path):
    moved = path.with_suffix(".1")
    path.rename(moved)
    path.mkdir()
    log.reopen()
    log.info("still here")
    text = moved.read_text()
    assert f"Cannot reopen the error log {path}: Is a directory" in text
    assert text.endswith("still here\n")


def test_a_file_that_cannot_be_opened_is_a_fault_of_the_configuration(tmp_path):
    with pytest.raises(ConfigError) as caught:
        Log(Settings(tmp_path / "none" / "error.log"))
    assert "No such file or directory" in str(caught.value)
    assert caught.value.exit_code == 1


def test_records_of_threads_and_processes_never_mix(path):
    log = Log(Settings(path))
    children = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                threads = [
                    threading.Thread(target=lambda: [log.info("x" * 2000) for _ in range(50)])
                    for _ in range(3)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            finally:
                os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    log.close()
    lines = path.read_text().splitlines()
    assert len(lines) == 3 * 3 * 50
    assert all(line.endswith("[INFO] " + "x" * 2000) for line in lines)


def test_lost_records_are_counted_and_the_count_is_written_once_there_is_room(log, path):
    # A pipe that is full stands for a full disk.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.dup2(writer, log.fileno(), inheritable=False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"-" * 4096)
    log.info("lost")
    log.info("lost, too")
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.read(reader, 65536)
    log.info("there")
    log.info("and there")
    os.close(writer)
    log.close()
    with os.fdopen(reader) as stream:
        lines = stream.read().splitlines()
    assert lines[0] == "(2 log records could not be written)"
    assert [line.split("] ")[-1] for line in lines[1:]] == ["there", "and there"]


def run(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


SETTINGS_CODE = """
import os, sys
from remuda.log import Log
class C:
    errorlog, loglevel, user, group, umask = sys.argv[1], "info", None, None, None
    initgroups = False
    capture_output = len(sys.argv) > 2
log = Log(C)
"""


def test_a_hyphen_is_stderr():
    done = run(SETTINGS_CODE + "log.info('hello'); log.reopen(); log.close()", "-")
    assert done.stderr.endswith("[INFO] hello\n")
    assert done.stdout == ""


def test_captured_output_goes_to_the_file_also_after_reopening(tmp_path):
    path = tmp_path / "error.log"
    code = (
        SETTINGS_CODE
        + """
print("one", flush=True)
os.write(2, b"two\\n")
os.rename(sys.argv[1], sys.argv[1] + ".1")
log.reopen()
print("three", flush=True)
os.system("echo four >&2")
"""
    )
    done = run(code, path, "capture")
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "error.log.1").read_text() == "one\ntwo\n"
    assert path.read_text() == "three\nfour\n"


def test_the_log_does_not_import_logging():
    done = run(SETTINGS_CODE + "log.info('x'); print('logging' in sys.modules)", "-")
    assert done.stdout == "False\n"
