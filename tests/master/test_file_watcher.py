"""What the watcher of --reload takes for a change: an invented clock, real files."""

from __future__ import annotations

import importlib.util
import os
import py_compile
from pathlib import Path

import pytest

from gworker.ipc.channel import Channel, pair
from gworker.master import file_watcher
from gworker.master.file_watcher import (
    SETTLE_LOOK,
    SETTLE_MOST,
    SETTLE_SECONDS,
    State,
    Watch,
    forget_bytecode,
)

NEVER = float("inf")


class Looking:
    """A Watch and its clock."""

    def __init__(self, *patterns: str) -> None:
        self.watch = Watch(patterns)
        self.now = 100.0

    def add(self, *files: Path, since: float = NEVER) -> None:
        self.watch.add([str(each) for each in files], since)

    def look(self, seconds: float = 0.0) -> list[str]:
        """The names of what has changed, `seconds` after the last look."""
        self.now += seconds
        return sorted(os.path.basename(each) for each in self.watch.look(self.now))

    def settle(self) -> list[str]:
        """What has changed in the end."""
        found = self.look(1.0)
        assert found == [], "a change is not told before it has kept still"
        return self.look(SETTLE_SECONDS + 0.01)


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
    assert looking.settle() == []
    assert not looking.watch.is_settling


def test_what_is_written_has_changed_once(looking: Looking, file: Path) -> None:
    file.write_text("three")
    assert looking.settle() == ["app.py"]
    assert looking.settle() == []


def test_a_touch_and_a_file_in_place_of_another_are_changes(looking: Looking, file: Path) -> None:
    touch(file)
    assert looking.settle() == ["app.py"]
    state = file.stat()
    other = file.with_suffix(".new")
    other.write_text("two")  # of the same size
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.rename(file)
    assert looking.settle() == ["app.py"]


def test_an_editor_that_moves_the_file_away_first_is_one_change(
    looking: Looking, file: Path
) -> None:
    backup = file.with_suffix(".py~")
    file.rename(backup)
    assert looking.look(1.0) == []
    file.write_text("new")
    assert looking.look(0.05) == [], "it has changed again: the clock begins anew"
    assert looking.look(0.06) == []
    assert looking.look(0.05) == ["app.py"]
    assert looking.settle() == []


def test_what_comes_back_as_it_was_has_not_changed(looking: Looking, file: Path) -> None:
    backup = file.with_suffix(".py~")
    file.rename(backup)
    assert looking.look(1.0) == []
    backup.rename(file)
    assert looking.settle() == []


def test_a_file_that_is_removed_has_changed(looking: Looking, file: Path) -> None:
    file.unlink()
    assert looking.settle() == ["app.py"]
    file.write_text("back")
    assert looking.settle() == ["app.py"]


def test_a_file_that_never_keeps_still_is_told_in_the_end(looking: Looking, file: Path) -> None:
    seconds = 0.0
    while True:
        touch(file)
        if looking.look(SETTLE_LOOK):
            break
        seconds += SETTLE_LOOK
        assert seconds < SETTLE_MOST + 1
    assert seconds >= SETTLE_MOST - SETTLE_LOOK


def test_several_files_are_one_change(looking: Looking, tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("x")
    looking.add(other, file)
    touch(file)
    assert looking.look(1.0) == []
    touch(other)
    assert looking.look(0.05) == []
    assert looking.look(SETTLE_SECONDS + 0.01) == ["app.py", "other.py"]


def test_what_was_changed_after_it_may_have_been_read_has_changed(
    tmp_path: Path, file: Path
) -> None:
    looking = Looking()
    os.utime(file, (1000.0, 1000.0))
    other = tmp_path / "other.py"
    other.write_text("x")
    os.utime(other, (1002.0, 1002.0))
    looking.add(file, other, since=1001.0)
    assert looking.settle() == ["other.py"]
    looking.add(other, since=1001.0)
    assert looking.settle() == [], "it is known by now"


def test_a_missing_file_that_appears_has_changed(looking: Looking, tmp_path: Path) -> None:
    looking.add(tmp_path / "later.py")
    assert looking.settle() == []
    (tmp_path / "later.py").write_text("x")
    assert looking.settle() == ["later.py"]


def test_extra_patterns(tmp_path: Path) -> None:
    deep = tmp_path / "templates" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "page.html").write_text("x")
    looking = Looking(str(tmp_path / "templates" / "**" / "*.html"))
    assert looking.settle() == []
    touch(deep / "page.html")
    assert looking.settle() == ["page.html"]
    (deep / "new.html").write_text("x")
    (deep / "new.txt").write_text("x")
    assert looking.settle() == ["new.html"]
    (deep / "page.html").unlink()
    assert looking.settle() == ["page.html"]


def test_patterns_that_are_set_and_dropped(looking: Looking, tmp_path: Path) -> None:
    """As after a load that failed because a module is missing: it may appear beside the others."""
    (tmp_path / "unused.py").write_text("x")
    looking.watch.set_patterns([str(tmp_path / "*.py")], NEVER)
    assert looking.settle() == []
    (tmp_path / "missing.py").write_text("x")
    touch(tmp_path / "unused.py")
    assert looking.settle() == ["missing.py", "unused.py"]
    looking.watch.set_patterns([], NEVER)
    touch(tmp_path / "unused.py")
    (tmp_path / "another.py").write_text("x")
    assert looking.settle() == []
    touch(tmp_path / "app.py")
    assert looking.settle() == ["app.py"]


def test_what_appeared_before_the_pattern_was_set_has_changed(
    looking: Looking, tmp_path: Path
) -> None:
    (tmp_path / "missing.py").write_text("x")
    os.utime(tmp_path / "missing.py", (1002.0, 1002.0))
    looking.watch.set_patterns([str(tmp_path / "*.py")], 1001.0)
    assert looking.settle() == ["missing.py"]


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
    changed = [look for now in (0.0, 1.0) if (look := watch.look(now))]
    assert [before for look in changed for before, _ in look.values()] == [None]
    forget_bytecode(changed[0])
    assert not Path(importlib.util.cache_from_source(str(file))).exists()


# ---- the process


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
        def look(self, now: float) -> dict[str, tuple[State, State]]:
            ours_copy.append(now)
            if len(ours_copy) > 1:
                ours.close()
                return {}
            return {f"/{number:03}.txt": (None, None) for number in range(25)}

    ours_copy: list[float] = []
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
