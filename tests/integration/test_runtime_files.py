"""An instance in the default directory: found from every environment, and again after something has
cleaned up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import places
import pytest
from instance import DEADLINE, wait_for

from gworker.cli.instances import control_socket
from gworker.config.options import default_runtime_dirs

APPS = places.APPS
APP = """
from gworker import Worker

tcp = Worker("tcp://127.0.0.1:0")
"""


class Default:
    """An instance in the default directory, beside whatever else runs there; hence a name that is
    its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = f"test-{uuid4()}"
        (directory / "app.py").write_text(APP)

    def run(
        self, *arguments: str, program: str = "-mgworker", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """A command, with the environment that a bare shell has, and `environ`."""
        bare = {
            name: value
            for name, value in os.environ.items()
            if name not in ("XDG_RUNTIME_DIR", "TMPDIR")
        }
        return subprocess.run(
            [sys.executable, program, *arguments],
            env={**bare, **environ}, cwd=self.directory, text=True, capture_output=True,
            timeout=DEADLINE, check=False,
        )  # fmt: skip

    def finds(self, **environ: str) -> bool:
        """Whether a command with `environ` finds it."""
        return self.run("status", "--name", self.name, **environ).returncode == 0


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Default]:
    made = Default(tmp_path)
    pid_file = tmp_path / "app.pid"
    # That of root does not depend on XDG_RUNTIME_DIR, which sudo may have kept.
    session = {"XDG_RUNTIME_DIR": str(tmp_path / "session")} if os.geteuid() == 0 else {}
    started = made.run(
        "app", "-d", "--name", made.name, "--pid", str(pid_file), "--log-file",
        str(tmp_path / "log"),
        program=str(APPS / "often_checking.py"), PYTHONPATH=str(tmp_path), **session,
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    pid = int(pid_file.read_text())
    yield made
    made.run("stop", "--quick", "--pid", str(pid_file))
    if os.path.exists(f"/proc/{pid}"):
        os.kill(pid, signal.SIGKILL)


def test_found_from_every_environment_and_after_a_cleanup(one: Default, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    surroundings = [{}, {"XDG_RUNTIME_DIR": str(elsewhere)}, {"TMPDIR": str(elsewhere)}]
    assert [one.finds(**each) for each in surroundings] == [True] * 3
    assert not list(elsewhere.iterdir()), "a command makes no directory"

    pid = int((tmp_path / "app.pid").read_text())
    assert sorted(path.name for path in tmp_path.iterdir() if path.stem == "app") == [
        "app.pid",
        "app.py",
    ]
    socket = control_socket(pid)
    assert os.path.dirname(socket) in default_runtime_dirs()
    for path in (socket, socket.removesuffix(".sock") + ".pid", tmp_path / "app.pid"):
        os.unlink(path)
    wait_for(
        lambda: os.path.exists(socket) and (tmp_path / "app.pid").exists(),
        "the files are there again",
    )
    assert [one.finds(**each) for each in surroundings] == [True] * 3
    stopped = one.run("stop", "--pid", str(tmp_path / "app.pid"))
    assert stopped.returncode == 0, stopped.stderr
    assert not os.path.exists(socket)
    assert not (tmp_path / "app.pid").exists()
