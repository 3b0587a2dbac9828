"""Settings: layers that are merged, and what they become."""

from __future__ import annotations

import argparse
import dataclasses
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from gworker.config import settings as config
from gworker.config.options import add_options
from gworker.config.settings import Layer, Settings, merge, resolve


def parse(*argv: str) -> Settings:
    parser = argparse.ArgumentParser(prog="gworker", allow_abbrev=False)
    add_options(parser)
    return resolve("app:handlers", config.command_line(parser.parse_args(argv)))


def test_paths_are_absolute_against_the_directory_at_parsing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = parse(
        "--pid",
        "x.pid",
        "--runtime-dir",
        "run",
        "--chdir",
        "sub",
        "--stdout-file",
        "o",
        "--log-file",
        "../l",
    )
    expected = [
        f"{tmp_path}/x.pid",
        f"{tmp_path}/run",
        f"{tmp_path}/sub",
        f"{tmp_path}/o",
        f"{tmp_path.parent}/l",
    ]
    assert [made.pid, made.runtime_dir, made.chdir, made.stdout_file, made.log_file] == expected


@pytest.mark.parametrize("attribute", ["", ":app", ":make()"])
def test_a_file_target_stays_that_file_after_chdir(
    attribute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").touch()
    chdir = Layer("command line", {"chdir": "/"})
    assert resolve(f"app.py{attribute}", chdir).target == f"{tmp_path}/app.py{attribute}"
    assert resolve(f"app.py{attribute}", chdir).name == f"app.py{attribute}"
    assert resolve(f"app.py{attribute}").target == f"app.py{attribute}"
    for kept in (f"app{attribute}", f"gone.py{attribute}"):
        assert resolve(kept, chdir).target == kept


def test_later_layers_win_and_origins_are_known() -> None:
    file = Layer("gworker.toml", {"workers": 2, "timeout": 5.0})
    environment = Layer("GWORKER_WORKERS", {"workers": 3})
    merged = merge([file, environment])
    assert merged["workers"] == (3, "GWORKER_WORKERS")
    assert merged["timeout"] == (5.0, "gworker.toml")
    assert merged["log_level"] == ("info", "default")
    assert resolve("t", file, environment).workers == 3


def test_without_a_target_and_with_script() -> None:
    assert resolve(None, Layer("x", {"name": "n"})).target is None
    assert resolve("start.py", script=True).script


def test_settings_are_frozen() -> None:
    frozen: Any = parse()
    with pytest.raises(dataclasses.FrozenInstanceError):
        frozen.workers = 3


def test_stat_is_left_alone(tmp_path: Path) -> None:
    """Resolving makes nothing: commands for a running instance resolve too."""
    resolve("t", Layer("x", {"runtime_dir": str(tmp_path / "run")}))
    assert stat.S_ISDIR(os.stat(tmp_path).st_mode)
    assert list(tmp_path.iterdir()) == []
