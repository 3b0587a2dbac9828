"""The reasons for the log when a child is too slow or dies before it is ready."""

from __future__ import annotations

import pytest

from gworker.ipc.boot_stage import LOAD, START, crash, lateness


@pytest.mark.parametrize(
    ("step", "where", "expected"),
    [
        (LOAD, "", "target app was still being loaded after 2.5 s"),
        (LOAD, "app.py:3", "target app was still being loaded after 2.5 s, at app.py:3"),
        (START, "", "not ready within 2.5 s: on_worker_start of web had not returned"),
        ("", "app.py:3", "not ready within 2.5 s, at app.py:3"),
    ],
)
def test_lateness(step: str, where: str, expected: str) -> None:
    assert lateness(step, "app", "web", 2.5, where) == expected


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (LOAD, "exited 3 while target app was being loaded"),
        (START, "exited 3 in on_worker_start of web"),
        ("", "exited 3"),
    ],
)
def test_crash(step: str, expected: str) -> None:
    assert crash(step, "app", "web", "exited 3") == expected
