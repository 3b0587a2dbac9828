"""A callback's own limit: what takes one, and what it is set to."""

from __future__ import annotations

from typing import Any

import pytest

import gworker
from gworker import Worker
from gworker.app.handler_timeout import ATTRIBUTE, handler_timeout, has_own_limit


def test_a_function_has_its_own_limit_or_the_default() -> None:
    @handler_timeout(2)
    def limited() -> None: ...

    @handler_timeout(0)
    def free() -> None: ...

    assert gworker.handler_timeout is handler_timeout
    assert [getattr(each, ATTRIBUTE, 5) for each in (limited, free, print)] == [2, 0, 5]
    assert [has_own_limit(each) for each in (limited, free, print, None)] == [
        True, False, False, False,
    ]  # fmt: skip


def test_a_method_has_that_of_its_function() -> None:
    class Handlers:
        @handler_timeout(2)
        def on_message(self, connection: Any, data: Any) -> None: ...

    assert getattr(Handlers().on_message, ATTRIBUTE) == 2


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "5", None, True])
def test_what_is_no_number_of_seconds_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="expected seconds, 0 or more"):
        handler_timeout(bad)


def test_a_class_is_refused() -> None:
    with pytest.raises(TypeError, match="an argument of its Worker"):
        handler_timeout(1)(type("Handler", (), {}))


def test_a_worker_knows_whether_a_callback_has_one() -> None:
    worker = Worker("tcp://127.0.0.1:0")
    worker.on_message = lambda connection, data: None
    assert not worker.has_own_limits
    worker.on_close = handler_timeout(1)(lambda connection: None)
    assert worker.has_own_limits
    assert Worker("tcp://:0", handler=handler_timeout(1)(lambda connection: None)).has_own_limits
