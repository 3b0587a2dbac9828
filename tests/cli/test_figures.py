"""Figures as people read them."""

from __future__ import annotations

import pytest

from gworker.cli.figures import duration, moment, number, numbers, size, text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0B"),
        (1, "1B"),
        (1023, "1023B"),
        (1024, "1.0K"),
        (1536, "1.5K"),
        (102400, "100K"),
        (1 << 20, "1.0M"),
        (20 << 20, "20.0M"),
        (3 << 30, "3.0G"),
        (1 << 40, "1.0T"),
        (5 << 60, "5120P"),
    ],
)
def test_size(value: float | None, shown: str) -> None:
    assert size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0.0s"),
        (0.26, "0.3s"),
        (9.94, "9.9s"),
        (10, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (3599.7, "1h00m"),
        (2 * 3600 + 7 * 60 + 9, "2h07m"),
        (86400 * 5 + 3600 * 3, "5d03h"),
    ],
)
def test_duration(value: float | None, shown: str) -> None:
    assert duration(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (0, "0"), (7, "7"), (7.0, "7"), (7.25, "7.2"), (0.04, "0.0")]
)
def test_number(value: float | None, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), ("chat", "chat"), ("a\nb\x1b[2J", "a?b?[2J"), (["a", "b"], "a, b"), (3, "3")],
)
def test_text_stays_on_its_line(value: object, shown: str) -> None:
    assert text(value) == shown


def test_moment() -> None:
    assert moment(None) == "-"
    assert len(moment(0)) == len("1970-01-01 00:00:00")


@pytest.mark.parametrize(
    ("value", "shown"),
    [([], ""), ([3], "3"), ([1, 0, 1], "0-1"), ([9, 0, 1, 2, 4, 7, 8], "0-2, 4, 7-9")],
)
def test_numbers(value: list[int], shown: str) -> None:
    assert numbers(value) == shown
