"""The order of addresses. Which attempt begins when: `tests/scenarios/racing.py`."""

from __future__ import annotations

import scenarios

from gworker.client.happy_eyeballs import interleave

test_scenario = scenarios.of("racing")

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
