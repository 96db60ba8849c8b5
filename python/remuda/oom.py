"""Whether the kernel kills for want of memory: it counts how often it did."""

# pathlib would cost the arbiter 0.9 MiB.
# ruff: noqa: PTH123

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Seconds after which a kill explains no other death.
FRESH = 30.0
# Seconds between looks while nothing calls for one.
LOOK = 1.0


class OomKills:
    """The kernel's count of processes that it killed: in our control group, or in all."""

    def __init__(self, paths: Sequence[str] | None = None) -> None:
        """`paths`: files with a line `oom_kill NUMBER`; the first that has one counts."""
        self.path: str | None = None
        self._seen = 0
        self._looked = float("-inf")
        self._struck = float("-inf")
        for path in _files() if paths is None else paths:
            count = _count(path)
            if count is not None:
                self.path, self._seen = path, count
                break

    def look(self, now: float) -> None:
        """Look now and then, so that a kill of long ago is known to be one."""
        if self.path is not None and now - self._looked >= LOOK:
            self._look(now)

    def struck(self, now: float) -> bool:
        """Whether the kernel has killed somebody a moment ago."""
        if self.path is not None:
            self._look(now)
        return now - self._struck < FRESH

    def _look(self, now: float) -> None:
        self._looked = now
        count = _count(self.path) if self.path is not None else None
        if count is None:
            return
        if count > self._seen:
            self._struck = now
        self._seen = count


def _files() -> list[str]:
    """Where the count may be: cgroup v2's, v1's, and that of the whole machine."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        lines = []
    files = []
    for fields in lines:
        if len(fields) != 3:
            continue
        _, controllers, path = fields
        path = "" if path == "/" else path
        # In a container the path may be that of the host, which is not there.
        if not controllers:
            files += [f"/sys/fs/cgroup{at}/memory.events" for at in (path, "")]
        elif "memory" in controllers.split(","):
            files += [f"/sys/fs/cgroup/memory{at}/memory.oom_control" for at in (path, "")]
    return [*files, "/proc/vmstat"]


def _count(path: str) -> int | None:
    """The number behind `oom_kill`; None when there is none."""
    try:
        with open(path, "rb") as file:
            for line in file:
                name, _, number = line.partition(b" ")
                if name == b"oom_kill" and number.strip().isdigit():
                    return int(number)
    except OSError:
        return None
    return None
