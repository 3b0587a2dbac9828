"""The text of how a process has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from world import World, declaration

from gworker.master.exit_status import KEEP, Death, End, describe, report


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exited 0"),
        (3 << 8, "exited 3"),
        (255 << 8, "exited 255"),
        (9, "killed by signal 9 (SIGKILL)"),
        (11, "killed by signal 11 (SIGSEGV)"),
        (11 | 0x80, "killed by signal 11 (SIGSEGV)"),
        (signal.SIGRTMIN + 3, f"killed by signal {signal.SIGRTMIN + 3} (real-time signal)"),
    ],
)
def test_words(status: int, words: str) -> None:
    assert describe(status) == words


def test_whatever_wait_says_is_described() -> None:
    for status in range(65536):
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            assert describe(status)


def test_a_real_core_of_the_kernel() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 6)"])
    _, status = os.waitpid(child.pid, 0)
    child.returncode = 0
    assert describe(status) == "killed by signal 6 (SIGABRT)"


def test_the_last_ends_are_kept_oldest_first(world: World) -> None:
    world.start(declaration("web"))
    (process,) = world.living()
    for number in range(KEEP + 5):
        death = Death(process, End.LOST, 1 << 8, f"exited {number}")
        report(death, world.fleet.exits, is_told=False, now=world.now)
    rows = world.instance.status()["exits"]
    assert [row["reason"] for row in rows] == [f"exited {number}" for number in range(5, KEEP + 5)]
    assert set(rows[0]) == {"worker", "id", "pid", "reason", "time"}
    assert rows[0]["time"] > 1e9
