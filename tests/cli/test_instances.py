"""How commands find the instance that they are for, by its runtime files."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from instance import wait_for
from unix_listener import listening_at

from gworker.cli import control_client, instances
from gworker.cli.instances import TITLE, Instance, NotRunning, find, scan
from gworker.config import runtime_dirs
from gworker.errors import ConfigError
from gworker.master.runtime_files import slug


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "run")


def test_an_instance_is_found_by_its_name_and_by_its_slug(
    directory: str, start: SimpleNamespace
) -> None:
    pid = start.one(directory, "chat:handlers")
    label = slug("chat:handlers")
    (instance,) = scan([directory])
    assert instance == Instance("chat:handlers", pid, f"{directory}/{label}.sock")
    assert find([directory], "chat:handlers") == find([directory]) == instance
    assert find([directory], label) == dataclasses.replace(instance, label=label)


def test_one_whose_title_is_cut_off_has_its_slug(directory: str, start: SimpleNamespace) -> None:
    """The room for a title is that of the arguments and the environment."""
    name = "n" * 60_000
    start.one(directory, name)
    (instance,) = scan([directory])
    assert instance.label in (slug(name), name)


def test_every_directory_is_searched(
    directory: str, tmp_path: Path, start: SimpleNamespace
) -> None:
    directories = ["/nowhere", str(tmp_path / "other"), directory]
    one, two = start.one(directory, "one"), start.one(directories[1], "two")
    assert [instance.pid for instance in scan(directories)] == [one, two]
    assert find(directories, "one").pid == one
    assert find(directories, "two").pid == two


@pytest.mark.parametrize("trap", ["foreign", "link"])
def test_a_default_directory_of_another_user_is_not_believed(
    directory: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: SimpleNamespace,
    trap: str,
) -> None:
    """Under /tmp any user can make the directory that is searched."""
    start.one(directory, "chat")
    asked = directory
    if trap == "link":
        asked = str(tmp_path / "link")
        os.symlink(directory, asked)
    assert find([asked], "chat").label == "chat", "a directory that was named"
    monkeypatch.setattr(runtime_dirs, "default_runtime_dirs", lambda: (asked,))
    if trap == "foreign":
        found = os.lstat(directory)
        owned = os.stat_result((*found[:4], 4711, *found[5:]))
        monkeypatch.setattr(
            runtime_dirs.os, "lstat", lambda path: owned if path == directory else os.stat(path)
        )
    assert scan([asked]) == []
    with pytest.raises(NotRunning):
        find([asked], "chat")


def test_the_directory_of_root_is_believed(
    directory: str, monkeypatch: pytest.MonkeyPatch, start: SimpleNamespace
) -> None:
    start.one(directory, "chat")
    found = os.lstat(directory)
    monkeypatch.setattr(runtime_dirs, "default_runtime_dirs", lambda: (directory,))
    monkeypatch.setattr(runtime_dirs.os, "geteuid", lambda: 4711)
    monkeypatch.setattr(
        runtime_dirs.os, "lstat", lambda path: os.stat_result((*found[:4], 0, *found[5:]))
    )
    assert find([directory], "chat").label == "chat"


def test_a_second_pid_file_leads_to_the_instance(
    directory: str, tmp_path: Path, start: SimpleNamespace
) -> None:
    """Also beside a socket of the application with the same name."""
    pid_file = str(tmp_path / "app.pid")
    with listening_at(str(tmp_path / "app.sock")):
        pid = start.one(directory, "chat", pid_file)
        assert Path(pid_file).read_text() == f"{pid}\n"
        assert find(["/nowhere"], pid_file=pid_file) == Instance(
            "chat", pid, f"{directory}/chat.sock"
        )


def test_the_pid_file_may_be_the_usual_one(directory: str, start: SimpleNamespace) -> None:
    pid_file = f"{directory}/chat.pid"
    start.one(directory, "chat", pid_file)
    assert find(["/nowhere"], pid_file=pid_file).socket == f"{directory}/chat.sock"


def test_an_instance_without_a_socket_has_none(directory: str, start: SimpleNamespace) -> None:
    start.one(directory, "chat")
    os.unlink(f"{directory}/chat.sock")
    found = find(["/nowhere"], pid_file=f"{directory}/chat.pid")
    with pytest.raises(
        NotRunning,
        match=rf"\(pid {found.pid}\) has no control socket: .* made anew within a minute",
    ):
        control_client.connect(found)


def test_another_users_instance_is_named_as_such(
    directory: str, monkeypatch: pytest.MonkeyPatch, start: SimpleNamespace
) -> None:
    pid = start.one(directory, "chat")

    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(instances.os, "listdir", refuse)
    with pytest.raises(ConfigError, match=f"pid {pid} belongs to another user"):
        find(["/nowhere"], pid_file=f"{directory}/chat.pid")


def test_a_pid_file_in_the_runtime_directory_is_no_second_instance(
    directory: str, start: SimpleNamespace
) -> None:
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
    one, two = start.one(directory, "one"), start.one(directory, "two:a")
    with pytest.raises(ConfigError, match=rf"one \(pid {one}\), two:a \(pid {two}\)"):
        find([directory])
    assert find([directory], "two:a").pid == two


# ---- what is believed (CVE-2018-16888)


@pytest.fixture
def pid_file(directory: str, start: SimpleNamespace) -> str:
    """The pid file of an instance that runs."""
    start.one(directory, "chat")
    return f"{directory}/chat.pid"


def doubts(directory: str, pid_file: str) -> str:
    """Why no command believes this file."""
    assert scan([directory]) == []
    with pytest.raises(NotRunning, match="no instance is running"):
        find([directory])
    with pytest.raises(NotRunning, match="^chat is not running; ") as by_name:
        find([directory], "chat")
    with pytest.raises(NotRunning) as by_file:
        find(["/nowhere"], pid_file=pid_file)
    doubt = str(by_file.value).removeprefix(f"the pid file {pid_file} is not believed: ")
    assert str(by_name.value).endswith(doubt)
    return doubt


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_pid_file_of_another_user_is_not_believed(directory: str, pid_file: str) -> None:
    """That user could have it name any process."""
    os.chown(pid_file, 4711, 4711)
    assert doubts(directory, pid_file).startswith(
        "it belongs to user 4711, neither to root nor to you"
    )


def test_a_pid_file_that_others_may_write_is_not_believed(directory: str, pid_file: str) -> None:
    os.chmod(pid_file, 0o666)
    assert doubts(directory, pid_file) == "others may write it"


def test_the_pid_file_of_root_is_believed_by_all(
    pid_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs an instance of root")
    monkeypatch.setattr(instances.os, "geteuid", lambda: 4711)
    assert instances.master(pid_file) is not None


def other_program(pid_file: str, number: str, title: str = "") -> subprocess.Popen[str]:
    """A program that is no arbiter, holds the lock of `pid_file`, and has written `number` into
    it."""
    code = f"""
import fcntl, os, setproctitle, signal
{title and f"setproctitle.setproctitle({title!r})"}
file = open({pid_file!r}, "w")
os.fchmod(file.fileno(), 0o644)
fcntl.flock(file, fcntl.LOCK_EX)
print({number}, file=file, flush=True)
print("held", flush=True)
signal.pause()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize(
    "title", ["", "gworker: worker [chat] chat#0", "not gworker: master [chat]"]
)
def test_the_process_has_to_be_an_arbiter(directory: str, title: str) -> None:
    os.mkdir(directory)
    pid_file = f"{directory}/chat.pid"
    with other_program(pid_file, "os.getpid()", title) as process:
        assert doubts(directory, pid_file) == f"process {process.pid} is no gworker master"
        process.kill()


def test_a_number_that_is_no_process(directory: str) -> None:
    os.mkdir(directory)
    pid_file = f"{directory}/chat.pid"
    with other_program(pid_file, "4194304") as process:  # more than there can be (proc(5), pid_max)
        assert doubts(directory, pid_file) == "there is no process 4194304"
        process.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a process of another user")
def test_the_process_has_to_be_the_owners(directory: str) -> None:
    """A title says nothing: every user can give a process this one."""
    os.mkdir(directory)
    pid_file = f"{directory}/chat.pid"
    code = (
        "import os, setproctitle, signal; os.setuid(4711); "
        f"setproctitle.setproctitle({TITLE!r}); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as foreign:
        wait_for(
            lambda: Path(f"/proc/{foreign.pid}/cmdline").read_text().startswith(TITLE), "its title"
        )
        with other_program(pid_file, str(foreign.pid)) as process:
            assert doubts(directory, pid_file) == f"process {foreign.pid} is not its owner's"
            process.kill()
        foreign.kill()


@pytest.mark.parametrize(
    ("command", "is_one"),
    [
        (["gworker: master [chat]"], True),
        (["/usr/bin/python3", "-m", "gworker", "app:handlers", "-d"], True),
        (["python3.11", "-X", "dev", "-m", "gworker", "app"], True),
        (["/opt/venv/bin/python", "/opt/venv/bin/gworker", "app"], True),
        (["python", "-P", "-m", "gworker", "--script", "/srv/start.py", "start"], True),
        (["gworker: worker [chat] chat#0"], False),
        (["tail", "-f", "/var/log/gworker"], False),
        (["python", "app.py", "gworker"], False),
        ([""], False),
    ],
)
def test_what_is_an_arbiter(command: list[str], is_one: bool) -> None:
    """While it is upgraded it has no title for a moment."""
    assert instances.is_master(command) == is_one
