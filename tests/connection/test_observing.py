"""Observers of callbacks: their order, and that what they raise changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from gworker.app.observers import ObservedCall, ObservedRequest
from gworker.connection.observing import Observers, direct


class Pool:
    """Runs jobs when it is told to."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []

    def start_soon(self, job: Any) -> None:
        self.jobs.append(job)


class Named:
    """An observer that writes down what it is told, under its name."""

    def __init__(self, name: str, notes: list[str], error: BaseException | None = None) -> None:
        self._name, self._notes, self._error = name, notes, error

    def _note(self, what: str) -> None:
        self._notes.append(f"{self._name} {what}")
        if self._error is not None:
            raise self._error

    def before_callback(self, call: ObservedCall) -> None:
        self._note(f"before {call.name} {call.arguments}")

    def after_callback(self, call: ObservedCall) -> None:
        self._note(f"after {call.name} {call.error!r}")

    def before_request(self, exchange: ObservedRequest) -> None:
        self._note(f"begin {exchange.request}")

    def after_request(self, exchange: ObservedRequest) -> None:
        self._note(f"end {exchange.request}")


class World:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.reports: list[tuple[Any, ...]] = []
        self.pool: Any = Pool()
        self.observers = Observers(self.pool, lambda *what: self.reports.append(what))


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_one_stands_outermost(world: World) -> None:
    world.observers.use([Named("a", world.notes), Named("b", world.notes)])
    call = world.observers.observed(direct)
    assert call("on_close", lambda connection: connection * 2, 21) == 42
    assert world.notes == [
        "a before on_close (21,)", "b before on_close (21,)",
        "b after on_close None", "a after on_close None",
    ]  # fmt: skip


def test_what_the_callback_raises_passes_and_is_told(world: World) -> None:
    world.observers.use([Named("a", world.notes)])
    with pytest.raises(ZeroDivisionError):
        world.observers.observed(direct)("on_message", lambda _, message: 1 // message, None, 0)
    assert world.notes[-1].startswith("a after on_message ZeroDivisionError(")


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt()])
def test_what_an_observer_raises_is_reported_and_no_more(
    world: World, error: BaseException
) -> None:
    world.observers.use([Named("a", world.notes, error), Named("b", world.notes)])
    assert world.observers.observed(direct)("on_close", lambda _: 7, None) == 7
    assert len(world.notes) == 4
    assert len(world.reports) == 2
    assert world.reports[0][0] == "exception in the observer %r"


def test_a_request_ends_in_a_greenlet_of_its_own(world: World) -> None:
    world.observers.use([Named("a", world.notes), Named("b", world.notes)])
    told = world.observers.begin("a connection", "a request")
    world.observers.end(told)
    assert world.notes == ["a begin a request", "b begin a request"]
    (job,) = world.pool.jobs
    job.run(None)
    assert world.notes[2:] == ["b end a request", "a end a request"]


def test_what_nobody_is_told_of_costs_nothing(world: World) -> None:
    class OnlyCalls:
        def after_callback(self, call: ObservedCall) -> None: ...

    assert not world.observers.of_calls
    world.observers.use([OnlyCalls()])
    assert world.observers.of_calls
    assert not world.observers.of_requests
    world.observers.end(ObservedRequest(None, None))
    assert world.pool.jobs == []


def test_those_that_were_wrapped_tell_later_observers_too(world: World) -> None:
    world.observers.use([Named("a", world.notes)])
    call = world.observers.observed(direct)
    world.observers.use([Named("b", world.notes)])
    call("on_close", lambda _: None, None)
    assert [each[0] for each in world.notes] == ["b", "b"]
