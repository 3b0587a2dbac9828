"""Giver and taker in one event loop, and what can go wrong between them."""

from __future__ import annotations

import subprocess
import sys

import places
import pytest

PROGRAM = places.APPS / "handover_scenarios.py"
NAMES = [
    line[4:].partition("(")[0]
    for line in PROGRAM.read_text().splitlines()
    if line.startswith("def test_")
]


@pytest.fixture(scope="module")
def passed() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("name", NAMES)
def test_scenario(passed: subprocess.CompletedProcess[str], name: str) -> None:
    assert name in passed.stdout.split(), passed.stderr[-3000:]
