"""What a process is doing that does not do its work: for the log, and for commands that get no
answer."""

from __future__ import annotations

import contextlib

import psutil

STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)

CONDITIONS = {
    psutil.STATUS_STOPPED: "it is stopped (SIGSTOP, or Ctrl-Z in its terminal); `kill -CONT "
    "{pid}` lets it go on",
    psutil.STATUS_DISK_SLEEP: "it is in uninterruptible sleep in the kernel: a disk or a file "
    "server is slow",
    psutil.STATUS_ZOMBIE: "it has ended, and its parent has not noticed",
    psutil.STATUS_RUNNING: "it is running, and does not get round to answering",
}
"""By what proc(5) says of a process."""


def condition(pid: int) -> str:
    """What process `pid` is doing now."""
    try:
        status = psutil.Process(pid).status()
        tracer = _tracer(pid)
    except (psutil.Error, OSError):
        return "it has ended"
    if status == psutil.STATUS_TRACING_STOP:
        return f"it is stopped by a debugger (pid {tracer})"
    text = CONDITIONS.get(status, f"it is {status}, and does not get round to answering").format(
        pid=pid
    )
    return f"{text}; it is traced by pid {tracer}" if tracer else text


def _tracer(pid: int) -> int:
    """The pid of the debugger of process `pid`, as strace(1) or gdb(1); 0: there is none. Raises
    OSError."""
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["TracerPid"])


def announcement(pid: int, what: str) -> str:
    """The line for the log about process `pid`, of which its stacks are asked now. `what`: "hangs",
    say."""
    status: str = ""
    with contextlib.suppress(psutil.Error, OSError):  # gone by now
        status = psutil.Process(pid).status()
    if status in STOPPED:
        return f"{what}; it is stopped (SIGSTOP, or a debugger) and cannot write its stacks"
    if status == psutil.STATUS_DISK_SLEEP:
        return (
            f"{what}; it is in uninterruptible sleep in the kernel, and writes its stacks "
            "only when that ends"
        )
    return f"{what}; its stacks follow"
