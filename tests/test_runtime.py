"""Runtime files: names to paths, the arbiter's hold on them, and how commands find an instance."""

from __future__ import annotations

import dataclasses
import os
import selectors
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gworker import runtime, server
from gworker.config import Layer, resolve
from gworker.control import ControlServer
from gworker.errors import ConfigError
from gworker.runtime import NotRunning, RuntimeFiles, find, scan, slug


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "run")


@pytest.fixture
def start() -> Iterator[SimpleNamespace]:
    """`start.one(...)`: a child that holds the runtime files of an instance, its pid is returned."""
    pids: list[int] = []

    def one(directory: str, name: str, pid_file: str | None = None, socket: bool = True) -> int:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                files = RuntimeFiles(directory, name, pid_file)
                files.acquire()
                listener = runtime.bind_socket(files.socket_path, 1) if socket else None
                os.write(writer, b"+")
                signal.pause()
                del listener
            finally:
                os._exit(1)
        os.close(writer)
        pids.append(pid)
        assert os.read(reader, 1) == b"+"
        os.close(reader)
        return pid

    yield SimpleNamespace(one=one)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("name", ["chat", "chat.handlers", "a_b-c.9", "A" * 64, "x..y"])
def test_a_plain_name_is_its_own_slug(name: str) -> None:
    assert slug(name) == name


@pytest.mark.parametrize(
    "name", ["chat:handlers", "a/b.py", "", ".", "..", ".x", "é", "a b", "A" * 65, "a\nb", "\udc80"]
)
def test_any_other_name_gets_a_safe_one_with_a_hash(name: str) -> None:
    made = slug(name)
    assert made.isascii()
    assert "/" not in made
    assert not made.startswith(".")
    assert 8 < len(made) <= 64
    assert slug(made) == made


def test_names_that_look_alike_stay_apart() -> None:
    names = ["a:b", "a/b", "a b", "a-b", "A" * 65, "A" * 66]
    assert len({slug(name) for name in names}) == len(names)


def test_the_directory_is_made_private_and_reused(directory: str) -> None:
    runtime.prepare(directory)
    runtime.prepare(directory)
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"runtime directory .*/file/run.*--runtime-dir"):
        runtime.prepare(str(tmp_path / "file" / "run"))


def test_a_directory_that_cannot_be_written_is_named(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(ConfigError, match=r"is not writable; choose another with --runtime-dir"):
        runtime.prepare(directory)


def acquired(tmp_path: Path, given: dict[str, object], origin: str) -> RuntimeFiles:
    layer = Layer(origin, {"runtime_dir": str(tmp_path / "file" / "run"), **given})
    return server._acquire(resolve("app", layer))


def test_an_unwritable_default_directory_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    files = acquired(tmp_path, {}, "default")
    assert files.socket_path is None
    assert caplog.text.count("no pid file and no control socket") == 1
    control = ControlServer(files.socket_path, selectors.DefaultSelector(), lambda call: None)
    control.open()
    control.close()
    control.selector.close()
    files.close_in_child()
    files.release()


@pytest.mark.parametrize(
    ("given", "origin"), [({}, "command line"), ({"daemon": True}, "default"), ({"pid": "/p"}, "default")]
)
def test_an_unwritable_directory_that_is_needed_is_an_error(
    tmp_path: Path, given: dict[str, object], origin: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot make the runtime directory .*; choose another with --runtime-dir"):
        acquired(tmp_path, given, origin)


def test_a_default_directory_that_is_taken_is_an_error(directory: str, start: SimpleNamespace) -> None:
    """Only what cannot be written is done without: a second instance must not serve beside the first."""
    start.one(directory, "app")
    with pytest.raises(ConfigError, match="app is already running"):
        server._acquire(resolve("app", Layer("default", {"runtime_dir": directory})))


@pytest.mark.parametrize("trap", ["open", "link", "foreign"])
def test_the_default_directory_must_be_ours_alone(
    directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    monkeypatch.setattr(runtime, "default_runtime_dir", lambda: directory)
    if trap == "link":
        os.mkdir(tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", directory)
    else:
        os.mkdir(directory)
        os.chmod(directory, 0o777 if trap == "open" else 0o700)
    if trap == "foreign":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigError, match="must be a directory of yours"):
        runtime.prepare(directory)


def test_an_instance_holds_its_files(directory: str) -> None:
    files = RuntimeFiles(directory, "chat:handlers")
    files.acquire()
    label = slug("chat:handlers")
    assert files.pid_path == f"{directory}/{label}.pid"
    assert files.socket_path == f"{directory}/{label}.sock"
    (instance,) = scan(directory)
    assert (instance.label, instance.pid, instance.socket) == (label, os.getpid(), files.socket_path)
    assert find(directory, label) == find(directory) == instance
    assert find(directory, "chat:handlers") == dataclasses.replace(instance, label="chat:handlers")
    files.release()
    assert os.listdir(directory) == []


def test_the_second_start_is_told_the_name(directory: str, start: SimpleNamespace) -> None:
    pid = start.one(directory, "chat:handlers")
    with pytest.raises(ConfigError, match=rf"chat:handlers is already running \(pid {pid}\)"):
        RuntimeFiles(directory, "chat:handlers").acquire()


def test_a_second_pid_file_leads_to_the_instance(directory: str, tmp_path: Path, start: SimpleNamespace) -> None:
    pid_file = str(tmp_path / "app.pid")
    pid = start.one(directory, "chat", pid_file)
    assert Path(pid_file).read_text() == f"{pid}\n"
    found = find("/nowhere", pid_file=pid_file)
    assert found.pid == pid
    assert os.path.realpath(found.socket) == os.path.realpath(f"{directory}/chat.sock")
    os.unlink(tmp_path / "app.sock")
    assert find(directory, pid_file=pid_file).socket == f"{directory}/chat.sock"


def test_release_removes_the_second_pid_file_and_the_link(directory: str, tmp_path: Path) -> None:
    files = RuntimeFiles(directory, "chat", str(tmp_path / "app.pid"))
    files.acquire()
    assert sorted(os.listdir(tmp_path)) == ["app.pid", "app.sock", "run"]
    files.release()
    files.release()
    assert os.listdir(tmp_path) == ["run"]
    assert os.listdir(directory) == []


def test_the_pid_file_may_be_the_usual_one(directory: str) -> None:
    files = RuntimeFiles(directory, "chat", f"{directory}/chat.pid")
    files.acquire()
    assert find("/nowhere", pid_file=f"{directory}/chat.pid").socket == files.socket_path
    files.release()


def test_a_pid_file_in_the_runtime_directory_is_no_second_instance(directory: str, start: SimpleNamespace) -> None:
    start.one(directory, "chat", f"{directory}/aaa.pid")
    assert [instance.label for instance in scan(directory)] == ["chat"]


def test_a_failed_start_leaves_nothing(directory: str, tmp_path: Path) -> None:
    (tmp_path / "app.sock").write_text("precious")
    with pytest.raises(ConfigError, match="is in the way"):
        RuntimeFiles(directory, "chat", str(tmp_path / "app.pid")).acquire()
    assert os.listdir(directory) == []
    assert sorted(os.listdir(tmp_path)) == ["app.sock", "run"]


def test_a_failed_start_leaves_the_link_of_the_running_one(
    directory: str, tmp_path: Path, start: SimpleNamespace
) -> None:
    pid_file = str(tmp_path / "app.pid")
    start.one(directory, "chat", pid_file)
    with pytest.raises(ConfigError, match="already running"):
        RuntimeFiles(directory, "other", pid_file).acquire()
    with pytest.raises(ConfigError, match="already running"):
        RuntimeFiles(directory, "chat", pid_file).acquire()
    assert os.path.islink(tmp_path / "app.sock")


def test_nothing_runs(directory: str, tmp_path: Path) -> None:
    assert scan(directory) == []
    for look in ({}, {"name": "chat"}, {"pid_file": str(tmp_path / "app.pid")}):
        with pytest.raises(NotRunning):
            find(directory, **look)
    os.mkdir(directory)
    Path(directory, "chat.pid").write_text(f"{os.getpid()}\n")  # left over, the number is alive
    assert scan(directory) == []
    with pytest.raises(NotRunning, match="chat is not running"):
        find(directory, "chat")


def test_several_need_a_choice(directory: str, start: SimpleNamespace) -> None:
    one, two = start.one(directory, "one"), start.one(directory, "two")
    with pytest.raises(ConfigError, match=rf"one \(pid {one}\), two \(pid {two}\)"):
        find(directory)
    assert find(directory, "two").pid == two


@pytest.mark.parametrize("length", [107, 108, 150, 900])
def test_socket_paths_of_any_length(tmp_path: Path, length: int) -> None:
    directory = str(tmp_path)
    while len(directory) < length - 20:
        directory += "/" + "d" * min(200, length - 15 - len(directory))
    os.makedirs(directory, exist_ok=True)
    path = directory + "/" + "s" * (length - len(directory) - 1)
    assert len(path) == length
    with runtime.bind_socket(path, 1), socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with runtime.unix_address(path) as address:
            client.connect(address)
        assert runtime.peer(client) == (os.getpid(), os.geteuid(), os.getegid())
        with pytest.raises(ConfigError, match="another instance listens"):
            runtime.clear_socket(path)
    runtime.clear_socket(path)
    assert not os.path.exists(path)
    runtime.clear_socket(path)


def test_only_sockets_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "app.sock").write_text("precious")
    with pytest.raises(ConfigError, match="in the way"):
        runtime.clear_socket(str(tmp_path / "app.sock"))
