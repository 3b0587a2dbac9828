"""What the author of a target is shown of an error: the frames of the target."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gworker.app.worker import Worker, declared
from gworker.errors import ConfigError
from gworker.system import address, tracebacks
from gworker.system.tracebacks import from_target_on, of_target

HEADLINE = "Traceback (most recent call last):\n"


def caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def bad_address() -> None:
    Worker("tcp:/x")


def chained() -> None:
    try:
        bad_address()
    except ConfigError as error:
        raise RuntimeError("no server") from error


def grouped() -> None:
    raise ExceptionGroup("several", [caught(bad_address), ValueError("no")])  # type: ignore[list-item]


@pytest.mark.parametrize("target", [bad_address, chained, grouped])
def test_no_frame_of_gworker_is_shown(target: Callable[[], None]) -> None:
    text = of_target(caught(target))
    assert HEADLINE in text or "Exception Group Traceback" in text
    assert 'Worker("tcp:/x")' in text
    assert tracebacks.GWORKER not in text
    assert "expected SCHEME://" in text
    declared.clear()


def test_an_error_of_ours_without_a_frame_of_the_target_needs_none() -> None:
    error = caught(lambda: address.parse("tcp:/x", None))
    error.__traceback__ = error.__traceback__.tb_next.tb_next  # type: ignore[union-attr]
    assert of_target(error) == ""


def test_a_fault_of_gworker_is_shown_whole() -> None:
    error = caught(lambda: address.parse(None, None))  # type: ignore[arg-type]
    error.__traceback__ = error.__traceback__.tb_next.tb_next  # type: ignore[union-attr]
    text = of_target(error)
    assert text.startswith(HEADLINE)
    assert tracebacks.GWORKER in text


def test_a_syntax_error_is_its_own_place() -> None:
    text = of_target(caught(lambda: compile("def f(:", "app.py", "exec")).with_traceback(None))
    assert text.startswith('  File "app.py", line 1\n')


def test_a_log_begins_with_the_targets_first_frame() -> None:
    """What gworker has done for it comes below: that may be a fault of gworker."""
    names: dict[str, Callable[[Callable[[], None]], None]] = {}
    exec(compile("def call(function): function()", f"{tracebacks.GWORKER}caller.py", "exec"), names)
    called = caught(lambda: names["call"](bad_address)).__traceback__
    frames = called.tb_next.tb_next  # type: ignore[union-attr]
    assert frames is not None
    assert frames.tb_frame.f_code.co_name == "call"
    found = from_target_on(frames)
    assert found is not None
    assert found.tb_frame.f_code is bad_address.__code__
    assert found.tb_next is not None
    assert from_target_on(found.tb_next) is found.tb_next, "all of it, if nothing is the target's"
    assert from_target_on(None) is None
    declared.clear()
