"""What the arbiter says of a process that has to be killed, before it is: why, and how to learn where it stands."""

from __future__ import annotations

import contextlib

import psutil

STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


def announcement(pid: int, what: str) -> str:
    """The line for the log about process `pid`, of which its stacks are asked now. `what`: "hangs", say."""
    status: str = ""
    with contextlib.suppress(psutil.Error, OSError):  # gone by now
        status = psutil.Process(pid).status()
    if status in STOPPED:
        return f"{what}; it is stopped (SIGSTOP, or a debugger) and cannot write its stacks"
    if status == psutil.STATUS_DISK_SLEEP:
        return f"{what}; it is in uninterruptible sleep in the kernel, and writes its stacks only when that ends"
    return f"{what}; its stacks follow"
