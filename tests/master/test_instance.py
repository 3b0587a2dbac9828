"""The states of an instance, what it tells, and that no part of it holds it back from its end."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from world import FakeCall, World, declaration

import gworker.master
from gworker.master.instance_view import InstanceState


def test_the_states_of_a_life(world: World) -> None:
    assert world.instance.state is InstanceState.STARTING
    world.start(declaration("a"))
    assert world.instance.state is InstanceState.RUNNING
    world.reload()
    assert world.instance.state is InstanceState.RELOADING
    world.declare(declaration("a"))
    world.finish_reload()
    assert world.instance.state is InstanceState.RUNNING
    world.instance.stop()
    assert world.instance.state is InstanceState.STOPPING
    for process in world.living():
        world.die(process)
    assert world.instance.state is InstanceState.STOPPED


def test_a_view_tells_what_there_is(world: World) -> None:
    world.start(declaration("a", count=2), declaration("b", listen="tcp://127.0.0.1:0"))
    view = world.instance.view()
    assert (view.state, view.fleet.generation, view.is_rolling_out) == ("running", 1, False)
    assert [each.label for each in view.ready()] == ["a#0", "a#1", "b#0"]
    assert [each.label for each in view.ready("a")] == ["a#0", "a#1"]
    assert view.listen_url(("a", 0)) is None
    url = view.listen_url(("b", 0))
    assert url is not None
    assert url.startswith("tcp://127.0.0.1:")
    world.reload()
    view = world.instance.view()
    assert view.is_rolling_out
    assert len(view.counted()) == 4, "the probe is counted"
    world.declare(declaration("a", count=2), declaration("b", listen="tcp://127.0.0.1:0"))
    world.ready(*world.booting())
    assert len(view.serving("a")) == 3, "also one that retires has connections"


def test_scaling_that_waits_is_answered_when_the_instance_stops(world: World) -> None:
    world.start(declaration("a"))
    world.reload()
    call = FakeCall("scale")
    world.instance.scale("a", 3, call)  # type: ignore[arg-type]
    assert call.exit is None
    world.instance.stop()
    assert (call.exit, call.extra) == (1, {"error": "the instance is stopping"})


def test_scaling_that_waits_for_a_start_that_fails_is_answered(world: World) -> None:
    world.begin()
    call = FakeCall("scale")
    world.instance.scale("a", 3, call)  # type: ignore[arg-type]
    world.fail(world.probe)
    assert (call.exit, call.extra) == (1, {"error": "the instance is stopping"})


@pytest.mark.parametrize("name", ["arbiter", "master.instance"])
def test_no_part_of_the_arbiter_knows_it(name: str) -> None:
    """Values come back and messages are posted: only commands are given the instance."""
    users = {
        path.stem
        for path in Path(gworker.master.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == f"gworker.{name}"
    }
    assert users == ({"control_commands"} if name == "master.instance" else set())
