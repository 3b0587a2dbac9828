"""The living processes that a process has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from gworker.system import child_processes


@pytest.fixture
def family() -> Iterator[subprocess.Popen[str]]:
    """A process with a child that has a child, and one that is dead and not reaped."""
    source = (
        "import os, sys, time\n"
        "if os.fork() == 0: os._exit(0)\n"
        "if os.fork() == 0:\n"
        "    os.fork()\n"
        "    time.sleep(60)\n"
        "print('begun', flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", source]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        yield parent
        os.killpg(parent.pid, signal.SIGKILL)


def within(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_children_and_descendants(family: subprocess.Popen[str]) -> None:
    within(
        lambda: (
            len(child_processes.children(family.pid)) == 1
            and len(child_processes.descendants(family.pid)) == 2
        )
    )
    (child,) = child_processes.children(family.pid)
    seen = psutil.Process(family.pid).children(recursive=True)
    dead = {each.pid for each in seen if each.status() == psutil.STATUS_ZOMBIE}
    assert len(dead) == 1
    assert child_processes.descendants(family.pid) == {each.pid for each in seen} - dead
    assert child_processes.children(family.pid, {child}) == set()
    assert child_processes.parent(child) == family.pid
    assert child_processes.children(os.getpid()) >= {family.pid}
    assert child_processes.has_left(family.pid)
    assert not child_processes.has_left(os.getpid())
    assert child_processes.describe(family.pid).startswith(
        f"{family.pid} ({sys.executable} -c import os"
    )
    assert "\n" not in child_processes.describe(family.pid)


def test_without_the_file_that_lists_children(
    family: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    within(
        lambda: (
            len(child_processes.children(family.pid)) == 1
            and len(child_processes.descendants(family.pid)) == 2
        )
    )
    known = child_processes.descendants(family.pid)

    def fail(path: str) -> list[str]:
        raise FileNotFoundError(path)

    listed = os.listdir
    monkeypatch.setattr(
        os, "listdir", lambda path: fail(path) if path.endswith("/task") else listed(path)
    )
    assert child_processes.descendants(family.pid) == known


def test_what_is_gone(family: subprocess.Popen[str]) -> None:
    gone = 4_194_305  # above the largest that Linux gives
    assert child_processes.children(gone) == set()
    assert child_processes.parent(gone) == 0
    assert child_processes.born(gone) == ""
    assert child_processes.describe(gone) == str(gone)
    assert not child_processes.has_left(gone)
    assert (
        child_processes.born(family.pid)
        == child_processes.born(family.pid)
        != child_processes.born(os.getpid())
    )
