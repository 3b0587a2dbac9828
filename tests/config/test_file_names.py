"""File names of instances; where a daemon's log is without --log-file, and what a user sees of
that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gworker.config import file_names
from gworker.config.file_names import MAX_SLUG, broker_path, slug
from gworker.config.report import rows
from gworker.config.settings import Layer, Settings, resolve
from gworker.errors import ConfigError

Environ = dict[str, str]

PLACES: list[tuple[int, Environ, str]] = [
    (0, {"LOGS_DIRECTORY": "/var/log/shop"}, "/var/log/shop"),
    (1000, {"LOGS_DIRECTORY": "/var/log/shop:/var/log/more"}, "/var/log/shop"),
    (0, {"LOGS_DIRECTORY": ""}, "/var/log/gworker"),
    (0, {"XDG_STATE_HOME": "/xdg", "HOME": "/home/ann"}, "/var/log/gworker"),
    (1000, {"XDG_STATE_HOME": "/xdg", "HOME": "/home/ann"}, "/xdg/gworker"),
    (1000, {"XDG_STATE_HOME": "xdg", "HOME": "/home/ann"}, "/home/ann/.local/state/gworker"),
    (1000, {"HOME": "/home/ann"}, "/home/ann/.local/state/gworker"),
]


def be(monkeypatch: pytest.MonkeyPatch, uid: int, environ: Environ) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    for name in ("LOGS_DIRECTORY", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def daemon(target: str = "app", **values: object) -> Settings:
    return resolve(target, Layer("command line", {"daemon": True, **values}))


@pytest.mark.parametrize(("uid", "environ", "directory"), PLACES)
def test_its_directory(
    monkeypatch: pytest.MonkeyPatch, uid: int, environ: Environ, directory: str
) -> None:
    be(monkeypatch, uid, environ)
    assert daemon().log_file == f"{directory}/app.log"
    assert daemon().has_default_log


def test_its_name_is_a_file_name(monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, 0, {})
    files = {daemon(target).log_file for target in ("a:b", "a/b", "a-b", "../../b", ".b")}
    assert len(files) == 5
    assert {os.path.dirname(str(file)) for file in files} == {"/var/log/gworker"}
    assert daemon("app:handlers", name="shop").log_file == "/var/log/gworker/shop.log"


def test_a_user_without_a_home_has_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, 987654, {})
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(ConfigError, match="this user has no home; give a --log-file"):
        daemon()
    assert daemon(log_file="/l").log_file == "/l"


def test_a_log_that_is_named_is_not_the_default() -> None:
    named = daemon(log_file="/l")
    assert (named.log_file, named.has_default_log) == ("/l", False)
    foreground = resolve("app", Layer("command line", {}))
    assert (foreground.log_file, foreground.has_default_log) == (None, False)


def test_it_is_shown_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, 0, {})
    (row,) = [row for row in rows(daemon()) if row.name == "log-file"]
    assert (row.value, row.origin) == ("/var/log/gworker/app.log", "default")


def test_its_directory_is_made_for_no_other_user(tmp_path: Path) -> None:
    file_names.prepare(str(tmp_path / "state" / "gworker" / "app.log"))
    assert (tmp_path / "state" / "gworker").stat().st_mode & 0o777 == 0o750
    file_names.prepare(str(tmp_path / "state" / "gworker" / "app.log"))


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "gworker" / "app.log"
    with pytest.raises(ConfigError, match=f"cannot write the log {path}: .*: Not a directory"):
        file_names.prepare(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a directory away")
@pytest.mark.parametrize(
    ("owner", "mode", "who"), [(65534, 0o755, "user 65534"), (0, 0o777, "every user")]
)
def test_root_writes_nowhere_where_others_can_replace_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, mode: int, who: str
) -> None:
    monkeypatch.setattr(file_names, "ROOTS", str(tmp_path))
    tmp_path.chmod(mode)
    os.chown(tmp_path, owner, -1)
    with pytest.raises(
        ConfigError, match=f"{who} could replace it in {tmp_path}; give a --log-file"
    ):
        file_names.prepare(str(tmp_path / "app.log"))


# ---- names: safe, short, and different for different names


@pytest.mark.parametrize("name", ["shop", "app.handlers", "a_b-c", "x" * MAX_SLUG])
def test_what_is_safe_stays(name: str) -> None:
    assert slug(name) == name


@pytest.mark.parametrize(
    "name", ["app:handlers", "path/to/file.py", "..", "-n", ".hidden", "", "é", "\udc80", "x" * 65]
)
def test_anything_else_becomes_a_safe_name_that_stays(name: str) -> None:
    made = slug(name)
    assert 0 < len(made) <= MAX_SLUG
    assert made[0] not in "-."
    assert "/" not in made
    assert slug(made) == made


def test_names_that_look_alike_have_different_files() -> None:
    assert len({slug(name) for name in ("a:b", "a/b", "a b", "a-b")}) == 4


def test_the_socket_of_the_broker_is_beside_the_pid_file() -> None:
    assert broker_path("/run/gworker", "shop") == "/run/gworker/shop.broker"
    assert broker_path("/run", "a:b").startswith("/run/a-b-")
