"""`gworker health` against real processes that are stopped, crash and boot slowly."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import places
import pytest
from instance import Instance, wait_for

pytestmark = pytest.mark.timeout(180)

APP = places.APPS / "health.py"


def health(one: Instance, *arguments: str) -> subprocess.CompletedProcess[str]:
    return one.run("health", *arguments)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """All three have booted for longer than --timeout: at import, and in on_worker_start."""
    one = Instance(tmp_path_factory.mktemp("health") / "instance", APP.read_text())
    (one.directory / "slow").touch()
    try:
        one.start("--timeout", "1", "--name", "shop")
        yield one
    finally:
        one.kill()


@pytest.fixture
def stopped(shared: Instance) -> Iterator[Instance]:
    """The same, while nothing would replace a process that hangs: the arbiter gets no turn."""
    pids = [row["pid"] for row in shared.workers()]
    yield shared
    for pid in (*pids, shared.pid):
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: health(shared).returncode == 0, "healthy again")


def test_a_healthy_instance(shared: Instance) -> None:
    done = wait_for(lambda: (done := health(shared)).returncode == 0 and done, "healthy")
    assert (done.stdout, done.stderr) == (
        "web: 2 of 2 processes serve\nticker: 1 of 1 processes serve\n",
        "",
    )
    assert health(shared, "--worker", "ticker").stdout == "ticker: 1 of 1 processes serve\n"


def test_slow_boots_and_processes_without_a_socket_are_not_taken_for_hanging(
    shared: Instance,
) -> None:
    ticks = shared.directory / "ticks"
    wait_for(lambda: ticks.exists() and len(ticks.read_text()) >= 4, "two seconds in service")
    assert shared.status()["exits"] == []
    assert "hangs" not in shared.read_log()


def test_a_worker_that_does_not_exist(shared: Instance) -> None:
    done = health(shared, "--worker", "chat")
    assert done.returncode == 1
    assert "there is no Worker 'chat'; there are web, ticker" in done.stderr


def test_nothing_runs(tmp_path: Path) -> None:
    one = Instance(tmp_path / "instance", "")
    done = health(one)
    assert (done.returncode, done.stdout) == (3, "")


def test_an_arbiter_that_does_not_answer(stopped: Instance) -> None:
    os.kill(stopped.pid, signal.SIGSTOP)
    done = health(stopped)
    assert done.returncode == 1
    assert "does not answer" in done.stderr


def test_all_processes_of_a_worker_crash_as_they_are_used(shared: Instance) -> None:
    """The last test: it breaks them for good."""
    (shared.directory / "broken").touch()
    for row in shared.workers("ticker"):
        os.kill(row["pid"], signal.SIGKILL)
    done = wait_for(lambda: (done := health(shared)).returncode == 1 and done, "ill")
    assert "no process of ticker serves; ticker#0: " in done.stderr
    assert "web: 2 of 2" in done.stdout
    assert health(shared, "--worker", "web").returncode == 0


def test_a_hanging_worker_under_the_defaults(tmp_path: Path) -> None:
    """`status` exits 0 meanwhile, and says which processes are busy."""
    one = Instance(tmp_path / "instance", APP.read_text())
    try:
        one.start()
        hanging = [row["pid"] for row in one.workers("web")]
        for pid in hanging:
            os.kill(pid, signal.SIGSTOP)
        done = wait_for(lambda: (done := health(one)).returncode == 1 and done, "ill")
        assert (
            done.stderr == "gworker: error: no process of web has turned its event loop for 2.5 s\n"
        )
        assert health(one, "--worker", "ticker").returncode == 0
        states = {row["pid"]: row["state"] for row in one.workers()}
        assert [states.pop(pid) for pid in hanging] == ["busy", "busy"]
        assert set(states.values()) == {"ready"}
    finally:
        one.kill()
