"""What a process that does nothing for us is doing: stopped, traced, busy, asleep, gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from instance import wait_for

from gworker.master import watchdog

TRACED = """
import ctypes, os, signal
PTRACE_TRACEME = 0
assert ctypes.CDLL(None).ptrace(PTRACE_TRACEME, 0, 0, 0) == 0
os.kill(os.getpid(), signal.SIGUSR1)
"""


@contextmanager
def running(code: str) -> Iterator[int]:
    """A Python that runs `code` and can be looked at."""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def wait_for_status(pid: int, status: str) -> None:
    wait_for(lambda: psutil.Process(pid).status() == status, status)


def test_stopped() -> None:
    with running("import signal; signal.pause()") as pid:
        os.kill(pid, signal.SIGSTOP)
        wait_for_status(pid, psutil.STATUS_STOPPED)
        assert watchdog.condition(pid).endswith(f"`kill -CONT {pid}` lets it go on")


def test_traced() -> None:
    """A debugger that has stopped it, as gdb(1) does."""
    with running(TRACED) as pid:
        wait_for_status(pid, psutil.STATUS_TRACING_STOP)
        assert watchdog.condition(pid) == f"it is stopped by a debugger (pid {os.getpid()})"


def test_busy_and_asleep() -> None:
    with running("while True: pass") as pid:
        wait_for_status(pid, psutil.STATUS_RUNNING)
        assert watchdog.condition(pid).startswith("it is running")
    with running("import signal; signal.pause()") as pid:
        wait_for_status(pid, psutil.STATUS_SLEEPING)
        assert watchdog.condition(pid).startswith("it is sleeping")


def test_gone() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert watchdog.condition(process.pid) == "it has ended, and its parent has not noticed"
    assert watchdog.condition(process.pid) == "it has ended"


def test_uninterruptible(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test can bring that about."""
    monkeypatch.setattr(psutil.Process, "status", lambda _: psutil.STATUS_DISK_SLEEP)
    assert watchdog.condition(os.getpid()).startswith("it is in uninterruptible sleep")
