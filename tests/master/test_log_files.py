"""The default log is turned over at its size, once, and no other file ever is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gworker.config.settings import Layer, resolve
from gworker.ipc.channel import Channel, pair
from gworker.logs import nonblocking
from gworker.logs.setup import Outputs
from gworker.master.log_files import MAX_SIZE, RETRY_SECONDS, LogFiles
from gworker.master.slots import Role


class Scene:
    """The log of a daemon with two processes."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.settings = resolve("app", Layer("test", {"daemon": True, **settings}))
        assert self.settings.log_file is not None
        self.path = Path(self.settings.log_file)
        self.aside = Path(self.settings.log_file + ".1")
        self.descriptor = nonblocking.open_path(str(self.path))
        self.ends: list[Channel] = []
        self._ours: list[Channel] = []
        processes = {
            number: SimpleNamespace(channel=self._channel(), role=Role.WORKER)
            for number in range(2)
        }
        children = SimpleNamespace(by_pid=processes)
        fleet: Any = SimpleNamespace(settings=self.settings, children=children)
        self.files = LogFiles(fleet, Outputs(self.descriptor))

    def _channel(self) -> Channel:
        ours, theirs = pair()
        self.ends.append(theirs)
        self._ours.append(ours)
        return ours

    def close(self) -> None:
        for end in (*self.ends, *self._ours):
            end.close()
        os.close(self.descriptor)

    def fill(self, size: int = MAX_SIZE) -> None:
        os.truncate(self.descriptor, size)

    def given(self) -> list[int]:
        """Write by the descriptors that the processes were given; how many there are of each."""
        numbers = []
        for end in self.ends:
            numbers.append(0)
            while True:
                try:
                    message, descriptors = end.receive()
                except BlockingIOError:
                    break
                assert message == {"do": "reopen", "targets": [self.descriptor]}
                for descriptor in descriptors:
                    os.write(descriptor, b"from a process\n")
                    os.close(descriptor)
                    numbers[-1] += 1
        return numbers


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("LOGS_DIRECTORY", str(tmp_path))
    one = Scene(tmp_path)
    yield one
    one.close()


def test_it_is_turned_over_for_all_processes(scene: Scene) -> None:
    scene.aside.write_text("an older one")
    scene.fill(MAX_SIZE - 1)
    scene.files.turn_over(1)
    assert scene.aside.read_text() == "an older one"
    scene.fill()
    scene.files.turn_over(2)
    assert scene.aside.stat().st_size == MAX_SIZE
    assert scene.given() == [1, 1]
    os.write(scene.descriptor, b"from the arbiter\n")
    assert scene.path.read_text() == "from a process\n" * 2 + "from the arbiter\n"
    scene.files.turn_over(3)
    assert scene.given() == [0, 0]


def test_a_log_that_the_user_has_named_is_the_users(tmp_path: Path) -> None:
    one = Scene(tmp_path, log_file=str(tmp_path / "named"))
    one.fill()
    one.files.turn_over(1)
    assert one.path.stat().st_size == MAX_SIZE
    assert (not one.aside.exists(), one.given()) == (True, [0, 0])
    one.close()


def test_a_file_that_another_instance_of_this_name_has_turned_over(scene: Scene) -> None:
    scene.fill()
    scene.path.rename(scene.aside)
    scene.path.write_text("new\n")
    scene.files.turn_over(1)
    assert scene.aside.stat().st_size == MAX_SIZE
    assert scene.given() == [1, 1]
    assert scene.path.read_text() == "new\n" + "from a process\n" * 2


def test_what_fails_is_tried_again_later(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.aside.mkdir()
    scene.fill()
    for now in (1.0, 2.0, RETRY_SECONDS):
        scene.files.turn_over(now)
    assert caplog.text.count(f"cannot turn over {scene.path}: Is a directory") == 1
    scene.aside.rmdir()
    scene.files.turn_over(1.0 + RETRY_SECONDS)
    assert scene.aside.stat().st_size == MAX_SIZE
    assert scene.given() == [1, 1]


def test_a_directory_that_is_gone(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.fill()
    elsewhere = scene.path.parent.with_name("elsewhere")
    scene.path.parent.rename(elsewhere)
    for now in (1.0, 2.0):
        scene.files.turn_over(now)
    assert caplog.text.count("cannot reopen") == 1
    os.write(scene.descriptor, b"kept\n")
    elsewhere.rename(scene.path.parent)
    scene.files.turn_over(2 + RETRY_SECONDS)
    assert scene.aside.stat().st_size == MAX_SIZE + 5
    assert scene.given() == [1, 1]
