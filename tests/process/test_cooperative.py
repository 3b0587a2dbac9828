"""User code that forks waits for its children in the event loop."""

from __future__ import annotations

import subprocess

import places
import pytest


@pytest.mark.parametrize("function", ["fork", "forkpty"])
def test_the_first_child_may_end_at_once(function: str) -> None:
    program = [*places.program("forks_and_waits"), function]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr
