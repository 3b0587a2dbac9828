"""The deadlines of callbacks: one timer for all that run, and the exception in their greenlets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import get_hub

from gworker.app.handler_timeout import handler_timeout
from gworker.connection import handler_deadlines
from gworker.connection.handler_deadlines import HandlerDeadlines
from gworker.errors import HandlerTimeout
from gworker.ipc.scoreboard import Column, Scoreboard

LIMIT = 0.05


class World:
    def __init__(self) -> None:
        board = Scoreboard(1)
        self.row = board.row(board.take())
        hub = get_hub()
        self.timers = 0
        self.deadlines = HandlerDeadlines(self, hub, LIMIT, self.row)  # type: ignore[arg-type]
        self._loop = hub.loop

    def timer(self, after: float) -> Any:
        """A timer of the loop; it is counted."""
        self.timers += 1
        return self._loop.timer(after)

    def spawn(self, callback: Callable[..., object]) -> gevent.Greenlet:
        """Call it as `on_message` of a connection, in a greenlet; its value is what it raises."""

        def run() -> object:
            try:
                return self.deadlines.call("on_message", callback, "a connection")
            except BaseException as error:
                return error

        return gevent.spawn(run)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.deadlines.stop()


def sleep(_: object) -> None:
    gevent.sleep(5)


def test_one_that_waits_is_ended_counted_and_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        error = world.spawn(sleep).get(timeout=5)
    assert isinstance(error, HandlerTimeout)
    assert not isinstance(error, Exception)
    assert error.seconds == LIMIT
    assert world.row[Column.EXCEPTIONS] == 1
    assert "'a connection': on_message has run for 0.05 s (handler_timeout)" in caplog.text
    assert "in sleep" in caplog.text


def test_thousands_that_are_quick_have_one_timer(world: World) -> None:
    began = time.monotonic()
    for _ in range(1000):
        assert world.spawn(lambda _: 7).get(timeout=5) == 7
    assert world.timers <= (time.monotonic() - began) / LIMIT + 1
    gevent.sleep(LIMIT * 3)
    before = world.timers
    gevent.sleep(LIMIT * 3)
    assert world.timers == before, "it ticks while nothing runs"


def test_many_that_are_late_at_once_are_all_ended(world: World) -> None:
    many = [world.spawn(sleep) for _ in range(handler_deadlines.BATCH * 3)]
    assert all(isinstance(each.get(timeout=5), HandlerTimeout) for each in many)


def test_one_with_a_shorter_limit_than_those_before_it_is_ended_first(world: World) -> None:
    slow = world.spawn(handler_timeout(3)(lambda _: gevent.sleep(5)))
    gevent.sleep(0)
    assert isinstance(world.spawn(sleep).get(timeout=2), HandlerTimeout)
    assert not slow.ready()
    slow.kill()


def test_one_that_is_called_within_another_has_the_time_of_that(world: World) -> None:
    def outer(_: object) -> None:
        world.deadlines.call("on_close", handler_timeout(60)(sleep), "a connection")

    assert isinstance(world.spawn(outer).get(timeout=5), HandlerTimeout)


def test_what_waits_for_its_peer_is_not_counted(world: World) -> None:
    def waits(_: object) -> str:
        paused = world.deadlines.pause()
        gevent.sleep(LIMIT * 3)
        world.deadlines.resume(paused)
        gevent.sleep(LIMIT / 2)
        return "done"

    assert world.spawn(waits).get(timeout=5) == "done"


def test_it_counts_again_after_that(world: World) -> None:
    def waits(_: object) -> None:
        paused = world.deadlines.pause()
        gevent.sleep(LIMIT * 3)
        world.deadlines.resume(paused)
        gevent.sleep(5)

    assert isinstance(world.spawn(waits).get(timeout=5), HandlerTimeout)


def test_outside_a_callback_there_is_nothing_to_pause(world: World) -> None:
    assert world.deadlines.pause() is None
    world.deadlines.resume(None)


def test_one_that_catches_it_has_as_much_time_again(world: World) -> None:
    def stubborn(_: object) -> str:
        for _ in range(3):
            with pytest.raises(HandlerTimeout):
                gevent.sleep(5)
        return "done"

    assert world.spawn(stubborn).get(timeout=5) == "done"
    assert world.row[Column.EXCEPTIONS] == 3


def test_what_has_no_limit_is_left_alone(world: World) -> None:
    free = world.spawn(handler_timeout(0)(lambda _: gevent.sleep(LIMIT * 3)))
    assert free.get(timeout=5) is None


def test_the_hub_itself_is_never_ended(world: World) -> None:
    found: list[object] = []
    get_hub().loop.run_callback(
        lambda: found.append(world.deadlines.call("on_error", lambda _: "called", None))
    )
    gevent.sleep(LIMIT * 2)
    assert found == ["called"]
