"""The look at the runtime files once a minute: with real files, and an invented clock."""

from __future__ import annotations

import os
import selectors
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gworker.cli import control_client, instances
from gworker.master import runtime_check
from gworker.master.control_server import ControlServer
from gworker.master.runtime_check import CHECK_SECONDS, RuntimeCheck
from gworker.master.runtime_files import RuntimeFiles
from gworker.system.pid_file import holder


class Held:
    """An instance's files in the first of two directories, and the look at them."""

    def __init__(self, directory: Path) -> None:
        self.first, self.second = directory / "first", directory / "second"
        self.files = RuntimeFiles(
            [str(self.first), str(self.second)], "app", str(directory / "app.pid")
        )
        self.files.acquire()
        self.selector = selectors.DefaultSelector()
        self.control = ControlServer(self.files.socket_path, self.selector, lambda call: None)
        self.control.open()
        self.check = RuntimeCheck(self.files, self.control)
        self.now = self.check.next_deadline()

    def minute(self) -> None:
        """A minute passes."""
        self.check.tick(self.now)
        assert self.check.next_deadline() == self.now + CHECK_SECONDS
        self.now += CHECK_SECONDS

    def is_reachable(self, directory: Path) -> bool:
        """Whether commands find the instance there."""
        found = instances.scan([str(directory)])
        if [each.pid for each in found] != [os.getpid()]:
            return False
        control_client.connect(found[0]).close()
        return True

    def end(self) -> None:
        self.control.close()
        self.files.release()
        self.selector.close()


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    monkeypatch.setattr(
        instances, "is_master", lambda command: True
    )  # this process is the arbiter here
    made = Held(tmp_path)
    yield made
    made.end()
    assert not list(tmp_path.rglob("*.pid"))


def test_it_looks_once_a_minute(held: Held) -> None:
    shutil.rmtree(held.first)
    held.check.tick(held.now - 0.001)
    assert not held.first.exists()
    held.check.tick(held.now)
    assert held.is_reachable(held.first)


@pytest.mark.parametrize("gone", ["app.pid", "app.sock"])
def test_one_file_that_is_gone(held: Held, caplog: pytest.LogCaptureFixture, gone: str) -> None:
    (held.first / gone).unlink()
    held.minute()
    assert held.is_reachable(held.first)
    held.minute()
    assert [record.getMessage() for record in caplog.records] == [
        f"the {'pid file' if gone == 'app.pid' else 'control socket'} was gone;"
        f" there is a new one at {held.first / gone}"
    ]


def test_the_pid_file_that_was_asked_for(held: Held, tmp_path: Path) -> None:
    (tmp_path / "app.pid").unlink()
    held.minute()
    assert holder(str(tmp_path / "app.pid")) == os.getpid()


def test_one_that_cannot_be_made_keeps_no_other_from_being_made(held: Held, tmp_path: Path) -> None:
    (tmp_path / "app.pid").unlink()
    (tmp_path / "app.pid").mkdir()
    shutil.rmtree(held.first)
    held.minute()
    assert held.is_reachable(held.first)
    (tmp_path / "app.pid").rmdir()
    held.minute()
    assert holder(str(tmp_path / "app.pid")) == os.getpid()


def test_a_directory_that_cannot_be_made_again(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(held.first)
    held.first.write_text("")
    held.minute()
    assert held.is_reachable(held.second)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    held.first.unlink()
    held.minute()
    assert held.is_reachable(held.second), "where they are, they stay"
    assert not held.first.exists()


def test_what_cannot_be_made_is_logged_once_and_tried_again(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(held.first)
    for directory in (held.first, held.second):
        directory.write_text("")
    held.minute()
    held.minute()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert str(held.first) in caplog.text
    held.first.unlink()
    held.minute()
    assert held.is_reachable(held.first)


def test_the_arbiter_looks(held: Held, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`Arbiter` has it among its tickers."""
    from world import World

    looks: list[float] = []
    monkeypatch.setattr(runtime_check.RuntimeCheck, "tick", lambda self, now: looks.append(now))
    with closing(World(tmp_path / "world")) as world:
        world.begin()
        world.sleep(1)
        assert looks[-1] == world.now
