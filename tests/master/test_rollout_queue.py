"""What waits for a rollout: counts, reloads, and in which order."""

from __future__ import annotations

import signal
from collections.abc import Callable

from world import FakeCall, World, declaration

from gworker.master import control_commands

MakeWorld = Callable[..., World]
TCP = "tcp://127.0.0.1:0"


def test_no_reload_follows_a_start_that_failed(world: World) -> None:
    world.begin()
    call = world.reload()
    world.fail(world.probe)
    assert call.exit == 1
    assert world.instance.state == "stopped"


def test_what_was_scaled_holds_over_a_reload(world: World) -> None:
    world.start(declaration("a", count=2))
    world.instance.scale("a", 4)
    world.run()
    world.ready(*world.booting())
    world.reload()
    world.declare(declaration("a", count=2))
    world.finish_reload()
    assert sorted(world.serving()) == ["a#0", "a#1", "a#2", "a#3"]


def test_the_code_has_the_last_word_once_it_changes(world: World) -> None:
    world.start(declaration("a", count=2))
    world.instance.scale("a", 4)
    world.run()
    world.ready(*world.booting())
    for expected in (1, 1):
        world.reload()
        world.declare(declaration("a", count=expected))
        world.finish_reload()
        assert sorted(world.serving()) == ["a#0"]
    assert world.fleet.plan.asked == {}


def test_scaling_waits_for_the_end_of_a_reload(world: World) -> None:
    world.start(declaration("a"))
    world.reload()
    scaled = FakeCall("scale", worker="a", count=3)
    control_commands.answer(world.instance, scaled)  # type: ignore[arg-type]
    world.run()
    assert scaled.exit is None
    world.declare(declaration("a"))
    world.finish_reload()
    assert scaled.exit == 0
    assert sorted(world.serving()) == ["a#0", "a#1", "a#2"]


def test_scaling_during_a_reload_that_another_follows_is_not_lost(world: World) -> None:
    world.start(declaration("a"))
    world.reload()
    scaled = FakeCall("scale", worker="a", count=2)
    control_commands.answer(world.instance, scaled)  # type: ignore[arg-type]
    world.reload()
    world.declare(declaration("a"))
    world.finish_reload()
    world.declare(declaration("a"))
    world.finish_reload()
    assert scaled.exit == 0
    assert sorted(world.serving()) == ["a#0", "a#1"]


def test_a_storm_of_hups_is_one_reload_and_one_more(world: World) -> None:
    world.start(declaration("a"))
    for _ in range(50):
        world.signal(signal.SIGHUP)
    for _ in range(2):
        world.declare(declaration("a"))
        world.finish_reload()
    assert world.instance.state == "running"
    assert world.serving() == {"a#0": 3}


def test_signals_at_the_start_wait_for_its_end(world: World) -> None:
    world.begin()
    world.signal(signal.SIGTTIN)
    world.declare(declaration("a"))
    world.ready(*world.booting())
    world.ready(*world.booting())
    assert sorted(world.serving()) == ["a#0", "a#1"]
