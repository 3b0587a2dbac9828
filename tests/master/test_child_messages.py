"""What children say, and what follows."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict

import pytest
from world import World, declaration

MakeWorld = Callable[..., World]
TCP = "tcp://127.0.0.1:0"


def test_a_worker_process_cannot_declare(world: World) -> None:
    world.start(declaration("a"))
    world.reload()
    world.say(*world.living(), event="declared", workers=[asdict(declaration("evil"))])
    world.declare(declaration("a"))
    world.finish_reload()
    assert world.serving() == {"a#0": 2}


@pytest.mark.parametrize("workers", [[3], [{}], [{"name": "a"}], [{"name": "a", "surprise": 1}]])
def test_a_probe_that_declares_nonsense_is_a_refused_reload(
    world: World, workers: list[object]
) -> None:
    world.start(declaration("a"))
    call = world.reload()
    world.say(world.probe, event="declared", workers=workers)
    assert call.exit == 1
    assert world.serving() == {"a#0": 1}


def test_an_answer_that_none_waits_for_leaks_no_descriptor(world: World) -> None:
    world.start(declaration("a"))
    (process,) = world.living()
    before = len(os.listdir("/proc/self/fd"))
    for event in ({"event": "connections", "request": 77}, {"event": "replace", "reason": ""}):
        world.children.ends[process.pid].send(event, [0, 1, 2])
    world.run()
    world.ready(*world.booting())
    world.die(process)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_process_that_asks_to_be_replaced_gets_a_successor_first(world: World) -> None:
    world.start(declaration("a"))
    (old,) = world.living()
    world.say(old, event="replace", reason="")
    (new,) = world.booting()
    assert world.told(old) == []
    world.ready(new)
    assert world.told(old)[0]["do"] == "retire"
    world.die(old)
    assert world.serving() == {"a#0": 1}
    assert list(world.fleet.exits) == []


def test_a_successor_that_cannot_start_is_tried_again_and_the_old_one_goes_on(world: World) -> None:
    world.start(declaration("a"))
    (old,) = world.living()
    world.say(old, event="replace", reason="")
    for _ in range(3):
        world.fail(*world.booting())
        assert [word["do"] for word in world.told(old)] == ["serve_on"]
        world.sleep(5)
    world.ready(*world.booting())
    assert world.told(old)[0]["do"] == "retire"
