"""The living processes that a process has started, as the kernel sees them (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress

MAX_COMMAND = 60  # characters of a command line in a description


def children(pid: int, but: Collection[int] = ()) -> set[int]:
    """The pids of the living children of process `pid`, without those in `but`."""
    found: set[int] = set()
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found.update(map(int, file.read().split()))
    except ProcessLookupError:
        return set()
    except FileNotFoundError:  # a thread has ended, or the kernel lacks CONFIG_PROC_CHILDREN
        found = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        found = {each for each in found if _stat(each)[1] == pid}
    return {each for each in found.difference(but) if _stat(each)[0] not in "ZX"}


def descendants(pid: int) -> set[int]:
    """The pids of its living children, their children, and so on."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        new = children(waiting.pop()) - found
        found |= new
        waiting += new
    return found


def has_left(pid: int) -> bool:
    """True if process `pid` is in another session than this one, as a daemon is (setsid(2))."""
    try:
        return os.getsid(pid) != os.getsid(0)
    except ProcessLookupError:
        return False


def parent(pid: int) -> int:
    """The parent of process `pid`; 0 if that is gone, or has none."""
    return _stat(pid)[1]


def born(pid: int) -> str:
    """When process `pid` was started, in the kernel's ticks; with this a pid is unambiguous."""
    with suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[19]
    return ""


def describe(pid: int) -> str:
    """`4711 (sleep 1000)`."""
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        command = (
            file.read(MAX_COMMAND * 4).rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        )
        command = "".join(each if each.isprintable() else "?" for each in command)
        if command:
            return f"{pid} ({command[:MAX_COMMAND]})"
    return str(pid)


def _stat(pid: int) -> tuple[str, int]:
    # State and parent; ("X", 0) of a process that is gone.
    with suppress(OSError, ValueError), open(f"/proc/{pid}/stat") as file:
        state, parent = file.read().rpartition(")")[2].split()[:2]
        return state, int(parent)
    return "X", 0
