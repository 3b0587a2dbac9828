"""Connections, gathered from the worker processes: which answer, which are waited for, which are
missing."""

from __future__ import annotations

import os
from collections.abc import Callable

from world import World, declaration

from gworker.master.connection_reports import LOOK_SECONDS, MOST_REPORT_SECONDS, REPORT_SECONDS
from gworker.master.slots import Process

MakeWorld = Callable[..., World]
TCP = "tcp://127.0.0.1:0"


def answered(world: World, process: Process) -> None:
    """A process answers with some file."""
    (request,) = world.told(process)
    assert request["do"] == "connections"
    reader, writer = os.pipe()
    world.children.ends[process.pid].send(
        {"event": "connections", "request": request["request"]}, [reader]
    )
    os.close(reader)
    os.close(writer)
    world.run()


def test_connections_are_gathered_from_all_processes(world: World) -> None:
    world.start(declaration("a", count=2), declaration("b"))
    call = world.ask("connections")
    for process in world.living():
        assert call.exit is None
        answered(world, process)
    assert (call.exit, call.extra) == (0, {"missing": []})
    assert [reply["pid"] for reply in call.replies] == [each.pid for each in world.living()]


def test_connections_of_one_worker(world: World) -> None:
    world.start(declaration("a"), declaration("b"))
    world.ask("connections", worker="b")
    assert world.told(world.one("a")) == []
    assert len(world.told(world.one("b"))) == 1
    assert world.ask("connections", worker="c").extra == {
        "error": "there is no Worker 'c'; there are a, b"
    }


def test_a_process_that_does_not_answer_is_named_as_missing(world: World) -> None:
    world.start(declaration("a", count=2))
    stuck, well = world.living()
    world.hanging = frozenset([stuck])
    call = world.ask("connections")
    answered(world, well)
    world.sleep(REPORT_SECONDS + LOOK_SECONDS)
    assert (call.exit, call.extra) == (0, {"missing": [stuck.pid]})
    assert [reply["pid"] for reply in call.replies] == [well.pid]
    world.say(stuck, event="connections", request=1)
    assert stuck in world.living(), "a late answer is no nonsense"


def test_a_process_that_is_at_work_on_its_list_is_waited_for(world: World) -> None:
    world.start(declaration("a", count=2))
    slow, endless = world.living()
    call = world.ask("connections")
    world.sleep(5 * REPORT_SECONDS)
    assert call.exit is None
    answered(world, slow)
    world.sleep(MOST_REPORT_SECONDS)
    assert (call.exit, call.extra) == (0, {"missing": [endless.pid]})


def test_a_process_that_could_not_make_its_list_is_missing(world: World) -> None:
    world.start(declaration("a"))
    call = world.ask("connections")
    world.say(*world.living(), event="connections", request=1)
    assert (call.exit, call.extra) == (0, {"missing": [world.living()[0].pid]})


def test_there_is_no_process_to_ask(world: World) -> None:
    world.begin()
    call = world.ask("connections")
    assert (call.exit, call.extra) == (0, {"missing": []})
