"""What the arbiter does with the processes that its own have started and left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from world import World, declaration

from gworker.system import child_processes

STRAY, OTHER = 900_001, 900_002
"""Pids that nobody has."""

KILLED = 9
"""The wait status of a process that SIGKILL has ended."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    one = World(tmp_path)
    one.start(declaration("a", count=2))
    yield one
    one.close()


def test_sigterm_and_a_second_later_sigkill(world: World) -> None:
    world.kernel.strays.add(STRAY)
    world.die(world.living()[0], KILLED)
    assert world.kernel.sent == [(STRAY, signal.SIGTERM)]
    world.sleep(0.5)
    assert len(world.kernel.sent) == 1
    world.sleep(1)
    assert world.kernel.sent == [(STRAY, signal.SIGTERM), (STRAY, signal.SIGKILL)]
    assert not world.fleet.orphans


@pytest.mark.parametrize(("status", "told"), [(KILLED, True), (0, False)], ids=["killed", "left"])
def test_what_is_told_of_them(
    world: World, caplog: pytest.LogCaptureFixture, status: int, told: bool
) -> None:
    """What has left by itself leaves helpers of multiprocessing, which are about to end: no word of
    them."""
    caplog.set_level("INFO", "gworker")
    world.kernel.strays.add(STRAY)
    world.die(world.living()[0], status)
    assert ("is ended" in caplog.text) is told
    world.sleep(1.5)
    assert f"{STRAY} has not ended by SIGTERM: it is killed" in caplog.text


def test_who_ends_in_time_is_not_killed_and_its_children_come_next(world: World) -> None:
    world.kernel.strays.add(STRAY)
    world.die(world.living()[0], KILLED)
    world.kernel.strays.clear()
    world.kernel.strays.add(OTHER)
    world.sleep(3)
    assert world.kernel.sent == [
        (STRAY, signal.SIGTERM),
        (OTHER, signal.SIGTERM),
        (OTHER, signal.SIGKILL),
    ]


def test_who_was_there_before_is_let_be(world: World) -> None:
    world.kernel.strays.add(STRAY)
    world.sleep(2)
    world.kernel.strays.add(OTHER)
    world.die(world.living()[0], KILLED)
    assert world.kernel.sent == [(OTHER, signal.SIGTERM)]


def test_a_number_that_is_used_again_is_another_process(world: World) -> None:
    world.kernel.strays.add(STRAY)
    world.sleep(2)
    world.kernel.strays.clear()
    world.sleep(2)
    world.kernel.strays.add(STRAY)
    world.die(world.living()[0], KILLED)
    assert world.kernel.sent == [(STRAY, signal.SIGTERM)]


def test_a_session_of_its_own_outlives_who_leaves_and_not_who_is_killed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_processes, "has_left", lambda pid: pid == STRAY)
    world.kernel.strays |= {STRAY, OTHER}
    world.die(world.living()[0], 0)
    assert world.kernel.sent == [(OTHER, signal.SIGTERM)]
    world.sleep(3)
    world.kernel.strays.clear()
    world.sleep(1)
    world.kernel.sent.clear()
    world.kernel.strays.add(STRAY)
    world.die(world.living()[0], KILLED)
    assert world.kernel.sent == [(STRAY, signal.SIGTERM)]


def test_the_instance_waits_for_them_but_not_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.kernel.deathless.add(STRAY)
    world.kernel.strays.add(STRAY)
    world.die(world.living()[0], KILLED)
    world.signal(signal.SIGTERM)
    for process in world.living():
        world.die(process)
    assert world.instance.state == "stopping"
    assert world.fleet.has_helpers
    world.sleep(10)
    assert world.instance.state == "stopped", "it is in the kernel's hands"
    assert world.kernel.sent.count((STRAY, signal.SIGKILL)) == 5


# ---- offspring


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
    assert child_processes.told(family.pid).startswith(
        f"{family.pid} ({sys.executable} -c import os"
    )
    assert "\n" not in child_processes.told(family.pid)


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
    assert child_processes.told(gone) == str(gone)
    assert not child_processes.has_left(gone)
    assert (
        child_processes.born(family.pid)
        == child_processes.born(family.pid)
        != child_processes.born(os.getpid())
    )
