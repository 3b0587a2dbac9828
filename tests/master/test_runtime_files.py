"""Runtime files: names to paths, directories to choose from, and the arbiter's hold on them."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from gworker.cli import control_client, instances, serve
from gworker.config import settings
from gworker.config.settings import Layer, resolve
from gworker.errors import ConfigError
from gworker.master import runtime_files
from gworker.master.broker_socket import BrokerSocket
from gworker.master.control_server import ControlServer
from gworker.master.runtime_files import CHECK_SECONDS, RuntimeCheck, RuntimeFiles, slug
from gworker.system.pid_file import holder
from gworker.system.unix_socket import UnixFile


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "run")


@pytest.mark.parametrize("name", ["chat", "chat.handlers", "a_b-c.9", "A" * 64, "x..y"])
def test_a_plain_name_is_its_own_slug(name: str) -> None:
    assert slug(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "chat:handlers",
        "a/b.py",
        "/srv/a.py",
        "./a.py",
        "-d",
        "",
        ".",
        "..",
        ".x",
        "é",
        "a b",
        "A" * 65,
        "a\nb",
        "\udc80",
    ],
)
def test_any_other_name_gets_a_safe_one_with_a_hash(name: str) -> None:
    made = slug(name)
    assert made.isascii()
    assert "/" not in made
    assert not made.startswith((".", "-"))
    assert 8 < len(made) <= 64
    assert slug(made) == made


def test_names_that_look_alike_stay_apart() -> None:
    names = ["a:b", "a/b", "a b", "a-b", "A" * 65, "A" * 66]
    assert len({slug(name) for name in names}) == len(names)


def test_the_directory_is_made_private_and_reused(directory: str) -> None:
    runtime_files.prepare(directory)
    runtime_files.prepare(directory)
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"runtime directory .*/file/run.*--runtime-dir"):
        runtime_files.prepare(str(tmp_path / "file" / "run"))


def test_a_directory_that_cannot_be_written_is_named(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(ConfigError, match=r"is not writable; choose another with --runtime-dir"):
        runtime_files.prepare(directory)


@pytest.fixture
def default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The default directories, of which the first two cannot be made."""
    (tmp_path / "file").write_text("")
    directories = [str(tmp_path / "file" / "run"), str(tmp_path / "file" / "tmp")]
    for module in (settings, runtime_files):
        monkeypatch.setattr(module, "default_runtime_dirs", lambda: directories)
    return directories


def acquired(**given: object) -> RuntimeFiles:
    return serve._acquire(resolve("app", Layer("test", given)))


def test_the_first_default_directory_that_can_be_used_is_taken(
    default: list[str], tmp_path: Path
) -> None:
    default += [str(tmp_path / "third"), str(tmp_path / "fourth")]
    files = acquired()
    assert files.socket_path == f"{tmp_path}/third/app.sock"
    assert not os.path.exists(default[3])
    files.release()


def test_a_second_start_is_refused_wherever_the_first_has_its_files(
    default: list[str], tmp_path: Path, start: SimpleNamespace
) -> None:
    default += [str(tmp_path / "third"), str(tmp_path / "fourth")]
    pid = start.one(default[3], "app")
    with pytest.raises(ConfigError, match=rf"app is already running \(pid {pid}\)"):
        acquired()


def test_unusable_default_directories_are_done_without(
    default: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    files = acquired()
    assert files.socket_path is None
    assert caplog.text.count("no pid file and no control socket") == 1
    assert files.restore() is None
    with selectors.DefaultSelector() as selector:
        control = ControlServer(files.socket_path, selector, lambda call: None)
        control.open()
        control.close()
    files.close_in_child()
    files.release()


@pytest.mark.parametrize("given", ["runtime_dir", "daemon", "pid"])
def test_an_unusable_directory_that_is_needed_is_an_error(default: list[str], given: str) -> None:
    value = {"runtime_dir": default[0], "daemon": True, "pid": "/p"}[given]
    with pytest.raises(
        ConfigError, match=rf"cannot make the runtime directory {default[0]}: .* --runtime-dir"
    ):
        acquired(**{given: value})


def test_a_default_directory_that_is_taken_is_an_error(
    default: list[str], directory: str, start: SimpleNamespace
) -> None:
    """Only what cannot be used is done without: a second instance must not serve beside the
    first."""
    default.append(directory)
    start.one(directory, "app")
    with pytest.raises(ConfigError, match="app is already running"):
        acquired()


@pytest.mark.parametrize("trap", ["open", "link", "foreign"])
def test_the_default_directory_must_be_ours_alone(
    default: list[str], directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    default.append(directory)
    if trap == "link":
        os.mkdir(tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", directory)
    else:
        os.mkdir(directory)
        os.chmod(directory, 0o777 if trap == "open" else 0o700)
    if trap == "foreign":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigError, match="must be a directory of yours"):
        runtime_files.prepare(directory)


def test_an_instance_holds_its_files(directory: str) -> None:
    files = RuntimeFiles([directory], "chat:handlers")
    files.acquire()
    label = slug("chat:handlers")
    assert os.listdir(directory) == [f"{label}.pid"]
    assert files.socket_path == f"{directory}/{label}.sock"
    files.release()
    assert os.listdir(directory) == []


def test_the_second_start_is_told_the_name(directory: str, start: SimpleNamespace) -> None:
    pid = start.one(directory, "chat:handlers")
    with pytest.raises(ConfigError, match=rf"chat:handlers is already running \(pid {pid}\)"):
        RuntimeFiles([directory], "chat:handlers").acquire()


def test_a_second_pid_file_has_nothing_beside_it(directory: str, tmp_path: Path) -> None:
    """The application may have a socket of its own there."""
    (tmp_path / "app.sock").write_text("precious")
    files = RuntimeFiles([directory], "chat", str(tmp_path / "app.pid"))
    files.acquire()
    assert sorted(os.listdir(tmp_path)) == ["app.pid", "app.sock", "run"]
    assert (tmp_path / "app.pid").read_text() == f"{os.getpid()}\n"
    files.release()
    files.release()
    assert sorted(os.listdir(tmp_path)) == ["app.sock", "run"]
    assert (tmp_path / "app.sock").read_text() == "precious"
    assert os.listdir(directory) == []


def test_a_failed_start_leaves_nothing(directory: str, tmp_path: Path) -> None:
    (tmp_path / "app.pid").write_text("precious")
    with pytest.raises(ConfigError, match="exists and is not a pid file"):
        RuntimeFiles([directory], "chat", str(tmp_path / "app.pid")).acquire()
    assert os.listdir(directory) == []
    assert sorted(os.listdir(tmp_path)) == ["app.pid", "run"]


def test_a_failed_start_leaves_the_files_of_the_running_one(
    directory: str, tmp_path: Path, start: SimpleNamespace
) -> None:
    pid_file = str(tmp_path / "app.pid")
    pid = start.one(directory, "chat", pid_file)
    for name in ("other", "chat"):
        with pytest.raises(ConfigError, match="already running"):
            RuntimeFiles([directory], name, pid_file).acquire()
    assert Path(pid_file).read_text() == f"{pid}\n"
    assert sorted(os.listdir(directory)) == ["chat.pid", "chat.sock"]


# ---- files that are gone


def test_what_is_there_is_left_alone(directory: str) -> None:
    files = RuntimeFiles([directory], "chat")
    files.acquire()
    before = os.stat(f"{directory}/chat.pid").st_ino
    assert files.restore() is None
    assert os.stat(f"{directory}/chat.pid").st_ino == before
    files.release()


@pytest.mark.parametrize("gone", ["chat.pid", "app.pid"])
def test_a_pid_file_that_is_gone_is_made_anew(directory: str, gone: str) -> None:
    files = RuntimeFiles([directory], "chat", f"{directory}/app.pid")
    files.acquire()
    before = [descriptor for _, descriptor in files.kept()]
    os.unlink(f"{directory}/{gone}")
    assert {files.restore(), files.restore(1)} == {f"{directory}/{gone}", None}
    assert [holder(f"{directory}/{name}") for name in ("chat.pid", "app.pid")] == [os.getpid()] * 2
    assert (files.restore(), files.restore(1)) == (None, None)
    kept = {descriptor for _, descriptor in files.kept()}
    assert len(kept) == 2
    for descriptor in set(before) - kept:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
    files.release()
    assert os.listdir(directory) == []


def test_a_directory_that_is_gone_is_made_anew(directory: str) -> None:
    files = RuntimeFiles([directory], "chat")
    files.acquire()
    shutil.rmtree(directory)
    assert files.restore() == f"{directory}/chat.pid"
    files.release()


def test_if_it_cannot_be_made_the_files_are_in_the_next(default: list[str], tmp_path: Path) -> None:
    first = tmp_path / "first"
    default[:0] = [str(first), str(tmp_path / "file" / "no"), str(tmp_path / "second")]
    files = RuntimeFiles(default, "chat")
    files.acquire()
    assert files.socket_path == f"{first}/chat.sock"
    shutil.rmtree(first)
    first.write_text("")
    assert files.restore() == f"{tmp_path}/second/chat.pid"
    assert files.socket_path == f"{tmp_path}/second/chat.sock"
    files.release()
    assert os.listdir(tmp_path / "second") == []


def test_what_another_instance_holds_by_now_stays_its_own(
    directory: str, start: SimpleNamespace
) -> None:
    files = RuntimeFiles([directory], "chat")
    files.acquire()
    os.unlink(f"{directory}/chat.pid")
    pid = start.one(directory, "chat")
    with pytest.raises(ConfigError, match=rf"already running \(pid {pid}\)"):
        files.restore()
    files.release()
    assert holder(f"{directory}/chat.pid") == pid


def test_locks_pass_through_an_exec(directory: str, tmp_path: Path) -> None:
    files = RuntimeFiles([directory], "chat", str(tmp_path / "app.pid"))
    files.acquire()
    after = RuntimeFiles(["/nowhere", directory], "chat", str(tmp_path / "app.pid"))
    after.adopt(json.loads(json.dumps(files.kept())))
    assert after.socket_path == files.socket_path
    assert after.restore() is None
    after.release()
    assert os.listdir(tmp_path) == ["run"]


# ---- the look at them once a minute

WHAT = {
    "app.pid": "pid file",
    "app.sock": "control socket",
    "app.broker": "socket of the broker",
}


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
        self.broker = BrokerSocket(UnixFile(mode=0o600))
        self.broker.open(str(self.first / "app.broker"))
        self.check = RuntimeCheck(self.files, self.control, self.broker)
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
        self.broker.close()
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


@pytest.mark.parametrize("gone", ["app.pid", "app.sock", "app.broker"])
def test_one_file_that_is_gone(held: Held, caplog: pytest.LogCaptureFixture, gone: str) -> None:
    (held.first / gone).unlink()
    held.minute()
    assert held.is_reachable(held.first)
    held.minute()
    assert [record.getMessage() for record in caplog.records] == [
        f"the {WHAT[gone]} was gone; there is a new one at {held.first / gone}"
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
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
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
    monkeypatch.setattr(runtime_files.RuntimeCheck, "tick", lambda self, now: looks.append(now))
    with closing(World(tmp_path / "world")) as world:
        world.begin()
        world.sleep(1)
        assert looks[-1] == world.now
