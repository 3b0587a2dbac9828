"""What the commands ask, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from world import World, declaration

MakeWorld = Callable[..., World]
TCP = "tcp://127.0.0.1:0"


def test_an_unknown_command(world: World) -> None:
    world.start(declaration("a"))
    call = world.ask("dance")
    assert (call.exit, call.extra) == (1, {"error": "unknown command 'dance'"})


def test_a_fault_of_ours_in_a_command_does_not_end_the_service(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.start(declaration("a"))
    monkeypatch.setattr(world.instance, "status", partial(getattr, None, "report"))
    call = world.ask("status")
    assert call.exit == 1
    assert "AttributeError" in call.extra["error"]
    assert "Traceback" in caplog.text
    assert world.serving() == {"a#0": 1}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"worker": "x", "count": 2}, "there is no Worker 'x'; there are a"),
        ({"worker": "a", "count": 0}, "a: 0 processes; expected 1 to 1024"),
        ({"worker": "a"}, "scale: expected a Worker's name and a number"),
        ({"worker": ["a"], "count": 1}, "scale: worker=['a'] is not a Worker's name"),
        ({"worker": "a", "count": True}, "scale: count=True is not a whole number"),
        ({"worker": "a", "count": 2.0}, "scale: count=2.0 is not a whole number"),
        ({"worker": "a", "count": "2"}, "scale: count='2' is not a whole number"),
    ],
)
def test_what_cannot_be_scaled(world: World, arguments: dict[str, Any], error: str) -> None:
    world.start(declaration("a"))
    call = world.ask("scale", **arguments)
    assert (call.exit, call.extra) == (1, {"error": error})
    assert world.serving() == {"a#0": 1}


@pytest.mark.parametrize(
    ("command", "arguments", "error"),
    [
        ("stop", {"quick": 1}, "stop: quick=1 is not true or false"),
        ("stop", {"quickly": True}, "stop: unknown argument 'quickly'; there are quick"),
        ("reload", {"wait": "no"}, "reload: wait='no' is not true or false"),
        ("health", {"worker": 5}, "health: worker=5 is not a Worker's name"),
        ("connections", {"worker": {}}, "connections: worker={} is not a Worker's name"),
        ("connections", {"limit": True}, "connections: limit=True is not a whole number"),
        ("status", {"worker": "a"}, "status: unknown argument 'worker'; there are none"),
    ],
)
def test_arguments_of_commands_have_their_types(
    world: World, command: str, arguments: dict[str, Any], error: str
) -> None:
    world.start(declaration("a"))
    call = world.ask(command, **arguments)
    assert (call.exit, call.extra) == (1, {"error": error})
    assert world.instance.state == "running"
    assert world.serving() == {"a#0": 1}


def test_who_and_stop(world: World) -> None:
    world.start(declaration("a"))
    who = world.ask("who").replies[0]["who"]
    assert (who["name"], who["target"], who["workers"], who["generation"]) == ("test", "app", 1, 1)
    stop = world.ask("stop")
    assert stop.replies[0] == {"timeout": 30.0}
    assert stop.exit is None, "its end is the end of the connection"
    assert world.instance.state == "stopping"
