"""Callbacks: how they are set, replaced and refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gworker.app import worker as declarations
from gworker.app.callbacks import (
    CALLBACKS,
    CONNECTION_CALLBACKS,
    MASTER_CALLBACKS,
    MESSAGE_CALLBACKS,
    WORKER_CALLBACKS,
)
from gworker.app.worker import Worker
from gworker.errors import ConfigError


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    declarations.declared.clear()
    declarations.running.clear()


def function(*_: Any) -> None:
    pass


def get(worker: Worker, name: str) -> Any:
    """The callback as the process will find it."""
    if name == "handler":
        return worker.connection_handler
    if name in WORKER_CALLBACKS + MESSAGE_CALLBACKS + MASTER_CALLBACKS:
        return worker.process_callbacks.get(name)
    return getattr(worker.callbacks, name)


@pytest.mark.parametrize("name", [*CALLBACKS, "handler"])
@pytest.mark.parametrize("how", ["keyword", "decorator", "assignment"])
def test_a_callback_is_set_in_three_ways(name: str, how: str) -> None:
    if how == "keyword":
        worker = Worker("tcp://127.0.0.1:0", **{name: function})
    else:
        worker = Worker("tcp://127.0.0.1:0")
        assert get(worker, name) is None
        if how == "decorator":
            assert getattr(worker, name)(function) is function
        else:
            setattr(worker, name, function)
    assert get(worker, name) is function
    assert [other for other in CALLBACKS if other != name and get(worker, other)] == []


@pytest.mark.parametrize("name", [*CALLBACKS, "handler"])
def test_a_callback_is_removed_and_replaced(name: str) -> None:
    worker = Worker("tcp://127.0.0.1:0", **{name: print})
    setattr(worker, name, function)
    assert get(worker, name) is function
    setattr(worker, name, None)
    assert get(worker, name) is None
    setattr(worker, name, None)


@pytest.mark.parametrize("name", [*CALLBACKS, "handler"])
@pytest.mark.parametrize("value", ["text", 3, object()])
def test_what_cannot_be_called_is_refused(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{name} of .* must be callable"):
        Worker("tcp://127.0.0.1:0", **{name: value})
    with pytest.raises(TypeError, match=f"{name} of .* must be callable"):
        setattr(Worker("tcp://127.0.0.1:0"), name, value)


@pytest.mark.parametrize("names", [("on_message", "handler"), ("handler", "on_message")])
def test_on_message_or_a_handler_but_not_both(names: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="either on_message or a connection handler"):
        Worker("tcp://127.0.0.1:0", **dict.fromkeys(names, function))
    worker = Worker("tcp://127.0.0.1:0")
    setattr(worker, names[0], function)
    with pytest.raises(ConfigError, match="either on_message or a connection handler"):
        setattr(worker, names[1], function)


def test_callbacks_of_one_worker_are_its_own() -> None:
    one, other = Worker("tcp://127.0.0.1:0", on_message=function), Worker("tcp://127.0.0.1:0")
    assert get(other, "on_message") is None
    copy = replace(one.callbacks)
    copy.on_message = None
    assert get(one, "on_message") is function


def test_every_connection_callback_can_be_copied() -> None:
    worker = Worker("tcp://127.0.0.1:0", **dict.fromkeys(CONNECTION_CALLBACKS, function))
    copy = replace(worker.callbacks)
    assert all(getattr(copy, name) is function for name in CONNECTION_CALLBACKS)


def test_a_misspelt_callback_is_refused() -> None:
    worker = Worker()
    with pytest.raises(
        AttributeError, match="'on_mesage' is no callback of a Worker; did you mean on_message?"
    ):
        worker.on_mesage = print
    with pytest.raises(
        AttributeError, match="'on_mesage' is no callback of a Worker; did you mean on_message?"
    ):
        worker.on_mesage(print)
    with pytest.raises(AttributeError, match="a Worker has no attribute 'lisen'"):
        worker.lisen()
