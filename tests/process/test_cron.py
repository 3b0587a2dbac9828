"""Cron expressions: when they are due, above all where a day has 23 or 25 hours; and what is
refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gworker.process.cron import ALIASES, Schedule, zone

BERLIN = ZoneInfo("Europe/Berlin")


def dues(expression: str, start: datetime, count: int) -> list[str]:
    """The next `count` moments after `start`, as clocks in its zone show them, with the offset from
    UTC."""
    schedule, moment, found = Schedule(expression, start.tzinfo), start.timestamp(), []
    for _ in range(count):
        moment = schedule.after(moment)
        found.append(datetime.fromtimestamp(moment, start.tzinfo).strftime("%d. %H:%M:%S %z"))
    return found


def test_every_five_minutes() -> None:
    start = datetime(2026, 1, 1, 10, 3, 20, tzinfo=UTC)
    assert dues("*/5 * * * *", start, 3) == [
        "01. 10:05:00 +0000",
        "01. 10:10:00 +0000",
        "01. 10:15:00 +0000",
    ]


def test_a_moment_that_is_due_is_not_after_itself() -> None:
    start = datetime(2026, 1, 1, 10, 5, tzinfo=UTC)
    assert dues("5 * * * *", start, 1) == ["01. 11:05:00 +0000"]
    assert dues("5 * * * *", start - timedelta(microseconds=1), 1) == ["01. 10:05:00 +0000"]


def test_seconds_may_be_named() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert dues("15,45 * * * * *", start, 3) == [
        "01. 00:00:15 +0000",
        "01. 00:00:45 +0000",
        "01. 00:01:15 +0000",
    ]


def test_an_hour_that_is_left_out_moves_a_fixed_time() -> None:
    """29 March 2026: clocks go from 2:00 to 3:00."""
    start = datetime(2026, 3, 28, 12, tzinfo=BERLIN)
    assert dues("30 2 * * *", start, 2) == ["29. 03:00:00 +0200", "30. 02:30:00 +0200"]
    assert dues("0 3 * * *", start, 2) == ["29. 03:00:00 +0200", "30. 03:00:00 +0200"]


def test_an_hour_that_is_left_out_is_none_for_intervals() -> None:
    start = datetime(2026, 3, 29, 1, 15, tzinfo=BERLIN)
    assert dues("*/30 * * * *", start, 3) == [
        "29. 01:30:00 +0100",
        "29. 03:00:00 +0200",
        "29. 03:30:00 +0200",
    ]


def test_an_hour_that_comes_twice_runs_a_fixed_time_once() -> None:
    """25 October 2026: clocks go from 3:00 back to 2:00."""
    start = datetime(2026, 10, 24, 12, tzinfo=BERLIN)
    assert dues("30 2 * * *", start, 2) == ["25. 02:30:00 +0200", "26. 02:30:00 +0100"]


@pytest.mark.parametrize("minute", [0, 10, 29, 30, 59])
def test_from_within_the_second_pass_nothing_is_due_in_the_first(minute: int) -> None:
    start = datetime(2026, 10, 25, 2, minute, tzinfo=BERLIN, fold=1)
    assert dues("30 2 * * *", start, 1) == ["26. 02:30:00 +0100"]


def test_an_hour_that_comes_twice_is_two_for_intervals() -> None:
    start = datetime(2026, 10, 25, 2, 15, tzinfo=BERLIN)
    found = dues("*/30 * * * *", start, 4)
    assert found == [
        "25. 02:30:00 +0200",
        "25. 02:00:00 +0100",
        "25. 02:30:00 +0100",
        "25. 03:00:00 +0100",
    ]


def test_other_zones_have_other_days() -> None:
    moment = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
    tokyo = Schedule("0 9 * * *", "Asia/Tokyo").after(moment)
    assert datetime.fromtimestamp(tokyo, UTC) == datetime(2026, 6, 2, 0, 0, tzinfo=UTC)
    half = Schedule("0 9 * * *", timezone(timedelta(hours=5, minutes=30))).after(moment)
    assert datetime.fromtimestamp(half, UTC) == datetime(2026, 6, 1, 3, 30, tzinfo=UTC)


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases(alias: str) -> None:
    moment = datetime(2026, 6, 1, 12, 30, tzinfo=UTC).timestamp()
    assert Schedule(alias, "UTC").after(moment) == Schedule(ALIASES[alias], "UTC").after(moment)
    assert Schedule(alias.upper(), "UTC").after(moment) == Schedule(alias, "UTC").after(moment)


def test_leap_days_are_found() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert datetime.fromtimestamp(Schedule("0 0 29 2 *", "UTC").after(moment), UTC).year == 2028


@settings(deadline=None)
@given(
    st.sampled_from(
        [
            "*/7 * * * *",
            "3 4 * * *",
            "30 2 * * *",
            "0 */5 * * *",
            "15 10,22 * * 1-5",
            "*/20 1-4 * * * ",
        ]
    ),
    st.integers(0, 2_000_000_000),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
)
def test_time_only_goes_forward(expression: str, moment: int, name: str) -> None:
    schedule = Schedule(expression, name)
    due = schedule.after(moment)
    assert due > moment
    assert schedule.after(due - 1) <= due < schedule.after(due)


@pytest.mark.parametrize(
    "text", ["", "* * * *", "60 * * * *", "* * * * 8x", "every day", "0 0 31 2 *", "@often"]
)
def test_what_is_no_expression_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="expected five fields") as caught:
        Schedule(text, "UTC")
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Europe/Atlantis", "../../etc/passwd", "/no/such/file", "CET-1CEST,M3.5.0,M10.5.0/3"]
)
def test_what_is_no_zone_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="is not known") as caught:
        Schedule("* * * * *", name)
    assert repr(name) in str(caught.value)
    monkeypatch.setenv("TZ", name)
    with pytest.raises(ValueError, match="environment variable TZ"):
        zone(None)


def test_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Asia/Tokyo")
    assert zone(None) == ZoneInfo("Asia/Tokyo")
    monkeypatch.delenv("TZ")
    monkeypatch.setattr("gworker.process.cron.LOCALTIME", "/no/such/file")
    assert zone(None) == ZoneInfo("UTC")


def test_text_is_wanted() -> None:
    with pytest.raises(TypeError, match="is text, not int"):
        Schedule(5)  # type: ignore[arg-type]
