"""Where files that tests need lie, and what stands in the apps."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
APPS = TESTS / "apps"
EXAMPLES = ROOT / "examples"
SCENARIOS = TESTS / "scenarios"
LOAD = TESTS / "support" / "load.py"


def app(name: str) -> str:
    """The text of an app in `tests/apps`."""
    return (APPS / f"{name}.py").read_text()
