"""PidFile: the lock decides, through crashes, forks, reused numbers and races."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import places
import pytest

from gworker.errors import ConfigError
from gworker.system import pid_file as pidfile
from gworker.system.pid_file import PidFile, holder


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "app.pid")


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked child, which then waits to be killed. Returns its pid once `work` is
    done."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            work()
            os.write(writer, b"+")
            os.close(writer)
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    done = os.read(reader, 1)
    os.close(reader)
    assert done == b"+"
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_content_and_mode_whatever_the_umask(path: str) -> None:
    mask = os.umask(0o077)
    try:
        PidFile(path).acquire()
    finally:
        os.umask(mask)
    assert Path(path).read_bytes() == b"%d\n" % os.getpid()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
    assert os.listdir(os.path.dirname(path)) == ["app.pid"]


def test_the_holder_is_seen_while_it_lives(path: str) -> None:
    assert holder(path) is None
    pid_file = PidFile(path)
    pid_file.acquire()
    assert holder(path) == os.getpid()
    pid_file.release()
    assert holder(path) is None
    assert not os.path.exists(path)


def test_a_second_owner_is_refused_and_told_the_pid(path: str) -> None:
    owner = in_child(PidFile(path).acquire)
    try:
        with pytest.raises(ConfigError, match=rf"is already running \(pid {owner}\)"):
            PidFile(path).acquire()
        assert holder(path) == owner
    finally:
        end(owner)


def test_the_file_of_a_killed_owner_is_taken_over(path: str) -> None:
    end(in_child(PidFile(path).acquire))
    assert os.path.exists(path)
    assert holder(path) is None
    PidFile(path).acquire()
    assert holder(path) == os.getpid()


@pytest.mark.parametrize(
    "content",
    ["", "\n", f"{os.getpid()}\n", "1", "99999999\n"],
    ids=["empty", "blank", "own", "init", "nobody"],
)
def test_a_number_without_a_lock_counts_for_nothing(path: str, content: str) -> None:
    Path(path).write_text(content)
    assert holder(path) is None
    PidFile(path).acquire()
    assert Path(path).read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("content", ["print('hello')\n", "12 13\n", "1" * 65, "-1\n"])
def test_a_file_of_another_kind_is_left_alone(path: str, content: str) -> None:
    Path(path).write_text(content)
    with pytest.raises(ConfigError, match="is not a pid file"):
        PidFile(path).acquire()
    assert Path(path).read_text() == content


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_the_stale_file_of_another_user_becomes_ours(path: str) -> None:
    """Commands believe a pid file that belongs to root, to their user and to the arbiter's."""
    Path(path).write_text("4711\n")
    os.chown(path, 65534, 65534)
    PidFile(path).acquire()
    assert os.stat(path).st_uid == os.geteuid()
    assert holder(path) == os.getpid()


def test_a_hard_link_is_not_written_through(path: str, tmp_path: Path) -> None:
    other = tmp_path / "counter"
    other.write_text("1\n")
    os.link(other, path)
    PidFile(path).acquire()
    assert other.read_text() == "1\n"


def test_a_stale_file_that_may_not_be_written_is_replaced(path: str) -> None:
    Path(path).write_text("4711\n")
    os.chmod(path, 0o444)
    PidFile(path).acquire()
    assert Path(path).read_bytes() == b"%d\n" % os.getpid()


def test_a_directory_a_fifo_and_a_symlink_are_refused(path: str, tmp_path: Path) -> None:
    os.mkdir(path)
    with pytest.raises(ConfigError, match="is not a pid file"):
        PidFile(path).acquire()
    os.rmdir(path)
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="is not a pid file"):
        PidFile(path).acquire()
    os.unlink(path)
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(ConfigError, match="cannot write pid file"):
        PidFile(path).acquire()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no/app\.pid: No such file"):
        PidFile(str(tmp_path / "no" / "app.pid")).acquire()


def test_a_child_that_keeps_the_file_open_keeps_the_lock(path: str) -> None:
    """Why close_in_child exists: the kernel's rule, stated so that a change of it would be seen."""
    pid_file = PidFile(path)
    pid_file.acquire()
    child = in_child(lambda: None)
    try:
        os.close(pid_file.fileno())  # the owner dies
        assert holder(path) is not None
    finally:
        end(child)
    assert holder(path) is None


def test_a_child_that_closed_its_copy_neither_unlocks_nor_keeps(path: str) -> None:
    pid_file = PidFile(path)
    pid_file.acquire()
    child = in_child(pid_file.close_in_child)
    try:
        assert holder(path) == os.getpid()
        os.close(pid_file.fileno())
        assert holder(path) is None
    finally:
        end(child)


def test_release_in_a_child_removes_nothing(path: str) -> None:
    pid_file = PidFile(path)
    pid_file.acquire()
    end(in_child(pid_file.release))
    assert holder(path) == os.getpid()


def test_release_leaves_a_file_that_is_not_ours(path: str) -> None:
    pid_file = PidFile(path)
    pid_file.acquire()
    os.unlink(path)
    successor = in_child(PidFile(path).acquire)
    try:
        pid_file.release()
        assert holder(path) == successor
    finally:
        end(successor)


def test_release_twice_and_unacquired(path: str) -> None:
    pid_file = PidFile(path)
    pid_file.release()
    pid_file.acquire()
    pid_file.release()
    pid_file.release()


def test_a_reader_in_the_way_is_no_owner(path: str) -> None:
    """`holder` locks for an instant; a start at that instant must not fail."""
    Path(path).write_text("1\n")
    reader = subprocess.Popen(
        [sys.executable, "-c", _READER, path],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "locked\n"
    assert holder(path) is None  # two readers do not see an owner in each other
    PidFile(path).acquire()  # spins until the reader lets go, which it does by itself
    assert holder(path) == os.getpid()
    reader.communicate(timeout=10)


def test_a_reader_that_stays_is_told(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pidfile, "READERS_SECONDS", 0.1)
    Path(path).write_text("1\n")
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(ConfigError, match="another program keeps a lock on it"):
            PidFile(path).acquire()
    assert Path(path).read_text() == "1\n"
    PidFile(path).acquire()


def test_a_file_replaced_between_open_and_lock(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of a file that is no longer there is worth nothing: its name has another owner by
    now."""
    Path(path).write_text("1\n")
    owners: list[int] = []

    def overtaken(name: str, flags: int, mode: int = 0) -> int:
        fd = real(name, flags, mode)
        if not owners:
            owners.append(0)  # from here on the real function, also in the child
            os.unlink(path)
            owners[0] = in_child(PidFile(path).acquire)
        return fd

    real = pidfile._open
    monkeypatch.setattr(pidfile, "_open", overtaken)
    try:
        with pytest.raises(ConfigError, match="is already running"):
            PidFile(path).acquire()
        assert holder(path) == owners[0]
    finally:
        end(owners[0])


_READER = """
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_SH)
print("locked", flush=True)
time.sleep(0.2)
"""

_RACER = places.program("races_for_pid_file")


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_at_once_one_wins(path: str, stale: bool) -> None:
    if stale:
        Path(path).write_text("1\n")
    racers = [
        subprocess.Popen(
            [*_RACER, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    verdicts = [racer.stdout.readline().strip() for racer in racers if racer.stdout]
    winner = racers[verdicts.index("won")]
    assert verdicts.count("won") == 1
    assert holder(path) == winner.pid
    assert os.listdir(os.path.dirname(path)) == ["app.pid"]
    for racer in racers:
        racer.communicate(timeout=10)
