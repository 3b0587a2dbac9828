"""A script whose settings are attributes of Worker, over real processes."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import places
import pytest
from instance import DEADLINE, Instance, wait_for

APP = places.APPS / "static_settings.py"


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Instance]:
    made = Instance(tmp_path / "instance", "")
    shutil.copy(APP, made.directory / "start.py")
    yield made
    made.kill()


def script(one: Instance, *words: str) -> subprocess.CompletedProcess[str]:
    """`python start.py WORDS`."""
    return subprocess.run(
        [sys.executable, "start.py", *words, "--runtime-dir", str(one.runtime)],
        cwd=one.directory, text=True, capture_output=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


def answers(client: socket.socket) -> list[str]:
    client.sendall(b"x\n")
    with client.makefile() as lines:
        return [line.rstrip("\n") for line in iter(lines.readline, "end\n")]


def test_settings_of_a_script_hold(one: Instance) -> None:
    started = script(one, "start")
    assert started.returncode == 0, started.stderr
    assert int((one.directory / "own.pid").read_text()) == one.pid
    assert " is ready: 1 process" in (one.directory / "own.log").read_text()
    with one.connect("text") as client:
        told = answers(client)
    assert told[:3] == [
        "a connection has no attribute 'timer_id'; a connection takes no further ones:"
        " keep your own data as connection.context.timer_id",
        "a connection has no attribute 'lastMessageTime'; a connection takes no further ones:"
        " keep your own data as connection.context.lastMessageTime",
        "a connection has no attribute 'onMessage'; did you mean on_message?",
    ]
    wait_for(
        lambda: "answered" in (one.directory / "out").read_text(),
        "what the handler prints is in stdout_file",
    )
    with one.connect("text") as client:
        client.sendall(b"fail\n")
        assert client.recv(100) == b""
    log = (one.directory / "own.log").read_text()
    assert (
        "hint: a connection takes no further ones: keep your own data as "
        "connection.context.anything" in log
    )
    for command in ("reload", "upgrade"):
        done = script(one, command)
        assert done.returncode == 0, done.stderr
        assert "restart needed" not in done.stdout
    assert script(one, "stop").returncode == 0
    assert not (one.directory / "own.pid").exists()


def test_the_command_line_wins(one: Instance) -> None:
    started = script(
        one, "start", "--log-file", str(one.log), "--pid", str(one.directory / "other.pid")
    )
    assert started.returncode == 0, started.stderr
    assert " is ready: " in one.read_log()
    assert not (one.directory / "own.log").exists()
    assert (one.directory / "other.pid").exists()


def test_as_a_target_they_are_refused(one: Instance) -> None:
    started = one.run("start.py")
    assert started.returncode == 1
    assert "Worker.daemonize = True\n" in started.stderr
    assert started.stderr.endswith("use --daemon, or daemon in gworker.toml\n")
