"""What a forked child does before it becomes what it is."""

from __future__ import annotations

import errno
import re

import pytest

from remuda.process import shortage


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
