"""Whether the kernel has killed a process for want of memory: what it counts in our control group.

A process that the OOM killer ends dies of SIGKILL like any other. The kernel counts its victims in
the `memory.events` of their control group (cgroup v2, Documentation/admin-guide/cgroup-v2.rst), or
in its `memory.oom_control` (v1). Without such a file (no memory controller, no /sys) nothing can be
known, and nothing is claimed.
"""

from __future__ import annotations

import re
from pathlib import Path

WINDOW = 5.0
"""Seconds. A count that rose longer ago than twice this explains no death: the victim was somebody
else."""

REASON = "out of memory: killed by the kernel"


class OomKills:
    """The victims in the control group of this process. A death of SIGKILL takes one."""

    def __init__(
        self, root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
    ) -> None:
        self._file = _find(root, own)
        self._latest = self._before = self._read()
        """The count when the window began, and when the one before it did."""
        self._began = 0.0

    def look(self, now: float) -> None:
        """Move on. Once a second or so: it reads the file only when a window is over."""
        if now - self._began >= WINDOW:
            self._began = now
            self._before, self._latest = self._latest, self._read()

    def take(self) -> bool:
        """True if a process that has just died of SIGKILL was a victim; each victim explains one
        death."""
        if self._read() <= self._before:
            return False
        self._before += 1
        self._latest = max(self._latest, self._before)
        return True

    def _read(self) -> int:
        if self._file is None:
            return 0
        try:
            found = re.search(r"^oom_kill (\d+)$", self._file.read_text(), re.MULTILINE)
        except OSError:
            return 0
        return int(found[1]) if found else 0


def _find(root: Path, own: Path) -> Path | None:
    """The file with the count. Lines of /proc/PID/cgroup are `ID:CONTROLLERS:PATH` (cgroups(7)); v2
    has `0::PATH`."""
    try:
        lines = [
            line.split(":", 2) for line in own.read_text().splitlines() if line.count(":") >= 2
        ]
    except OSError:
        return None
    for _, controllers, path in sorted(lines, key=lambda fields: fields[1] == ""):
        inside = path.lstrip("/")
        if "memory" in controllers.split(","):
            candidates = [
                root / "memory" / inside / "memory.oom_control",
                root / "memory" / "memory.oom_control",
            ]
        elif not controllers:
            # In a container the path may be the host's; then our group is what is mounted.
            candidates = [
                root / inside / "memory.events",
                root / "unified" / inside / "memory.events",
            ]
            candidates += [root / "memory.events"]
        else:
            continue
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    return None
