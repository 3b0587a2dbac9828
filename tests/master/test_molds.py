"""The molds in the account of the arbiter: which generation has which, and when another one is
made."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from world import FakeMold, World, declaration

from gworker.ipc.declaration import Declaration
from gworker.master.slots import Process, Role


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, preload=True)
    made.instance.begin()
    made.run()
    yield made
    made.close()


def molds(world: World) -> list[Process]:
    return [each for each in world.children.born if each.role is Role.MOLD]


def serve(world: World, mold: Process) -> FakeMold:
    """From now on it answers."""
    made = FakeMold(world.kernel, mold)
    made.start()
    return made


def declare(world: World, mold: Process, *declarations: Declaration) -> None:
    world.say(mold, event="declared", workers=[asdict(each) for each in declarations])


def workers(world: World) -> list[Process]:
    return [each for each in world.children.by_pid.values() if each.role is Role.WORKER]


def start(world: World) -> tuple[Process, FakeMold]:
    (mold,) = molds(world)
    fake = serve(world, mold)
    declare(world, mold, declaration("a", count=2))
    world.ready(*workers(world))
    return mold, fake


def test_processes_are_forked_by_order(world: World) -> None:
    mold, fake = start(world)
    assert mold.label == "mold"
    assert [(order["worker"], order["id"], order["generation"]) for order in fake.orders] == [
        ("a", 0, 1),
        ("a", 1, 1),
    ]
    assert all(order["is_start"] for order in fake.orders)
    assert len({order["row"] for order in fake.orders}) == 2
    assert len(workers(world)) == 2


def test_a_reload_makes_another_one(world: World) -> None:
    mold, _ = start(world)
    call = world.reload()
    _, second = molds(world)
    assert (second.generation, mold.state.value) == (2, "ready")
    fake = serve(world, second)
    declare(world, second, declaration("a", count=2))
    assert mold.state.value == "ready", "until the new generation is in force"
    for _ in range(2):
        world.ready(*(each for each in workers(world) if each.state.value == "booting"))
        world.hand_over(*(each for each in workers(world) if each.state.value == "retiring"))
    assert call.exit == 0
    assert len(fake.orders) == 2
    assert mold.pid not in world.children.by_pid


def test_one_that_does_not_load_leaves_the_one_before(world: World) -> None:
    mold, fake = start(world)
    call = world.reload()
    world.fail(molds(world)[1])
    assert call.exit == 1
    assert mold.state.value == "ready"
    world.die(workers(world)[0], 9)
    world.sleep(1)
    assert len(fake.orders) == 3
    assert len(molds(world)) == 2


def test_one_that_dies_is_replaced(world: World) -> None:
    """What is needed meanwhile is forked by the arbiter."""
    mold, fake = start(world)
    world.die(mold, 9)
    second = molds(world)[1]
    assert second.generation == 1
    before = len(world.children.born)
    world.die(workers(world)[0], 9)
    world.sleep(1)
    assert len(world.children.born) == before + 1
    assert len(fake.orders) == 2
    declare(world, second, declaration("a", count=2))
    assert second.state.value == "ready"
    assert len(workers(world)) == 2
    more = serve(world, second)
    world.die(workers(world)[0], 9)
    world.sleep(1)
    assert len(more.orders) == 1


def test_one_that_fails_again_and_again_is_tried_later_each_time(world: World) -> None:
    mold, _ = start(world)
    world.die(mold, 9)
    for _ in range(4):
        world.fail(molds(world)[-1])
    count = len(molds(world))
    world.run()
    assert len(molds(world)) == count, "not at once"
    world.sleep(3)
    assert len(molds(world)) == count + 1
    assert len(workers(world)) == 2, "no process is disturbed"


def test_what_the_system_refuses_is_tried_again(world: World) -> None:
    _, fake = start(world)
    fake.error = errno.ENOMEM
    world.die(workers(world)[0], 9)
    world.sleep(1)
    assert len(workers(world)) == 1
    assert "Cannot allocate memory" in world.fleet.slots["a", 0].reason
    fake.error = 0
    world.sleep(5)
    assert len(workers(world)) == 2


def test_a_stop_ends_it(world: World) -> None:
    mold, _ = start(world)
    world.instance.stop(quick=True)
    for process in workers(world):
        world.children.end(process, 0)
    world.run()
    assert mold.pid not in world.children.by_pid
    assert len(molds(world)) == 1


def test_without_it_the_probe_ends(tmp_path: Path) -> None:
    made = World(tmp_path)
    made.start(declaration("a"))
    assert molds(made) == []
    made.close()
