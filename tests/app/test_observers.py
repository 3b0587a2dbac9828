"""Which objects may be observers, and whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gworker import Worker
from gworker.app import observers
from gworker.app.observers import ObservedCall, ObservedRequest


class Whole:
    def before_callback(self, call: ObservedCall) -> None: ...


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    observers.of_all.clear()


def test_one_worker_or_all_are_observed() -> None:
    worker, one, all_of_them = Worker("tcp://127.0.0.1:0"), Whole(), Whole()
    assert worker.observe(one) is one
    assert Worker.observe(all_of_them) is all_of_them
    assert worker.observers == [one]
    assert observers.of_all == [all_of_them]


@pytest.mark.parametrize("bad", [object(), print, None, type("Call", (), {"after": print})()])
def test_what_can_be_told_nothing_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="at least one of before_callback, after_callback"):
        Worker.observe(bad)


def test_a_class_is_refused() -> None:
    with pytest.raises(TypeError, match=r"observe\(Whole\): expected an instance"):
        Worker.observe(Whole)


def test_a_call_knows_its_connection() -> None:
    assert ObservedCall("on_message", ("a connection", "data")).connection == "a connection"
    assert ObservedCall("handler", ("a connection",)).connection == "a connection"
    assert ObservedCall("on_worker_start", ("a worker",)).connection is None
    assert repr(ObservedCall("handler", (7,))) == "<ObservedCall handler 7>"


def test_attributes_of_ones_own_may_be_set() -> None:
    call: Any = ObservedCall("handler", (7,))
    exchange: Any = ObservedRequest(7, "a request")
    call.span = exchange.span = "s"
    assert (call.error, exchange.status, exchange.aborted) == (None, 0, False)
    assert repr(exchange) == "<ObservedRequest 'a request' 0>"


def test_observe_is_gworkers_own() -> None:
    worker: Any = Worker("tcp://127.0.0.1:0")
    with pytest.raises(AttributeError, match="observe of a Worker cannot be set"):
        worker.observe = Whole()
