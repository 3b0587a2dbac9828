"""The current directory by the name that the user gave it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gworker.config.parsers import path
from gworker.system import directory


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`current` leads to `releases/1`, and is the current directory."""
    (tmp_path / "releases" / "1" / "bin").mkdir(parents=True)
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "1")
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setenv("PWD", str(tmp_path / "current"))
    return tmp_path


def test_the_name_in_pwd_is_kept(site: Path) -> None:
    assert os.getcwd() == f"{site}/releases/1"
    assert directory.current() == f"{site}/current"


@pytest.mark.parametrize(
    "spelt", ["", ".", "current", "{}", "{}/nowhere", "{}/current/bin/..", "{}/./current"]
)
def test_a_name_of_something_else_is_not(
    site: Path, monkeypatch: pytest.MonkeyPatch, spelt: str
) -> None:
    monkeypatch.setenv("PWD", spelt.format(site))
    assert directory.current() == f"{site}/releases/1"
    monkeypatch.delenv("PWD")
    assert directory.current() == f"{site}/releases/1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("app.py", "{}/current/app.py"),
        ("", "{}/current"),
        (".", "{}/current"),
        ("bin/../app.py", "{}/current/app.py"),
        ("../x.pid", "{}/releases/x.pid"),  # where open(2) looks for it
        ("/a/../b", "/b"),
    ],
)
def test_paths_begin_there(site: Path, given: str, expected: str) -> None:
    assert directory.absolute(given) == expected.format(site)


def test_a_path_out_of_a_directory_below_stays_in_the_release(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(site / "current" / "bin")
    monkeypatch.setenv("PWD", f"{site}/current/bin")
    assert directory.absolute("../app.py") == f"{site}/current/app.py"
    assert directory.absolute("../app.py", f"{site}/current/bin") == f"{site}/current/app.py"


@pytest.mark.parametrize(
    ("real", "spelt"),
    [
        ("{}/releases/1", "{}/current"),
        ("{}/releases/1/start.py", "{}/current/start.py"),
        ("{}/releases/12/start.py", "{}/releases/12/start.py"),
        ("/usr/lib/python", "/usr/lib/python"),
    ],
)
def test_what_python_has_made_absolute_is_spelt_again(site: Path, real: str, spelt: str) -> None:
    assert directory.respelt(real.format(site)) == spelt.format(site)


def test_entering_tells_the_name(site: Path) -> None:
    directory.enter(f"{site}/current/bin")
    assert (os.getcwd(), os.environ["PWD"]) == (f"{site}/releases/1/bin", f"{site}/current/bin")


def test_in_a_directory_that_was_removed(site: Path) -> None:
    (site / "releases" / "1" / "bin").rmdir()
    (site / "releases" / "1").rmdir()
    assert path("/a/b") == "/a/b"
    with pytest.raises(ValueError, match="an absolute path, for the current directory was removed"):
        path("b")
    assert directory.respelt("/a/b") == "/a/b"
