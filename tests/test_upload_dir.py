"""Whether bodies can be stored where they are to be: found out at the start."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from remuda.config import load
from remuda.errors import ConfigError
from remuda.process import check_upload_dir

NOBODY = 65534

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")


def settings(given: Path | None, used: Path, user: int | None = None) -> Any:
    return SimpleNamespace(
        tmp_upload_dir=None if given is None else str(given),
        upload_dir=str(used),
        user=user,
        group=user,
        umask=0,
        initgroups=False,
    )


@pytest.fixture
def unusable() -> Path:
    """A directory in which not even root can make a file."""
    return Path("/proc/self")


def test_a_directory_that_takes_files_is_well_and_stays_empty(tmp_path):
    assert check_upload_dir(settings(tmp_path, tmp_path)) is None
    assert check_upload_dir(settings(None, tmp_path)) is None
    assert [*tmp_path.iterdir()] == []


def test_a_directory_that_was_chosen_and_takes_none_is_an_error(unusable):
    with pytest.raises(ConfigError) as caught:
        check_upload_dir(settings(unusable, unusable))
    assert str(caught.value).startswith(f"tmp_upload_dir: nothing can be stored in {unusable}: ")
    assert "--tmp-upload-dir" in str(caught.value)


def test_the_systems_directory_is_warned_of(unusable, tmp_path):
    warning = check_upload_dir(settings(None, unusable))
    assert f"cannot be stored in {unusable} (" in warning
    assert warning.endswith("name a directory with --tmp-upload-dir")
    missing = tmp_path / "missing"
    assert "No such file or directory" in check_upload_dir(settings(None, missing))


@only_root
def test_it_is_the_user_of_the_router_who_must_be_able_to(tmp_path_factory):
    directory = Path("/tmp") / f"remuda-test-{os.getpid()}"
    directory.mkdir(mode=0o700)
    try:
        check_upload_dir(settings(directory, directory))
        with pytest.raises(ConfigError, match=f"Permission denied.*for user {NOBODY}"):
            check_upload_dir(settings(directory, directory, NOBODY))
        os.chown(directory, NOBODY, NOBODY)
        assert check_upload_dir(settings(directory, directory, NOBODY)) is None
    finally:
        directory.rmdir()
    assert os.geteuid() == 0


@pytest.mark.parametrize(("variable", "used"), [("", "/tmp"), ("/var/tmp", "/var/tmp")])
def test_the_router_is_told_which_directory_it_is(monkeypatch, tmp_path, variable, used):
    monkeypatch.setenv("TMPDIR", variable)
    config = load(["app:app"], {}, str(tmp_path))
    assert config.router_options()["tmp_upload_dir"] == used
    config = load(["--tmp-upload-dir", str(tmp_path), "app:app"], {}, str(tmp_path))
    assert config.router_options()["tmp_upload_dir"] == str(tmp_path)
