"""Scenarios: programs under `tests/scenarios` whose functions `test_…` run in a process of their
own.

pytest's process is neither patched by gevent nor has it a hub; theirs does and has. One process
runs all scenarios of a file, in their order."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cached_property

import places
import pytest
from scenario_process import FAILED


class Scenarios:
    """Those of `tests/scenarios/{name}.py`. environment: variables to be set in their process."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        self.environment = environment
        self.path = places.SCENARIOS / f"{name}.py"
        self.names = [
            line[4:].partition("(")[0]
            for line in self.path.read_text().splitlines()
            if line.startswith("def test_")
        ]

    @cached_property
    def done(self) -> subprocess.CompletedProcess[str]:
        """The process that has run all of them."""
        return subprocess.run(
            [sys.executable, str(self.path)],
            env={
                **os.environ,
                **self.environment,
                "PYTHONPATH": str(places.TESTS / "support"),
            },
            capture_output=True,
            text=True,
            timeout=55,
            check=False,
        )

    def check(self, name: str) -> None:
        """Fail with the traceback of `name`, unless it has passed."""
        if name not in self.done.stdout.split():
            _, found, why = self.done.stderr.partition(f"{FAILED}{name}\n")
            pytest.fail(why.partition(FAILED)[0] if found else self.done.stderr, pytrace=False)

    def test(self) -> Callable[[str], None]:
        """A test function, with a case for each scenario."""

        @pytest.mark.parametrize("name", self.names)
        def test_scenario(name: str) -> None:
            self.check(name)

        return test_scenario


def of(name: str, **environment: str) -> Callable[[str], None]:
    """A test for each scenario of `tests/scenarios/{name}.py`."""
    return Scenarios(name, environment).test()
