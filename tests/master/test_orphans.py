"""What processes that ended have left running, and how it is ended."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import World, declaration

from gworker.system import child_processes

STRAY, OTHER = 900_001, 900_002
"""Pids that no process has."""


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


def test_one_that_ends_in_time_is_not_killed_and_its_children_come_next(world: World) -> None:
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


def test_one_that_was_there_before_is_let_be(world: World) -> None:
    world.kernel.strays.add(STRAY)
    world.sleep(2)
    world.kernel.strays.add(OTHER)
    world.die(world.living()[0], KILLED)
    assert world.kernel.sent == [(OTHER, signal.SIGTERM)]


def test_without_descriptors_the_arbiter_goes_on_and_looks_later(world: World) -> None:
    before = world.kernel.strays
    before.add(OTHER)
    world.sleep(2)
    world.kernel.has_descriptors = False
    before.add(STRAY)
    world.die(world.living()[0], KILLED)
    world.sleep(3)
    assert world.kernel.sent == []
    assert world.fleet.orphans.next_deadline() > world.now, "it does not spin"
    world.kernel.has_descriptors = True
    world.sleep(3)
    assert world.kernel.sent == [(STRAY, signal.SIGTERM), (STRAY, signal.SIGKILL)]


def test_a_number_that_is_used_again_is_another_process(world: World) -> None:
    world.kernel.strays.add(STRAY)
    world.sleep(2)
    world.kernel.strays.clear()
    world.sleep(2)
    world.kernel.strays.add(STRAY)
    world.die(world.living()[0], KILLED)
    assert world.kernel.sent == [(STRAY, signal.SIGTERM)]


def test_a_session_of_its_own_outlives_a_process_that_leaves_and_not_a_killed_one(
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
