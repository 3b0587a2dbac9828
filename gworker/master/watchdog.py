"""How long processes may take, and what happens to those that take longer: stacks, then SIGKILL.

A process carries its deadline. Processes that missed it while the arbiter stood still may have
stood still as well: they get that much more time. `condition` and `announcement` tell what a
process is doing that does not do its work.
"""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterable

import psutil

from gworker.ipc import boot_stage, heartbeat
from gworker.master.children import KILL_MARGIN, Children
from gworker.master.slots import Process, Role, State

log = logging.getLogger("gworker")

BEAT_SECONDS = 2 * heartbeat.SECONDS  # the age of the last beat of a process that is well
BUSY_SECONDS = 2.5  # an event loop whose last beat is older than that does not turn

# A turn that is later than the first is a standstill; the second is for the log.
STANDSTILL_SECONDS, NOTABLE_SECONDS = 0.5, 3.0

DUMP_SECONDS = 1.0  # how long a process that is to be killed may take to write its stacks

# SIGUSR2 means nothing to them, or ends them: they are killed at once.
WITHOUT_STACKS = (Role.CALLBACKS, Role.TRIAL)

# What the log says of the stacks of a process that cannot write them now.
STOPPED = "it is stopped (SIGSTOP, or a debugger) and cannot write its stacks"
WITHOUT_ANSWER = {
    psutil.STATUS_STOPPED: STOPPED,
    psutil.STATUS_TRACING_STOP: STOPPED,
    psutil.STATUS_DISK_SLEEP: "it is in uninterruptible sleep in the kernel, and writes its stacks "
    "only when that ends",
}

# By what proc(5) says of a process.
CONDITIONS = {
    psutil.STATUS_STOPPED: "it is stopped (SIGSTOP, or Ctrl-Z in its terminal); `kill -CONT "
    "{pid}` lets it go on",
    psutil.STATUS_DISK_SLEEP: "it is in uninterruptible sleep in the kernel: a disk or a file "
    "server is slow",
    psutil.STATUS_ZOMBIE: "it has ended, and its parent has not noticed",
    psutil.STATUS_RUNNING: "it is running, and does not get round to answering",
}


def _lateness(process: Process) -> str:
    settings = process.settings
    if process.role is Role.CALLBACKS:
        return f"not done within {(process.deadline or 0.0) - process.started:.1f} s"
    if process.state is State.BOOTING and process.role is Role.BROKER:
        return f"not ready within {settings.boot_timeout:g} s"
    if process.state is State.BOOTING:
        seconds = settings.boot_timeout
        return boot_stage.lateness(
            process.step, settings.target, process.worker, seconds, process.line
        )
    if process.state is State.READY:
        return f"its event loop did not turn for {settings.timeout:g} s"
    return f"did not leave within {process.grace:g} s"


def enforce_deadlines(children: Children, now: float) -> None:
    """Ask the overdue processes for their stacks; kill those that had the time to write them."""
    for process in children.by_pid.values():
        if process.deadline is None or process.deadline > now:
            continue
        why = _lateness(process)
        is_last = process.stacks_requested or process.state is State.KILLED
        if is_last or process.role in WITHOUT_STACKS:
            children.kill(process, why, KILL_MARGIN)
        else:
            _request_stacks(children, process, now, why)


def check_beats(children: Children, now: float) -> None:
    """Ask the processes that serve and hang for longer than `--timeout` for their stacks;
    `enforce_deadlines` kills them afterwards."""
    for process in children.by_pid.values():
        if process.state is not State.READY or process.stacks_requested:
            continue
        timeout = process.settings.timeout
        if timeout and process.beat_age(now) > timeout + BEAT_SECONDS:
            _request_stacks(children, process, now, "hangs")


def _request_stacks(children: Children, process: Process, now: float, why: str) -> None:
    log.error("%s (pid %d) %s", process.label, process.pid, announcement(process.pid, why))
    process.stacks_requested = True
    process.deadline = now + DUMP_SECONDS
    children.signal(process, signal.SIGUSR2)


def postpone(processes: Iterable[Process], seconds: float) -> None:
    """Give every process that much more time: the arbiter itself, and perhaps all of them, stood
    still."""
    for process in processes:
        if process.deadline is not None:
            process.deadline += seconds


class Standstill:
    """Standstills of the arbiter: SIGSTOP, a frozen container, a suspended machine. They show by
    how late the arbiter looks at the clock. `now`: monotonic."""

    def __init__(self, now: float) -> None:
        self._last_look = now
        self._is_excused = False

    def look(self, now: float, due: float = 0.0) -> float:
        """The seconds of a standstill, or 0. due: until when the arbiter had nothing to do."""
        late = now - max(due, self._last_look)
        self._last_look = now
        if late <= STANDSTILL_SECONDS or self._is_excused:
            return 0.0
        self._is_excused = True
        if late > NOTABLE_SECONDS:
            log.warning(
                "the arbiter stood still for %.1f s; its processes get that much more time", late
            )
        return late

    def rearm(self) -> None:
        # Find the next one, too. Once a tick: an overloaded machine would have no ticks.
        self._is_excused = False


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
    # The pid of the debugger of process `pid`, as strace(1) or gdb(1); 0: there is none. Raises
    # OSError.
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["TracerPid"])


def announcement(pid: int, what: str) -> str:
    """The line for the log about process `pid`, which is asked for its stacks now. what: "hangs",
    say."""
    stacks = "its stacks follow"
    with contextlib.suppress(psutil.Error, OSError):  # it has ended
        stacks = WITHOUT_ANSWER.get(psutil.Process(pid).status(), stacks)
    return f"{what}; {stacks}"
