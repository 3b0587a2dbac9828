"""Text as it may stand in the log: no part of a record looks like another record."""

from __future__ import annotations

import pytest

from gworker.logs.text import INDENT, MAX_RECORD, cut, record


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain é", "plain é"),
        ("two\nlines\n", f"two\n{INDENT}lines"),
        ("tab\tand\rreturn", r"tab\tand\rreturn"),
        ("bell\a, escape\x1b[31m", r"bell\x07, escape\x1b[31m"),
        ("C1 \x85, separator \u2028", r"C1 \x85, separator \u2028"),
        ("turned \u202e", r"turned \u202e"),
    ],
)
def test_controls_are_escaped_and_further_lines_are_indented(given: str, shown: str) -> None:
    assert record(given) == shown


def test_a_long_record_keeps_its_beginning_and_its_end() -> None:
    shown = cut("a" + "x" * MAX_RECORD + "z")
    assert shown.startswith("ax")
    assert shown.endswith("xz")
    assert "\n... 2 characters left out ...\n" in shown
    assert cut("x" * MAX_RECORD) == "x" * MAX_RECORD
