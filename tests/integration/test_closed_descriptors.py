"""An instance that is started with 0, 1 and 2 closed: what is printed reaches nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import places
import pytest
from instance import DEADLINE, Instance, wait_for

from gworker.errors import GworkerError

pytestmark = pytest.mark.timeout(180)

APP = places.APPS / "printing.py"

ENTRIES = {
    "module": [sys.executable, "-m", "gworker", "app"],
    "command": [str(Path(sys.executable).with_name("gworker")), "app"],
    "script": [sys.executable, "app.py", "start"],
    "daemon": [sys.executable, "-m", "gworker", "app", "--daemon"],
}


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Instance]:
    instance = Instance(tmp_path / "instance", APP.read_text())
    yield instance
    instance.kill()


def is_running(one: Instance) -> bool:
    try:
        return bool(one.status()["state"] == "running")
    except (GworkerError, IndexError):
        return False  # it has no control socket yet


def assert_is_sane(one: Instance) -> None:
    for number in range(50):
        assert one.ask("text", f"{number}\n".encode()) == f"{number}\n".encode()
    (row,) = one.workers()
    assert (row["requests"], row["connections"] in (0, 1), row["exceptions"]) == (50, True, 0)
    assert one.pid == one.status()["arbiter"]["pid"], "the pid file holds what it should"
    for pid in (one.pid, row["pid"]):
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {os.devnull}


@pytest.mark.parametrize("entry", ENTRIES)
def test_nothing_else_takes_their_place(one: Instance, entry: str) -> None:
    shell = ["sh", "-c", 'exec "$0" "$@" 0>&- 1>&- 2>&-']
    process = subprocess.Popen([*shell, *one.arguments(*ENTRIES[entry])], cwd=one.directory)
    try:
        wait_for(lambda: is_running(one), "the instance runs")
        assert_is_sane(one)
        if entry == "module":
            assert one.run("upgrade").returncode == 0
            assert_is_sane(one)
        assert one.run("stop").returncode == 0
    finally:
        assert process.wait(DEADLINE) == 0
