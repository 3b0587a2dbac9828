"""Whether the kernel has killed a process because memory ran out: its count of the control group.

A process that the OOM killer ends dies of SIGKILL like any other. The kernel counts its victims in
`memory.events` of their control group (cgroup v2, Documentation/admin-guide/cgroup-v2.rst), or in
`memory.oom_control` (v1). Without such a file nothing is claimed.
"""

from __future__ import annotations

import re
from pathlib import Path

# Seconds. A victim that was counted more than two windows ago explains no death: it was another
# process of the group.
WINDOW = 5.0

REASON = "out of memory: killed by the kernel"


class OomKills:
    """The count of the control group of this process. A death of SIGKILL takes one."""

    def __init__(
        self, root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
    ) -> None:
        self._file = _find(root, own)
        # When the window before this one began, and when this one did.
        self._counts = [self._read()] * 2
        self._began = 0.0

    def poll(self, now: float) -> None:
        """Forget old victims. Once a second or so: it reads the file when a window is over."""
        if now - self._began >= WINDOW:
            self._began = now
            self._counts = [self._counts[1], self._read()]

    def take(self) -> bool:
        """True if a process that has just died of SIGKILL was a victim; each explains one death."""
        if self._read() <= self._counts[0]:
            return False
        self._counts = [self._counts[0] + 1, max(self._counts[1], self._counts[0] + 1)]
        return True

    def _read(self) -> int:
        try:
            text = self._file.read_text() if self._file is not None else ""
        except OSError:
            return 0
        found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else 0


def _find(root: Path, own: Path) -> Path | None:
    # The file with the count. Lines of /proc/PID/cgroup are `ID:CONTROLLERS:PATH` (cgroups(7)); v2
    # has `0::PATH`.
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
        groups = {name: path.lstrip("/") for _, names, path in lines for name in names.split(",")}
    except (OSError, ValueError):
        return None
    # In a container the path may be the host's; then our group is what is mounted.
    if "memory" in groups:
        mounts, name = [root / "memory" / groups["memory"], root / "memory"], "memory.oom_control"
    else:
        mounts, name = [root / groups.get("", ""), root], "memory.events"
    return next((mount / name for mount in mounts if (mount / name).is_file()), None)
