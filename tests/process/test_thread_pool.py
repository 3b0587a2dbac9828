"""`gworker.blocking`, in a process of its own, which is patched."""

from __future__ import annotations

import scenarios

scenarios_of_blocking = scenarios.Scenarios("thread_pool", {})
test_scenario = scenarios_of_blocking.test()


def test_what_the_caller_catches_is_logged_nowhere() -> None:
    assert scenarios_of_blocking.done.stderr == ""
