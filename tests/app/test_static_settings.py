"""Settings of a script: `Worker.daemonize = True`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gworker.app import static_settings
from gworker.app.static_settings import as_argument, from_argument
from gworker.app.worker import Worker
from gworker.config.settings import Layer
from gworker.config.sources import Sources
from gworker.errors import ConfigError


@pytest.fixture(autouse=True)
def nothing_given() -> Iterator[None]:
    static_settings.begin_load(script=True)  # a test of loading may have left another word
    yield
    static_settings.given.clear()
    static_settings.begin_load(script=True)


def test_they_are_the_lowest_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Worker.daemonize = True
    Worker.log_file = "server.log"
    Worker.stdout_file = Path("out")
    Worker.pid_file = tmp_path / "x.pid"
    (tmp_path / "gworker.toml").write_text("log-file = 'file.log'")
    monkeypatch.setenv("GWORKER_PID", "/env.pid")
    static = Layer("start.py", from_argument(as_argument()))
    settings = Sources(
        "start.py", Layer("command line", {"stdout_file": "/o"}), script=True, static=static
    ).read()
    assert (settings.daemon, settings.origins["daemon"]) == (True, "start.py")
    assert settings.log_file == f"{tmp_path}/file.log"
    assert settings.pid == "/env.pid"
    assert settings.stdout_file == "/o"
    assert (
        Sources("start.py", Layer("command line", {}), True, static).read().stdout_file
        == f"{tmp_path}/out"
    )


def test_they_can_be_read_and_taken_back() -> None:
    assert Worker.daemonize is None
    Worker.daemonize = True
    assert Worker.daemonize is True
    Worker.log_file = "/a"
    Worker.log_file = None
    assert as_argument() == '{"daemonize": true}'


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("daemonize", 1, "True or False"),
        ("daemonize", "yes", "True or False"),
        ("log_file", 5, "a path"),
        ("log_file", "", "a path"),
        ("pid_file", b"/x", "a path"),
    ],
)
def test_a_bad_value_is_an_error_where_it_is_set(name: str, value: object, expected: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"Worker\.{name} = .* is not valid, expected {expected}"
    ):
        setattr(Worker, name, value)


@pytest.mark.parametrize(
    ("name", "value", "option"),
    [("daemonize", True, "daemon"), ("pid_file", "/p", "pid"), ("log_file", "/l", "log-file")],
)
def test_in_a_target_that_a_command_loads_they_are_an_error(
    name: str, value: object, option: str
) -> None:
    static_settings.begin_load(script=False)
    with pytest.raises(
        ConfigError,
        match=f"this target is loaded by a command: use --{option}, or {option} in gworker",
    ):
        setattr(Worker, name, value)


def test_paths_begin_where_the_script_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Worker.log_file = "a.log"
    os.chdir("/")
    assert from_argument(as_argument()) == {"log_file": f"{tmp_path}/a.log"}
