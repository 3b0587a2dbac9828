"""The arbiter or the whole machine stood still: what the processes did not do meanwhile is not
their fault."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from world import World, declaration

from gworker.master.standstill import Standstill

MakeWorld = Callable[..., World]
TCP = "tcp://127.0.0.1:0"


@pytest.mark.parametrize("still", [2.0, 4.0, 3600.0])
def test_after_a_standstill_the_processes_get_time_to_wake_up(
    make: MakeWorld, still: float
) -> None:
    """SIGSTOP for the whole group, a frozen container: every beat is old, every deadline has
    passed."""
    world = make(timeout=2.0, boot_timeout=10.0)
    world.start(declaration("a", count=2))
    first, second = world.living()
    world.say(first, event="replace", reason="")
    world.arbiter.wait()
    world.now += still
    world.arbiter.wait()
    world.run()
    assert world.children.signals == []
    world.sleep(5)
    assert world.children.signals == []
    world.ready(*world.booting())
    assert second in world.living()


def test_a_process_that_hangs_through_a_standstill_is_found_after_it(make: MakeWorld) -> None:
    world = make(timeout=2.0)
    world.start(declaration("a"))
    world.hanging = frozenset(world.living())
    world.arbiter.wait()
    world.now += 100
    world.arbiter.wait()
    world.run()
    assert world.children.signals == []
    world.sleep(2)
    assert world.children.signals[0][1] == signal.SIGUSR2


def test_an_overloaded_machine_does_not_hide_one_that_hangs(make: MakeWorld) -> None:
    world = make(timeout=2.0)
    world.start(declaration("a"))
    for _ in range(5):
        world.arbiter.wait()
        world.now += 2.0
        world.arbiter.wait()
        world.run()
    assert world.children.signals[0][1] == signal.SIGUSR2


def test_a_message_during_which_the_machine_stood_still_is_no_reason_to_kill(
    make: MakeWorld,
) -> None:
    world = make(timeout=2.0, boot_timeout=10.0)
    world.start(declaration("a", count=2))

    def stand_still() -> None:
        world.now += 3600

    world.say(world.living()[0], event="replace", reason="")
    world.arbiter.post(stand_still)
    world.run()
    assert world.children.signals == []


def test_only_what_comes_after_the_deadline_is_a_standstill() -> None:
    one = Standstill(100.0)
    assert one.look(200.0, due=199.9) == 0.0, "the arbiter slept: there was nothing to do"
    assert one.look(205.0, due=201.0) == 4.0
    assert one.look(300.0) == 0.0, "not twice in a tick"
    one.rearm()
    assert one.look(310.0) == 10.0
