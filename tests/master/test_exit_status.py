"""The text of how a process has ended; which one was killed for want of memory, from the kernel's
count, and nothing claimed without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from world import World, declaration

from gworker.master.exit_status import KEEP, WINDOW, Death, End, OomKills, describe, report


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


# ---- out of memory


FORMS = {
    "v2": (
        "0::/shop.slice/web\n",
        "shop.slice/web/memory.events",
        "low 0\nhigh 3\nmax 9\noom 2\noom_kill {}\n",
    ),
    "v2 in a container": ("0::/host/path\n", "memory.events", "oom_group_kill 0\noom_kill {}\n"),
    "v2 at its own root": ("0::/\n", "memory.events", "oom_kill {}\n"),
    "v1": (
        "9:cpu,cpuacct:/\n4:memory:/web\n0::/\n",
        "memory/web/memory.oom_control",
        "under_oom 0\noom_kill {}\n",
    ),
    "v1 in a container": (
        "4:memory:/host/path\n",
        "memory/memory.oom_control",
        "oom_kill_disable 0\noom_kill {}\n",
    ),
    "hybrid": ("4:memory:/web\n0::/web\n", "memory/web/memory.oom_control", "oom_kill {}\n"),
}


class Kernel:
    """A cgroup file system."""

    def __init__(self, directory: Path, form: str = "v2") -> None:
        lines, name, self._text = FORMS[form]
        self.own = directory / "cgroup"
        self.own.write_text(lines)
        self.root = directory / "fs"
        self.file = self.root / name
        self.file.parent.mkdir(parents=True)
        self.killed = 5
        self.kill(0)

    def kill(self, number: int = 1) -> None:
        self.killed += number
        self.file.write_text(self._text.format(self.killed))

    def kills(self) -> OomKills:
        return OomKills(self.root, self.own)


@pytest.mark.parametrize("form", FORMS)
def test_a_victim_is_known_by_the_count_of_its_control_group(tmp_path: Path, form: str) -> None:
    kernel = Kernel(tmp_path, form)
    kills = kernel.kills()
    kills.poll(1000.0)
    assert not kills.take(), "what was before does not matter"
    kernel.kill()
    assert kills.take()


def test_each_victim_explains_one_death(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kills = kernel.kills()
    kernel.kill(2)
    assert [kills.take() for _ in range(4)] == [True, True, False, False]
    kernel.kill()
    kills.poll(1000.0)
    assert [kills.take() for _ in range(2)] == [True, False]


def test_an_old_victim_explains_nothing(tmp_path: Path) -> None:
    """It was another process of the group, a program that user code has started perhaps."""
    kernel = Kernel(tmp_path)
    kills = kernel.kills()
    kernel.kill()
    now = 1000.0
    for _ in range(30):
        now += 1
        kills.poll(now)
    assert not kills.take()


def test_a_death_that_takes_a_while_is_still_explained(tmp_path: Path) -> None:
    """Gigabytes are given back before a process can be reaped."""
    kernel = Kernel(tmp_path)
    kills = kernel.kills()
    kills.poll(1000.0)
    kernel.kill()
    kills.poll(1000.0 + WINDOW)
    assert kills.take()


@pytest.mark.parametrize("what", ["no /proc", "no file", "nonsense", "gone", "old kernel"])
def test_without_a_count_nothing_is_claimed(tmp_path: Path, what: str) -> None:
    kernel = Kernel(tmp_path)
    if what == "no /proc":
        kernel.own.unlink()
    elif what == "no file":
        kernel.file.unlink()
    elif what == "nonsense":
        kernel.own.write_text("what\n:\n\n")
    kills = kernel.kills()
    if what == "gone":
        kernel.file.unlink()
    elif what == "old kernel":
        kernel.file.write_text("under_oom 0\n")
    kills.poll(1000.0)
    assert not kills.take()


def test_this_machine_whatever_it_has() -> None:
    kills = OomKills()
    kills.poll(1000.0)
    assert not kills.take()
