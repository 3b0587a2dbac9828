"""The order of addresses and the times of attempts: a plan without sockets."""

from __future__ import annotations

import pytest

from gworker.client.happy_eyeballs import STAGGER, Race, interleave

FOUR, SIX = 2, 10


def test_families_take_turns_and_the_resolver_says_which_is_first() -> None:
    found = [(SIX, "a"), (SIX, "b"), (SIX, "c"), (FOUR, "x"), (FOUR, "y")]
    assert interleave(found) == [(SIX, "a"), (FOUR, "x"), (SIX, "b"), (FOUR, "y"), (SIX, "c")]
    assert interleave(found[::-1]) == [(FOUR, "y"), (SIX, "c"), (FOUR, "x"), (SIX, "b"), (SIX, "a")]


def test_one_family_keeps_its_order() -> None:
    assert interleave([(FOUR, "x"), (FOUR, "y")]) == [(FOUR, "x"), (FOUR, "y")]
    assert interleave([]) == []


def test_what_is_told_twice_is_tried_once() -> None:
    assert interleave([(FOUR, "x"), (FOUR, "x"), (SIX, "x")]) == [(FOUR, "x"), (SIX, "x")]


def test_attempts_begin_a_stagger_apart() -> None:
    race = Race(3)
    assert race.wait(100.0) == 0
    assert race.begin(100.0) == 0
    assert race.begin(100.0) is None
    assert race.wait(100.0) == STAGGER == 0.25
    assert race.begin(100.249) is None
    assert race.begin(100.25) == 1
    assert race.wait(100.3) == pytest.approx(0.2)
    assert race.begin(100.5) == 2
    assert race.begin(200.0) is None
    assert race.wait(200.0) is None


def test_a_failure_lets_the_next_begin_at_once() -> None:
    race = Race(3)
    assert race.begin(10.0) == 0
    race.failed()
    assert not race.is_over
    assert race.wait(10.0) == 0
    assert race.begin(10.0) == 1
    assert race.begin(10.1) is None, "one failure is one attempt's, not that of all"


def test_it_is_over_when_all_have_failed() -> None:
    race = Race(2)
    for now in (1.0, 2.0):
        assert not race.is_over
        race.begin(now)
        race.failed()
    assert race.is_over
    assert race.wait(3.0) is None
