"""Handlers that return without an answer: which are warned of, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from gworker.connection.unanswered import MAX_WARNINGS, Unanswered, name_of


class Peer:
    """A connection that waits. As many references as a real one has: see `hold`."""

    bytes_written = 0
    awaits_answer = True

    def __init__(self, number: int) -> None:
        self.id = number


class Timer:
    def start(self, step: Any, *arguments: Any) -> None:
        self.ring = lambda: step(*arguments)

    def close(self) -> None:
        self.is_closed = True


class House:
    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.connections: dict[int, Any] = {}
        loop: Any = self
        self.unanswered = Unanswered(loop, self.connections)

    def timer(self, seconds: float) -> Timer:
        self.timers.append(Timer())
        return self.timers[-1]

    def watch(self, handler: object, **attributes: Any) -> Peer:
        number = len(self.connections)
        self.connections[number] = one = Peer(number)
        vars(one).update(attributes)
        self.unanswered.watch(one, handler)  # type: ignore[arg-type]
        return one


def handler() -> None:
    """Does nothing."""


def test_a_handler_that_keeps_nothing_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.watch(handler)
    house.watch(handler)
    assert len(house.timers) == 1, "one exchange of each handler"
    house.timers[0].ring()
    (record,) = caplog.records
    assert record.getMessage().startswith("on_message (handler) has returned without an answer")
    assert house.timers[0].is_closed
    house.watch(handler)
    assert len(house.timers) == 1


@pytest.mark.parametrize("change", ["gone", "written", "answered", "kept"])
def test_a_handler_that_answers_later_is_not(change: str, caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    one = house.watch(handler)
    kept = [one, one, one, one] if change == "kept" else []
    if change == "gone":
        house.connections.clear()
    elif change == "written":
        one.bytes_written = 1
    elif change == "answered":
        one.awaits_answer = False
    del one
    house.timers[0].ring()
    assert not caplog.records
    assert len(kept) in (0, 4)
    house.watch(handler)
    assert len(house.timers) == 2, "the next one may keep nothing"


def test_handlers_without_end_are_not_remembered() -> None:
    house = House()
    for number in range(MAX_WARNINGS):
        house.watch(type(f"Handler{number}", (), {})())
        house.timers[-1].ring()
    house.watch(handler)
    assert len(house.timers) == MAX_WARNINGS


def test_what_has_no_name_has_that_of_its_class() -> None:
    class Callable_:
        def __call__(self) -> None: ...

    assert name_of(handler) == "handler"
    assert name_of(Callable_()).endswith("Callable_")
