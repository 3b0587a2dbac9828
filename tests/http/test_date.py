"""Dates of HTTP, in each form that RFC 9110 section 5.6.7 has."""

from __future__ import annotations

import pytest

from gworker.http.date import http_date, parse_date

DATE = "Sun, 09 Sep 2001 01:46:40 GMT"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (DATE, 1_000_000_000),
        ("Sunday, 09-Sep-01 01:46:40 GMT", 1_000_000_000),
        ("Sun Sep  9 01:46:40 2001", 1_000_000_000),
        ("", None),
        ("0", None),
        ("Sun, 99 Sep 2001 01:46:40 GMT", None),
    ],
)
def test_dates(text: str, seconds: int | None) -> None:
    assert parse_date(text) == seconds
    assert http_date(1_000_000_000) == DATE
