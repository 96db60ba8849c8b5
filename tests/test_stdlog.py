"""The loggers of the standard library: ready when logging is imported, and not before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RECORD = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] "

SETUP = """
import sys
from remuda import config, log, stdlog
error_log = log.Log(config.load(["--log-level", LEVEL, "--error-logfile", "error.log"], {}, CWD))
"""


def run(directory: Path, program: str, level: str = "info") -> str:
    """Run a program in a process of its own; what is in the error log then."""
    head = f"LEVEL, CWD = {level!r}, {str(directory)!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", head + SETUP + program],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return (directory / "error.log").read_text()


def matches(pattern: str, text: str) -> bool:
    import re

    return re.fullmatch(pattern, text, re.DOTALL) is not None


def test_attaching_imports_no_logging_and_a_later_import_is_as_ever(tmp_path: Path) -> None:
    program = """
import importlib
before = [*sys.meta_path]
stdlog.attach(error_log)
stdlog.attach(error_log)
assert "logging" not in sys.modules
assert len(sys.meta_path) == len(before) + 1
import json, logging.handlers, inspect
assert sys.meta_path == before
assert logging.__loader__ is logging.__spec__.loader
assert type(logging.__loader__) is type(json.__loader__)
assert "getLogger" in inspect.getsource(logging)
importlib.reload(logging)
"""
    assert run(tmp_path, program) == ""


@pytest.mark.parametrize("order", ["import logging\nATTACH", "ATTACH\nimport logging"])
@pytest.mark.parametrize("name", ["gunicorn.error", "gunicorn.access", "remuda.error"])
def test_a_record_is_in_the_error_log_exactly_once(tmp_path: Path, order: str, name: str) -> None:
    program = (
        order.replace("ATTACH", "stdlog.attach(error_log)")
        + f"""
logging.basicConfig(stream=sys.stdout)
logger = logging.getLogger({name!r})
logger.info("hello %s", "world")
logger.debug("not at this level")
"""
    )
    assert matches(RECORD + r"\[INFO\] hello world\n", run(tmp_path, program))


def test_an_application_that_takes_the_handlers_loses_nothing(tmp_path: Path) -> None:
    program = """
stdlog.attach(error_log)
import logging
gunicorn = logging.getLogger("gunicorn.error")
logger = logging.getLogger("app")
logger.handlers = gunicorn.handlers
logger.setLevel(gunicorn.level)
logger.warning("one")
logger.info("not at this level")
logger.setLevel(logging.DEBUG)
logger.debug("two")
"""
    pattern = RECORD + r"\[WARNING\] one\n" + RECORD + r"\[DEBUG\] two\n"
    assert matches(pattern, run(tmp_path, program, level="warning"))


def test_lines_and_tracebacks_are_kept_and_other_controls_escaped(tmp_path: Path) -> None:
    program = """
stdlog.attach(error_log)
import logging
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("gunicorn.error").exception("first\\nsecond\\x1b[31m\\r")
"""
    pattern = (
        RECORD
        + r"\[ERROR\] first\nsecond\\x1b\[31m\\r\nTraceback .*"
        + r"\nZeroDivisionError: division by zero\n"
    )
    assert matches(pattern, run(tmp_path, program))


def test_another_log_takes_over_and_what_the_application_changed_stays(tmp_path: Path) -> None:
    program = """
import logging
stdlog.attach(error_log)
logger = logging.getLogger("gunicorn.error")
logger.handlers = [logging.NullHandler()]
stdlog.attach(log.Log(config.load(["--log-level", "error", "--error-logfile", "other"], {}, CWD)))
assert logger.level == logging.ERROR
logger.error("to nobody")
other = logging.getLogger("remuda.error")
other.error("to the other log")
"""
    assert run(tmp_path, program) == ""
    assert matches(RECORD + r"\[ERROR\] to the other log\n", (tmp_path / "other").read_text())


def test_a_module_of_the_application_that_is_called_logging_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "logging.py").write_text("x = 1\n")
    program = """
stdlog.attach(error_log)
import logging
assert logging.x == 1
"""
    assert run(tmp_path, program) == ""


def test_an_import_that_fails_can_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "logging.py").write_text("raise RuntimeError('not yet')\n")
    program = """
import importlib, os
stdlog.attach(error_log)
try:
    import logging
except RuntimeError:
    os.unlink("logging.py")
    importlib.invalidate_caches()
import logging
logging.getLogger("gunicorn.error").info("now")
"""
    assert matches(RECORD + r"\[INFO\] now\n", run(tmp_path, program))
