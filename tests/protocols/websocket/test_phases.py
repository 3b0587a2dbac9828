"""The table of the phases of a WebSocket."""

from __future__ import annotations

from gworker.protocols.websocket.phases import TRANSITIONS, Phase, Step


def test_every_step_is_in_the_table():
    assert set(TRANSITIONS) == set(Step)


def test_reading_can_end_in_every_phase_and_only_an_open_one_may_still_answer():
    ends = TRANSITIONS[Step.DEAF]
    assert set(ends) == set(Phase)
    assert [phase for phase, after in ends.items() if after is not Phase.OVER] == [Phase.OPEN]
    assert ends[Phase.OPEN] is Phase.ENDED


def test_a_close_frame_is_sent_once():
    after = {TRANSITIONS[Step.CLOSED][phase] for phase in TRANSITIONS[Step.CLOSED]}
    assert after == {Phase.CLOSING, Phase.OVER}
    assert not after & set(TRANSITIONS[Step.CLOSED])


def test_nothing_opens_twice():
    assert Phase.OPEN not in TRANSITIONS[Step.AGREED]
    assert Phase.OVER not in TRANSITIONS[Step.AGREED]
