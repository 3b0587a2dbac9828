"""How commands find the instance that they are for, by its runtime files."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from gworker import client, instances, runtime
from gworker.errors import ConfigError
from gworker.instances import Instance, NotRunning, find, scan
from gworker.runtime import slug


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "run")


def test_an_instance_is_found_by_its_name_and_by_its_slug(directory: str, start: SimpleNamespace) -> None:
    pid = start.one(directory, "chat:handlers")
    label = slug("chat:handlers")
    (instance,) = scan([directory])
    assert instance == Instance(label, pid, f"{directory}/{label}.sock")
    assert find([directory], label) == find([directory]) == instance
    assert find([directory], "chat:handlers") == dataclasses.replace(instance, label="chat:handlers")


def test_every_directory_is_searched(directory: str, tmp_path: Path, start: SimpleNamespace) -> None:
    directories = ["/nowhere", str(tmp_path / "other"), directory]
    one, two = start.one(directory, "one"), start.one(directories[1], "two")
    assert [instance.pid for instance in scan(directories)] == [one, two]
    assert find(directories, "one").pid == one
    assert find(directories, "two").pid == two


@pytest.mark.parametrize("trap", ["foreign", "link"])
def test_a_default_directory_of_another_user_is_not_believed(
    directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: SimpleNamespace, trap: str
) -> None:
    """Under /tmp anybody can make the directory that is searched."""
    start.one(directory, "chat")
    asked = directory
    if trap == "link":
        asked = str(tmp_path / "link")
        os.symlink(directory, asked)
    assert find([asked], "chat").label == "chat", "a directory that was named"
    monkeypatch.setattr(runtime, "default_runtime_dirs", lambda: (asked,))
    if trap == "foreign":
        found = os.lstat(directory)
        owned = os.stat_result((*found[:4], 4711, *found[5:]))
        monkeypatch.setattr(runtime.os, "lstat", lambda path: owned if path == directory else os.stat(path))
    assert scan([asked]) == []
    with pytest.raises(NotRunning):
        find([asked], "chat")


def test_the_directory_of_root_is_believed(
    directory: str, monkeypatch: pytest.MonkeyPatch, start: SimpleNamespace
) -> None:
    start.one(directory, "chat")
    found = os.lstat(directory)
    monkeypatch.setattr(runtime, "default_runtime_dirs", lambda: (directory,))
    monkeypatch.setattr(runtime.os, "geteuid", lambda: 4711)
    monkeypatch.setattr(runtime.os, "lstat", lambda path: os.stat_result((*found[:4], 0, *found[5:])))
    assert find([directory], "chat").label == "chat"


def test_a_second_pid_file_leads_to_the_instance(directory: str, tmp_path: Path, start: SimpleNamespace) -> None:
    """Also beside a socket of the application with the same name."""
    pid_file = str(tmp_path / "app.pid")
    with runtime.bind_socket(str(tmp_path / "app.sock"), 1):
        pid = start.one(directory, "chat", pid_file)
        assert Path(pid_file).read_text() == f"{pid}\n"
        assert find(["/nowhere"], pid_file=pid_file) == Instance(pid_file, pid, f"{directory}/chat.sock")


def test_the_pid_file_may_be_the_usual_one(directory: str, start: SimpleNamespace) -> None:
    pid_file = f"{directory}/chat.pid"
    start.one(directory, "chat", pid_file)
    assert find(["/nowhere"], pid_file=pid_file).socket == f"{directory}/chat.sock"


def test_an_instance_without_a_socket_has_none(directory: str, start: SimpleNamespace) -> None:
    start.one(directory, "chat")
    os.unlink(f"{directory}/chat.sock")
    found = find(["/nowhere"], pid_file=f"{directory}/chat.pid")
    with pytest.raises(NotRunning, match="has no control socket"):
        client.connect(found)


def test_another_users_instance_is_named_as_such(
    directory: str, monkeypatch: pytest.MonkeyPatch, start: SimpleNamespace
) -> None:
    pid = start.one(directory, "chat")

    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(instances.os, "listdir", refuse)
    with pytest.raises(ConfigError, match=f"pid {pid} belongs to another user"):
        find(["/nowhere"], pid_file=f"{directory}/chat.pid")


def test_a_pid_file_in_the_runtime_directory_is_no_second_instance(directory: str, start: SimpleNamespace) -> None:
    start.one(directory, "chat", f"{directory}/aaa.pid")
    assert [instance.label for instance in scan([directory])] == ["chat"]


def test_nothing_runs(directory: str, tmp_path: Path) -> None:
    assert scan([directory]) == []
    for look in ({}, {"name": "chat"}, {"pid_file": str(tmp_path / "app.pid")}):
        with pytest.raises(NotRunning):
            find([directory], **look)
    os.mkdir(directory)
    Path(directory, "chat.pid").write_text(f"{os.getpid()}\n")  # left over, the number is alive
    assert scan([directory]) == []
    with pytest.raises(NotRunning, match="chat is not running"):
        find([directory], "chat")


def test_several_need_a_choice(directory: str, start: SimpleNamespace) -> None:
    one, two = start.one(directory, "one"), start.one(directory, "two")
    with pytest.raises(ConfigError, match=rf"one \(pid {one}\), two \(pid {two}\)"):
        find([directory])
    assert find([directory], "two").pid == two
