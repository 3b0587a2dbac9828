"""What the watcher of --reload takes for a change: real files."""

from __future__ import annotations

import errno
import importlib.util
import os
import py_compile
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gworker.ipc.channel import Channel, pair
from gworker.master import file_watcher
from gworker.master.file_watcher import SETTLE_MOST_MS, State, Watch, forget_bytecode

NEVER = float("inf")


class Looking:
    """A Watch."""

    def __init__(self, *patterns: str) -> None:
        self.watch = Watch(patterns)

    def add(self, *files: Path, since: float = NEVER) -> None:
        self.watch.add([str(each) for each in files], since)

    def look(self) -> list[str]:
        """The names of what has changed since the last look."""
        return sorted(os.path.basename(each) for each in self.watch.changes())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text("one")
    return path


@pytest.fixture
def looking(file: Path) -> Looking:
    made = Looking()
    made.add(file)
    return made


def touch(path: Path) -> None:
    """Another time, whatever the clock of this file system."""
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 5_000_000))


def test_nothing_changes(looking: Looking) -> None:
    assert looking.look() == []


def test_what_is_written_has_changed_once(looking: Looking, file: Path) -> None:
    file.write_text("three")
    assert looking.look() == ["app.py"]
    assert looking.look() == []


def test_a_touch_and_a_file_in_place_of_another_are_changes(looking: Looking, file: Path) -> None:
    touch(file)
    assert looking.look() == ["app.py"]
    state = file.stat()
    other = file.with_suffix(".new")
    other.write_text("two")  # of the same size
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.rename(file)
    assert looking.look() == ["app.py"]


def test_what_comes_back_as_it_was_has_not_changed(looking: Looking, file: Path) -> None:
    backup = file.with_suffix(".py~")
    file.rename(backup)
    backup.rename(file)
    assert looking.look() == []


def test_a_file_that_is_removed_has_changed(looking: Looking, file: Path) -> None:
    file.unlink()
    assert looking.look() == ["app.py"]
    file.write_text("back")
    assert looking.look() == ["app.py"]


def test_what_was_changed_after_it_may_have_been_read_has_changed(
    tmp_path: Path, file: Path
) -> None:
    looking = Looking()
    since = file.stat().st_ctime + 0.001
    time.sleep(0.02)
    other = tmp_path / "other.py"
    other.write_text("x")
    os.utime(other, (1000.0, 1000.0))  # as rsync(1) does: it is no less new here
    looking.add(file, other, since=since)
    assert looking.look() == ["other.py"]
    looking.add(other, since=since)
    assert looking.look() == [], "it is known by now"


def test_a_missing_file_that_appears_has_changed(looking: Looking, tmp_path: Path) -> None:
    looking.add(tmp_path / "later.py")
    assert looking.look() == []
    (tmp_path / "later.py").write_text("x")
    assert looking.look() == ["later.py"]


def test_extra_patterns(tmp_path: Path) -> None:
    deep = tmp_path / "templates" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "page.html").write_text("x")
    looking = Looking(str(tmp_path / "templates" / "**" / "*.html"))
    assert looking.look() == []
    touch(deep / "page.html")
    assert looking.look() == ["page.html"]
    (deep / "new.html").write_text("x")
    (deep / "new.txt").write_text("x")
    assert looking.look() == ["new.html"]
    (deep / "page.html").unlink()
    assert looking.look() == ["page.html"]


def test_patterns_that_are_set_and_dropped(looking: Looking, tmp_path: Path) -> None:
    """As after a load that failed because a module is missing: it may appear beside the others."""
    (tmp_path / "unused.py").write_text("x")
    looking.watch.set_patterns([str(tmp_path / "*.py")], NEVER)
    assert looking.look() == []
    (tmp_path / "missing.py").write_text("x")
    touch(tmp_path / "unused.py")
    assert looking.look() == ["missing.py", "unused.py"]
    looking.watch.set_patterns([], NEVER)
    touch(tmp_path / "unused.py")
    (tmp_path / "another.py").write_text("x")
    assert looking.look() == []
    touch(tmp_path / "app.py")
    assert looking.look() == ["app.py"]


def test_what_appeared_before_the_pattern_was_set_has_changed(
    looking: Looking, tmp_path: Path
) -> None:
    since = (tmp_path / "app.py").stat().st_ctime + 0.001
    time.sleep(0.02)
    (tmp_path / "missing.py").write_text("x")
    looking.watch.set_patterns([str(tmp_path / "*.py")], since)
    assert looking.look() == ["missing.py"]


# ---- bytecode


@pytest.mark.parametrize("same", [True, False])
def test_bytecode_that_python_would_take_for_current_is_removed(file: Path, same: bool) -> None:
    """Python compares whole seconds and sizes: two edits within a second may look the same to
    it."""
    file.write_text("x = 1\n")
    os.utime(file, ns=(0, 1_000_100_000_000))
    py_compile.compile(str(file), doraise=True)
    cached = Path(importlib.util.cache_from_source(str(file)))
    before = file_watcher.state_of(str(file))
    file.write_text("x = 2\n" if same else "x = 22\n")
    os.utime(file, ns=(0, 1_000_900_000_000))
    forget_bytecode(
        {
            str(file): (before, file_watcher.state_of(str(file))),
            "/gone.py": (before, None),
            "/n": (None, before),
        }
    )
    assert cached.exists() != same


def test_bytecode_of_a_file_that_changed_before_it_was_watched_is_removed(file: Path) -> None:
    """A handler has imported it, and the edit came before that was told: the watcher never saw what
    was imported."""
    file.write_text("x = 1\n")
    py_compile.compile(str(file), doraise=True)
    watch = Watch()
    watch.add([str(file)], since=0.0)
    changed = watch.changes()
    assert [before for before, _ in changed.values()] == [None]
    forget_bytecode(changed)
    assert not Path(importlib.util.cache_from_source(str(file))).exists()


# ---- where it looks


def test_a_directory_that_is_missing_appears_in_one_that_is_there(tmp_path: Path) -> None:
    watch = Watch([str(tmp_path / "templates" / "**" / "*.html")])
    assert set(watch.directories()) == {str(tmp_path)}
    (tmp_path / "templates" / "deep").mkdir(parents=True)
    assert set(watch.directories()) == {
        str(tmp_path / "templates"), str(tmp_path / "templates" / "deep")
    }  # fmt: skip


def test_a_symbolic_link_on_the_way_to_a_file_may_be_changed(tmp_path: Path) -> None:
    (tmp_path / "releases" / "1").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1")
    watch = Watch()
    watch.add([str(tmp_path / "current" / "app.py")], NEVER)
    assert set(watch.directories()) == {str(tmp_path), str(tmp_path / "current")}


def test_a_directory_in_place_of_another_is_another(tmp_path: Path) -> None:
    watch = Watch()
    watch.add([str(tmp_path / "lib" / "a.py")], NEVER)
    (tmp_path / "lib").mkdir()
    before = watch.directories()
    (tmp_path / "new").mkdir()
    (tmp_path / "lib").rename(tmp_path / "old")
    (tmp_path / "new").rename(tmp_path / "lib")
    assert watch.directories().keys() == before.keys()
    assert watch.directories() != before


# ---- the process


class Running:
    """The watcher over real files, in a thread."""

    def __init__(self, *patterns: str) -> None:
        self.channel, theirs = pair()
        self._thread = threading.Thread(target=file_watcher.run, args=(theirs, patterns))
        self._theirs = theirs
        self._thread.start()

    def add(self, *files: Path) -> None:
        """Let it watch these; return when it does."""
        self.channel.send({"files": [str(each) for each in files], "since": time.time() - 3600})
        assert self.told(), "what was written after `since` has changed"

    def told(self, seconds: float = 10.0) -> list[str]:
        """The names of what it tells next; nothing if it is silent for so long."""
        if not select.select([self.channel], [], [], seconds)[0]:
            return []
        message, _ = self.channel.receive()
        assert message is not None
        return [os.path.basename(each) for each in message["paths"]]

    def close(self) -> None:
        self.channel.close()
        self._thread.join()
        self._theirs.close()


@pytest.fixture(params=["inotify", "polling"])
def running(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    if request.param == "polling":
        monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "1")
    made = Running()
    yield made
    made.close()


def test_an_editor_that_moves_the_file_away_first_is_one_change(
    running: Running, file: Path
) -> None:
    running.add(file)
    file.rename(file.with_suffix(".py~"))
    time.sleep(0.03)
    file.write_text("new")
    assert running.told() == ["app.py"]
    assert running.told(0.8) == []


def test_several_files_are_one_change(running: Running, tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("x")
    running.add(other, file)
    touch(file)
    time.sleep(0.03)
    touch(other)
    assert running.told() == ["app.py", "other.py"]


def test_a_file_that_never_keeps_still_is_told_in_the_end(running: Running, file: Path) -> None:
    running.add(file)
    began = time.monotonic()
    while not (told := running.told(0.04)):
        touch(file)
        assert time.monotonic() - began < SETTLE_MOST_MS / 1000 + 10
    assert told == ["app.py"]


def test_what_happens_to_other_files_is_not_told(
    running: Running, tmp_path: Path, file: Path
) -> None:
    running.add(file)
    (tmp_path / "other.log").write_text("x")
    assert running.told(0.8) == []


def test_a_release_that_is_put_in_place_of_another_is_seen(
    running: Running, tmp_path: Path
) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.py").write_text(name)
    (tmp_path / "current").symlink_to("1")
    running.add(tmp_path / "current" / "app.py")
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(tmp_path / "current")
    assert running.told() == ["app.py"]
    (tmp_path / "2" / "app.py").write_text("3")
    assert running.told() == ["app.py"]


def test_a_directory_whose_name_is_no_utf8_is_watched(tmp_path: Path) -> None:
    directory = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    directory.mkdir()
    file = directory / "app.py"
    file.write_text("one")
    running = Running()
    running.add(file)
    file.write_text("three")
    assert running.told() == ["app.py"]
    running.close()


def test_where_the_kernel_has_no_watch_left_it_polls(
    monkeypatch: pytest.MonkeyPatch, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def watch(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("watchfiles.watch", watch)
    running = Running()
    running.add(file)
    touch(file)
    assert running.told() == ["app.py"]
    running.close()
    assert "No space left on device" in caplog.text


def test_it_ends_with_the_arbiter(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    ours, theirs = pair()
    ours.send({"files": [str(file)], "since": 1e12})
    ours.send({"patterns": [], "since": 0.0})
    ours.close()
    assert file_watcher.run(theirs, ()) == 0
    theirs.close()


def test_it_tells_what_changed_and_how_much_more(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair()

    class Changed(Watch):
        def changes(self) -> dict[str, tuple[State, State]]:
            ours.close()
            return {f"/{number:03}.txt": (None, (1, 1, 1)) for number in range(25)}

    heard: list[object] = []
    monkeypatch.setattr(
        Channel, "send", lambda _, message, descriptors=(): bool(heard.append(message)) or True
    )
    monkeypatch.setattr(file_watcher, "Watch", Changed)
    assert file_watcher.run(theirs, ()) == 0
    assert heard == [
        {"event": "changed", "paths": [f"/{number:03}.txt" for number in range(20)], "more": 5}
    ]
    theirs.close()
