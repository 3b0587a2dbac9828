"""Where files that tests need lie, and what stands in the apps."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
APPS = TESTS / "apps"
EXAMPLES = ROOT / "examples"
SCENARIOS = TESTS / "scenarios"
PROGRAMS = TESTS / "programs"


def app(name: str) -> str:
    """The text of an app in `tests/apps`."""
    return (APPS / f"{name}.py").read_text()


def program(name: str) -> list[str]:
    """The command that runs a program in `tests/programs`."""
    return [sys.executable, str(PROGRAMS / f"{name}.py")]
