"""The table of the phases of an HTTP connection."""

from __future__ import annotations

import pytest

from gworker.protocols.http.phases import TRANSITIONS, Phase, Step


def test_every_step_is_in_the_table():
    assert set(TRANSITIONS) == set(Step)


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_can_be_reached_and_may_end(phase):
    assert phase in {after for step in TRANSITIONS.values() for after in step.values()}
    assert TRANSITIONS[Step.ENDED][phase] is Phase.OVER


def test_nothing_follows_the_end():
    assert [step for step in Step if Phase.OVER in TRANSITIONS[step]] == [Step.ENDED]
