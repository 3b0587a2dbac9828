"""An instance in the foreground of a terminal, and what becomes of it when that is closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import places
import pytest
from instance import DEADLINE, Instance, wait_for

APP = places.app("script")
GWORKER = "-m gworker app"
IN_TERMINAL = places.APPS / "in_terminal.py"


class InTerminal(Instance):
    """An instance that a shell runs in a terminal of its own, of which nothing is printed that
    matters."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, APP)
        self.shell: subprocess.Popen[bytes] | None = None
        self._terminal = -1

    def open(self, words: str, shell: str = "exec {}") -> None:
        """Open a terminal in which `python WORDS` runs; wait until the instance is ready."""
        self._terminal, theirs = os.openpty()
        command = f"{sys.executable} {words} --log-file {self.log} --runtime-dir {self.runtime}"
        in_terminal = [
            sys.executable,
            str(IN_TERMINAL),
            str(theirs),
            "sh",
            "-c",
            shell.format(command),
        ]
        self.shell = subprocess.Popen(in_terminal, cwd=self.directory, pass_fds=[theirs])
        os.close(theirs)
        self.wait_log(" is ready: ")

    def close(self) -> None:
        """Close the terminal."""
        os.close(self._terminal)
        self._terminal = -1

    def kill(self) -> None:
        super().kill()
        if self._terminal >= 0:
            self.close()
        if self.shell is not None:
            self.shell.kill()
            self.shell.wait()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[], InTerminal]]:
    made: list[InTerminal] = []

    def one() -> InTerminal:
        made.append(InTerminal(tmp_path / f"instance-{len(made)}"))
        return made[-1]

    yield one
    for each in made:
        each.kill()


@pytest.mark.parametrize(
    ("words", "shell"),
    [
        (GWORKER, "exec {}"),
        # The shell dies of the hangup, and the kernel tells its foreground processes.
        (GWORKER, "{}; exit $?"),
        # The shell tells its jobs, and the kernel tells only the shell.
        (GWORKER, "trap 'kill -HUP $!; exit' HUP; {} & wait $!"),
        ("app.py start", "exec {}"),
    ],
)
def test_the_end_of_the_terminal_is_a_graceful_stop(
    make: Callable[[], InTerminal], words: str, shell: str
) -> None:
    one = make()
    one.open(words, shell)
    with one.connect("text") as client:
        client.sendall(b"begin\n")
        assert client.recv(100) == b"begin\n"
        one.close()
        assert client.recv(100) == b"done\n"
        assert client.recv(100) == b""
    wait_for(lambda: not one.processes(), "the end of all processes")
    log = one.read_log()
    assert "the terminal was closed" in log
    assert log.rstrip().endswith("stopped")
    assert "reload" not in log
    assert "Traceback" not in log
    assert list(one.runtime.iterdir()) == []
    if shell.startswith("exec"):
        assert one.shell is not None
        assert one.shell.wait(DEADLINE) == 0


def test_while_the_terminal_is_open_hup_is_a_reload(make: Callable[[], InTerminal]) -> None:
    one = make()
    one.open(GWORKER)
    one.signal(signal.SIGHUP)
    one.wait_log("generation 2 serves")
    assert one.run("upgrade").returncode == 0
    one.signal(signal.SIGHUP)
    one.wait_log("generation 4 serves")
    one.close()
    wait_for(lambda: not one.processes(), "the end of all processes, also after an upgrade")


@pytest.mark.parametrize("upgraded", [False, True])
def test_nohup_outlives_the_terminal(make: Callable[[], InTerminal], upgraded: bool) -> None:
    one = make()
    one.open(GWORKER, "nohup {} >nohup.out 2>&1")
    served = 1
    if upgraded:
        assert one.run("upgrade").returncode == 0
        served += 1
    one.close()
    one.wait_log("received SIGHUP")
    assert one.shell is not None
    one.shell.wait(DEADLINE)
    assert one.ask("text", b"here\n") == b"here\n"
    assert one.status()["generation"] == served, "it is no reload either"

    def reloads() -> bool:
        one.signal(signal.SIGHUP)
        return one.status()["generation"] > served

    wait_for(reloads, "HUP is a reload again")
    assert one.run("stop").returncode == 0


def test_a_daemon_has_no_terminal(make: Callable[[], InTerminal]) -> None:
    one = make()
    one.open(f"{GWORKER} --daemon")
    one.close()
    assert one.shell is not None
    one.shell.wait(DEADLINE)
    one.signal(signal.SIGHUP)
    one.wait_log("generation 2 serves")
    assert one.run("stop").returncode == 0
