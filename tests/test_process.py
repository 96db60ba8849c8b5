"""What a forked child does before it becomes what it is."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from remuda.errors import ConfigError
from remuda.process import give_access_log, shortage

NOBODY = 65534

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def config(path: Path | str | None, user: int | None = NOBODY, group: int | None = None) -> Any:
    return SimpleNamespace(accesslog=None if path is None else str(path), user=user, group=group)


@root
def test_the_access_log_is_made_and_given_to_the_user(tmp_path):
    path = tmp_path / "access"
    give_access_log(config(path, group=NOBODY))
    assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)
    path.write_text("kept")
    give_access_log(config(path))
    assert path.read_text() == "kept"


@root
def test_nothing_is_made_when_nobody_is_named(tmp_path):
    path = tmp_path / "access"
    give_access_log(config(path, user=None))
    give_access_log(config(None))
    give_access_log(config("-"))
    assert not path.exists()


@root
def test_a_link_in_its_place_gives_nothing_away(tmp_path):
    precious, path = tmp_path / "precious", tmp_path / "access"
    precious.write_text("root's")
    path.symlink_to(precious)
    give_access_log(config(path))
    assert precious.stat().st_uid == 0


@root
def test_a_second_name_in_its_place_gives_nothing_away(tmp_path):
    precious, path = tmp_path / "precious", tmp_path / "access"
    precious.write_text("root's")
    path.hardlink_to(precious)
    give_access_log(config(path))
    assert precious.stat().st_uid == 0


@root
def test_a_directory_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match="accesslog: cannot open"):
        give_access_log(config(tmp_path / "no" / "access"))


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EMFILE, r"said; RLIMIT_NOFILE is \d+, raise it \(ulimit -n\)"),
        (errno.EPERM, r"said; it is forbidden here.*"),
        (errno.EAGAIN, "said"),
    ],
)
def test_a_shortage_names_the_limit(number, says):
    assert re.fullmatch(says, shortage(OSError(number, "said")))
