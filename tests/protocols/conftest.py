"""What all tests of protocols have in common."""

from __future__ import annotations

import time

import pytest

from gworker.http import date


@pytest.fixture(autouse=True)
def one_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that are compared have the same Date, also if a second ends between them."""
    now = time.time()
    monkeypatch.setattr(date, "time", lambda: now)
