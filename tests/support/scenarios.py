"""Scenarios: programs under `tests/scenarios` whose functions `test_…` run in a process of their own.

pytest's process is neither patched by gevent nor has it a hub; theirs does and has. One process
runs all scenarios of a file, in their order.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import places
import pytest
from scenario_process import FAILED


class Scenarios:
    """Those of one file. `check(name)` fails with the traceback of the one that failed."""

    def __init__(self, name: str) -> None:
        self.path = places.SCENARIOS / f"{name}.py"
        self.names = [
            line[4:].partition("(")[0]
            for line in self.path.read_text().splitlines()
            if line.startswith("def test_")
        ]
        self._done: subprocess.CompletedProcess[str] | None = None

    def check(self, name: str) -> None:
        """`name` has passed; with the first call all of them run."""
        if self._done is None:
            self._done = subprocess.run(
                [sys.executable, str(self.path)],
                env={**os.environ, "PYTHONPATH": str(places.TESTS / "support")},
                capture_output=True,
                text=True,
                timeout=55,
                check=False,
            )
        if name not in self._done.stdout.split():
            _, found, why = self._done.stderr.partition(f"{FAILED}{name}\n")
            pytest.fail(why.partition(FAILED)[0] if found else self._done.stderr, pytrace=False)


def of(name: str) -> Callable[[str], None]:
    """A test for each scenario of `tests/scenarios/{name}.py`."""
    scenarios = Scenarios(name)

    @pytest.mark.parametrize("name", scenarios.names)
    def test_scenario(name: str) -> None:
        scenarios.check(name)

    return test_scenario
