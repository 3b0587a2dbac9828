"""Why a process retires, as its peers and its callbacks are told."""

from __future__ import annotations

import pytest

from gworker.ipc import assignment
from gworker.ipc.assignment import Why


@pytest.mark.parametrize(
    ("why", "code", "drain", "reload"),
    [
        (assignment.STOP, 1001, True, False),
        (assignment.REPLACED, 1012, False, True),
        (assignment.MOVED, 1012, True, True),
        (assignment.REMOVED, 1012, False, False),
        (assignment.REMOVED_WITH_LISTENER, 1012, True, False),
    ],
)
def test_only_what_has_a_successor_comes_back_and_only_the_last_one_drains(
    why: Why, code: int, drain: bool, reload: bool
) -> None:
    assert (why.code, why.drain, why.reload) == (code, drain, reload)
