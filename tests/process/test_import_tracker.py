"""What a child says that it has imported."""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gworker
from gworker.ipc import channel
from gworker.ipc.channel import pair
from gworker.process import import_tracker
from gworker.process.import_tracker import ImportReporter, files_of, is_watched


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on sys.path; what is imported from it is forgotten."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = dict(sys.modules)
    yield tmp_path  # type: ignore[misc]
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


class Line:
    """A reporter and what it reports."""

    def __init__(self) -> None:
        self.ours, self.theirs = pair()
        self.reporter = ImportReporter(self.theirs, 12.5)

    def heard(self) -> list[dict[str, Any]]:
        found = []
        while True:
            try:
                message, _ = self.ours.receive()
            except BlockingIOError:
                return found
            assert message is not None
            assert (message["event"], message["since"]) == ("files", 12.5)
            found.append(message)

    def files(self) -> set[str]:
        return {path for message in self.heard() for path in message["files"]}

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


def test_code_that_is_never_edited_is_not_watched() -> None:
    stdlib = sysconfig.get_path("stdlib")
    assert not is_watched(os.path.join(stdlib, "json", "__init__.py"))
    assert not is_watched("/srv/app/.venv/lib/python3.11/site-packages/django/x.py")
    assert not is_watched("/usr/lib/python3/dist-packages/apt.py")
    assert not is_watched(os.path.abspath(gworker.__file__))
    assert not is_watched("relative.py")
    assert is_watched("/srv/app/app.py")
    assert is_watched(stdlib + "-of-mine/app.py")


def test_each_file_is_told_once(code: Path) -> None:
    line = Line()
    line.reporter.poll()
    assert str(code / "first.py") not in line.files()
    (code / "first.py").write_text("")
    importlib.import_module("first")
    line.reporter.poll()
    assert line.files() == {str(code / "first.py")}
    line.reporter.poll()
    assert line.heard() == []
    (code / "second.py").write_text("")
    importlib.import_module("second")  # as an import inside a function does
    line.reporter.poll()
    assert line.files() == {str(code / "second.py")}
    line.close()


def test_modules_that_are_something_else_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise RuntimeError("loaded too early")

    strange = ModuleType("strange")
    strange.__file__ = 7  # type: ignore[assignment]
    for number, value in enumerate([None, object(), Lazy("lazy"), strange]):
        monkeypatch.setitem(sys.modules, f"strange{number}", value)  # type: ignore[arg-type]
    line = Line()
    line.reporter.poll()
    line.close()


def test_what_the_arbiter_does_not_read_now_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        import_tracker,
        "imported",
        lambda: {f"/srv/{number:05}{'x' * 900}.py" for number in range(2000)},
    )
    line = Line()
    found: set[str] = set()
    looks = 0
    while len(found) < 2000:
        line.reporter.poll()
        found |= line.files()
        looks += 1
        assert looks < 100
    assert looks > 1, "it did not fit at once"
    line.close()


def test_chunks_fit_whatever_the_names_are() -> None:
    names = ["é" * 4000] * 40
    assert [name for chunk in channel.chunks(names) for name in chunk] == names
    ours, theirs = pair()
    for chunk in channel.chunks(["\udcff" * 4000] * 9):
        assert ours.send({"event": "files", "files": chunk})
        assert theirs.receive()[0] == {"event": "files", "files": chunk}
    ours.close()
    theirs.close()


def failure(code: Path, **files: str) -> BaseException:
    for name, text in files.items():
        (code / f"{name}.py").write_text(text)
    with pytest.raises(Exception) as raised:
        importlib.import_module(next(iter(files)))
    return raised.value


def test_the_files_of_a_failure(code: Path) -> None:
    error = failure(code, outer="import middle", middle="import broken", broken="x = (\n")
    assert files_of(error) >= {str(code / f"{name}.py") for name in ("outer", "middle", "broken")}
    wrapped = RuntimeError("cannot load")
    wrapped.__cause__ = error
    assert files_of(wrapped) == files_of(error)
    error.__context__ = wrapped  # a ring
    assert files_of(wrapped) == files_of(error)


def test_a_current_directory_that_was_removed_does_no_harm(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = failure(code, outer="exec('1 / 0')")
    (code / "gone").mkdir()
    monkeypatch.chdir(code / "gone")
    (code / "gone").rmdir()
    assert str(code / "outer.py") in files_of(error)
    assert not {path for path in files_of(error) if "<" in path}
    line = Line()
    line.reporter.report_failure(SyntaxError("broken", ("relative.py", 1, 1, "")))
    assert not {path for path in line.files() if path.endswith("relative.py")}
    line.close()


def test_a_failure_while_another_was_handled(code: Path) -> None:
    error = failure(
        code,
        outer="try:\n    import fails\nexcept ValueError:\n    raise TypeError",
        fails="raise ValueError",
    )
    assert str(code / "fails.py") in files_of(error)


def test_a_failed_load_tells_where_what_is_missing_may_appear(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code / "pack[age]").mkdir()
    monkeypatch.chdir(code / "pack[age]")
    error = failure(code, outer="import not_there")
    line = Line()
    line.reporter.report_failure(error)
    heard = line.heard()
    assert str(code / "outer.py") in {path for message in heard for path in message["files"]}
    patterns = {each for message in heard for each in message["patterns"]}
    assert {str(code / "*.py"), str(code / "pack[[]age]" / "*.py")} <= patterns
    line.close()
