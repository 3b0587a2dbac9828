"""Where settings come from: which file, which order, and what a reload reads anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from option_values import IN_FILES, NAMES, VALUES, given, read, resolved

from gworker.app.limits import effective_limits
from gworker.app.worker import Worker
from gworker.cli import command_table, main
from gworker.config.options import Option, default_runtime_dirs
from gworker.config.settings import Layer, resolve
from gworker.config.sources import (
    Sources,
    environment_layers,
    is_setting,
    look_up_instance,
    reread,
)
from gworker.connection.http_settings import upload_dir
from gworker.errors import ConfigError


@pytest.mark.parametrize("name", VALUES)
def test_an_option_in_the_environment(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _, expected, text = VALUES[name]
    option = NAMES[name]
    monkeypatch.setenv(option.variable, text)
    settings = read()
    if name == "env":
        expected = (("A", "b"), ("N", "5"))
    assert given(settings, option) == resolved(expected, here)
    assert settings.origins[option.key] == option.variable


ENVIRONMENT_BAD = [
    (
        "GWORKER_WORKERS",
        "0",
        "GWORKER_WORKERS: '0' is not valid, expected a whole number, 1 or more",
    ),
    ("GWORKER_WORKERS", "", "GWORKER_WORKERS: '' is not valid, expected a whole number, 1 or more"),
    (
        "GWORKER_DAEMON",
        "maybe",
        "GWORKER_DAEMON: 'maybe' is not valid, expected one of 1, true, yes, on, 0, false",
    ),
    ("GWORKER_DAEMON", "", "GWORKER_DAEMON: '' is not valid, expected one of 1"),
    ("GWORKER_BIND", "tcp://:1 8000", "GWORKER_BIND: '8000' is not valid, expected SCHEME://"),
    ("GWORKER_ENV", "A=1 B", "GWORKER_ENV: 'B' is not valid, expected NAME=VALUE"),
    ("GWORKER_TARGET", "", "GWORKER_TARGET: '' is not valid, expected module[:attr]"),
    ("GWORKER_WORKER", "1", "GWORKER_WORKER: no such setting; did you mean GWORKER_WORKERS?"),
    ("GWORKER_XYZZY", "1", "GWORKER_XYZZY: no such setting; there are GWORKER_ACCESS_LOG, "),
    (
        "GWORKER_LOGLEVEL",
        "info",
        "GWORKER_LOGLEVEL: no such setting; did you mean GWORKER_LOG_LEVEL?",
    ),
    (
        "GWORKER_log_level",
        "info",
        "GWORKER_log_level: no such setting; did you mean GWORKER_LOG_LEVEL?",
    ),
    ("GWORKER_", "1", "GWORKER_: no such setting"),
    ("GWORKER_SERVICE", "1", "GWORKER_SERVICE: no such setting"),
]


@pytest.mark.parametrize(("name", "text", "expected"), ENVIRONMENT_BAD)
def test_what_is_wrong_in_the_environment(name: str, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        environment_layers({"PATH": "/bin", name: text})
    assert str(raised.value).startswith(expected)


@pytest.mark.parametrize(
    "name",
    [
        # What Kubernetes sets for a Service "gworker", and Docker for a linked container of that
        # name.
        "GWORKER_SERVICE_HOST",
        "GWORKER_SERVICE_PORT",
        "GWORKER_SERVICE_PORT_HTTP",
        "GWORKER_PORT",
        "GWORKER_PORT_8000_TCP",
        "GWORKER_PORT_8000_TCP_ADDR",
        "GWORKER_PORT_53_UDP_PROTO",
        "GWORKER__ANYTHING",
        "XGWORKER_WORKERS",
        "GWORKERS",
    ],
)
def test_variables_of_others_are_left_alone(name: str) -> None:
    assert environment_layers({name: "tcp://10.0.0.1:8000"}) == ()
    assert not is_setting(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(text, True) for text in ("1", "true", "yes", "on", "TRUE", "On")]
    + [(text, False) for text in ("0", "false", "no", "off", "False", "OFF")],
)
def test_switches_in_the_environment(text: str, expected: bool) -> None:
    assert environment_layers({"GWORKER_DAEMON": text}) == (
        ("GWORKER_DAEMON", {"daemon": expected}),
    )


@pytest.mark.parametrize(
    "text", ["tcp://:1 tcp://:2", "tcp://:1,tcp://:2", " tcp://:1 ,\n\ttcp://:2,"]
)
def test_several_values_in_the_environment(text: str) -> None:
    assert environment_layers({"GWORKER_BIND": text}) == (
        ("GWORKER_BIND", {"bind": ("tcp://:1", "tcp://:2")}),
    )


def test_an_empty_list_takes_away_what_the_file_says(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "gworker.toml").write_text('bind = "tcp://:1"')
    monkeypatch.setenv("GWORKER_BIND", "")
    assert read().bind == ()


def test_each_layer_wins_over_those_before(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = here / "gworker.toml"
    file.write_text("workers = 2\ntimeout = 2\nidle-timeout = 2\nlog-level = 'warning'\n")
    monkeypatch.setenv("GWORKER_TIMEOUT", "3")
    monkeypatch.setenv("GWORKER_IDLE_TIMEOUT", "3")
    settings = read(idle_timeout=4.0)
    worker = Worker(name="chat", idle_timeout=1, header_timeout=1, max_connections=1)
    limits = effective_limits(worker.name, worker.limits, settings)
    assert (settings.workers, settings.timeout, limits.idle_timeout, settings.log_level) == (
        2,
        3.0,
        4.0,
        "warning",
    )
    assert (limits.header_timeout, limits.max_connections, limits.handshake_timeout) == (1, 1, 10)
    assert {
        key: settings.origins[key] for key in ("workers", "timeout", "idle_timeout", "boot_timeout")
    } == {
        "workers": str(file),
        "timeout": "GWORKER_TIMEOUT",
        "idle_timeout": "command line",
        "boot_timeout": "default",
    }


@pytest.mark.parametrize(
    ("file", "variable", "option", "expected"),
    [
        ("", None, None, 1),
        ("idle-timeout = 2", None, None, 2),
        ("idle-timeout = 2\n[worker.chat]\nidle-timeout = 3", None, None, 3),
        ("[worker.chat]\nidle-timeout = 3", None, None, 3),
        ("[worker.other]\nidle-timeout = 3", None, None, 1),
        ("idle-timeout = 2\n[worker.other]\nidle-timeout = 3", None, None, 2),
        ("[worker.chat]\nidle-timeout = 3", "4", None, 4),
        ("[worker.chat]\nidle-timeout = 3", None, 5.0, 5),
        ("idle-timeout = 2\n[worker.chat]\nidle-timeout = 3", "4", 5.0, 5),
        ("[worker.chat]\nheader-timeout = 3", "4", None, 4),
    ],
)
def test_what_is_said_of_one_worker_wins_over_what_is_said_of_all_in_the_same_file(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    variable: str | None,
    option: float | None,
    expected: int,
) -> None:
    (here / "gworker.toml").write_text(file)
    if variable:
        monkeypatch.setenv("GWORKER_IDLE_TIMEOUT", variable)
    settings = read(**({} if option is None else {"idle_timeout": option}))
    assert (
        effective_limits("chat", Worker(name="chat", idle_timeout=1).limits, settings).idle_timeout
        == expected
    )


def test_the_file_is_looked_for_in_the_current_directory(here: Path) -> None:
    assert read().config is None
    (here / "pyproject.toml").write_text("[tool.other]\nname = 'gworker'\n")
    assert read().config is None
    (here / "pyproject.toml").write_text("[tool.gworker]\nworkers = 2\n")
    found = read()
    assert (found.config, found.workers) == (f"{here}/pyproject.toml", 2)
    assert found.origins["workers"] == f"{here}/pyproject.toml [tool.gworker]"
    (here / "gworker.toml").write_text("workers = 3")
    assert (read().config, read().workers) == (f"{here}/gworker.toml", 3)
    (here / "other.toml").write_text("workers = 4")
    assert read(config=str(here / "other.toml")).workers == 4
    assert read(config=str(here / "pyproject.toml")).workers == 2
    (here / "sub").mkdir()
    (here / "sub" / "gworker.toml").write_text("workers = 5")
    assert read(chdir=str(here / "sub")).workers == 3


def test_the_environment_can_name_the_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "a.toml").write_text("workers = 1")
    (here / "b.toml").write_text("workers = 2")
    monkeypatch.setenv("GWORKER_CONFIG", "b.toml")
    assert (read().workers, read().config) == (2, f"{here}/b.toml")
    assert read(config=str(here / "a.toml")).workers == 1


def test_paths_in_a_file_start_from_its_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "etc").mkdir()
    (here / "etc" / "x.toml").write_text(
        "log-file = 'l'\npid = '/p'\ntarget = '../app.py:make()'\nchdir = '.'"
    )
    settings = read(None, config=str(here / "etc" / "x.toml"))
    assert (settings.log_file, settings.pid, settings.chdir) == (
        f"{here}/etc/l",
        "/p",
        f"{here}/etc",
    )
    # The name is the same wherever the command is run; the file is, too.
    assert (settings.target, settings.name) == (f"{here}/app.py:make()", "../app.py:make()")
    assert reread(settings) == (settings, [])
    (here / "etc" / "x.toml").write_text("upload-dir = 'all'\n[worker.chat]\nupload-dir = 'own'")
    settings = read(config=str(here / "etc" / "x.toml"))
    declared = {"upload_dir": "/declared"}
    assert upload_dir(declared, settings, "chat") == f"{here}/etc/own"
    assert upload_dir(declared, settings, "other") == f"{here}/etc/all"
    assert (
        upload_dir(declared, read(config=str(here / "etc" / "x.toml"), upload_dir="/c"), "chat")
        == "/c"
    )
    (here / "gworker.toml").write_text("target = 'app.py'")
    assert (read(None).target, read(None).name) == ("app.py", "app.py")
    monkeypatch.chdir("/")
    there = read(None, config=str(here / "gworker.toml"))
    assert (there.target, there.name) == (f"{here}/app.py", "app.py")
    assert read("other.py", config=str(here / "gworker.toml")).target == "other.py"


def test_the_target_may_stand_in_any_layer(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = here / "gworker.toml"
    assert read(None).target is None
    for target in ("app:handlers", "app.py", "sub/app.py:x"):
        file.write_text(f"target = '{target}'")
        assert (read(None).target, read(None).name) == (target, target)
        assert read(None).origins["target"] == str(file)
    monkeypatch.setenv("GWORKER_TARGET", "other")
    assert read(None).target == "other"
    assert (read("given").target, read("given").origins["target"]) == ("given", "command line")


def test_a_reload_reads_the_file_again_and_nothing_else(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = here / "gworker.toml"
    file.write_text("workers = 2\ntimeout = 5")
    monkeypatch.setenv("GWORKER_BOOT_TIMEOUT", "7")
    before = read(log_level="debug")
    monkeypatch.setenv("GWORKER_BOOT_TIMEOUT", "8")
    monkeypatch.setenv("GWORKER_WORKERS", "9")
    monkeypatch.setenv("GWORKER_XYZZY", "9")
    monkeypatch.chdir("/")
    assert reread(before) == (before, [])
    file.write_text(
        "workers = 3\nlog-level = 'error'\nenv = {SECRET = 'x'}\n[worker.chat]\nidle-timeout = 1"
    )
    after, changed = reread(before)
    assert (after.workers, after.timeout, after.boot_timeout, after.log_level) == (
        3,
        60.0,
        7.0,
        "debug",
    )
    assert changed == [
        "workers 2 → 3",
        "env",
        "timeout 5.0 → 60.0",
        "worker.chat.idle-timeout - → 1.0",
    ]
    assert after.pending == ()
    assert after.origins["timeout"] == "default"


@pytest.mark.parametrize(
    "option", [each for each in IN_FILES if each.restart], ids=lambda option: option.name
)
def test_what_needs_a_restart_stays_and_is_named(here: Path, option: Option) -> None:
    if option.name not in VALUES:
        pytest.skip("newer than the table of values")
    (here / "gworker.toml").write_text("target = 'app'")
    before = read(None)
    (here / "gworker.toml").write_text(
        f"target = 'app'\nworkers = 2\n{option.name} = {VALUES[option.name][0]}"
    )
    after, changed = reread(before)
    assert after.pending == (option.name,)
    assert given(after, option) == given(before, option)
    assert after.origins[option.key] == "default"
    assert changed == ["workers 1 → 2"]
    later, changed = reread(after)
    assert (later, changed) == (after, [])
    (here / "gworker.toml").write_text("target = 'app'\nworkers = 2")
    assert reread(later)[0].pending == ()


@pytest.mark.parametrize(
    "option", [each for each in IN_FILES if not each.restart], ids=lambda option: option.name
)
def test_what_a_reload_can_change_does(here: Path, option: Option) -> None:
    if option.name not in VALUES:
        pytest.skip("newer than the table of values")
    (here / "gworker.toml").touch()
    before = read()
    (here / "gworker.toml").write_text(f"{option.name} = {VALUES[option.name][0]}")
    after, _ = reread(before)
    assert given(after, option) == VALUES[option.name][1]
    assert after.pending == ()


def test_another_target_needs_a_restart_and_its_name_is_not_mentioned(here: Path) -> None:
    (here / "gworker.toml").write_text("target = 'app'")
    before = read(None)
    (here / "gworker.toml").write_text("target = 'other'")
    after, changed = reread(before)
    assert (after.target, after.name, after.pending, changed) == ("app", "app", ("target",), [])


def test_a_file_target_with_chdir_stays_the_same(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "app.py").touch()
    (here / "gworker.toml").touch()
    before = read("app.py:x", chdir="/")
    assert before.target == f"{here}/app.py:x"
    monkeypatch.chdir("/")
    assert reread(before) == (before, [])


@pytest.mark.parametrize("name", ["gworker.toml", "pyproject.toml"])
def test_a_file_that_is_gone_refuses_the_reload(here: Path, name: str) -> None:
    (here / name).write_text("[tool.gworker]\n" if name == "pyproject.toml" else "")
    before = read()
    os.unlink(here / name)
    with pytest.raises(ConfigError, match=f"{name}: the settings read from it are gone"):
        reread(before)
    if name == "pyproject.toml":
        (here / name).touch()
        with pytest.raises(ConfigError, match="are gone"):
            reread(before)


def test_a_file_that_has_come_is_read(here: Path) -> None:
    before = read()
    (here / "gworker.toml").write_text("workers = 2")
    after, changed = reread(before)
    assert (after.workers, changed[-1]) == (2, "workers 1 → 2")


def test_settings_made_by_hand_stay() -> None:
    made = resolve("t")
    assert reread(made) == (made, [])


def selected(here: Path, *argv: str) -> tuple[str, str | None, str | None, str | None]:
    parser = main.parser_of("status")
    selection = command_table.selection(parser.parse_args(argv))
    directories = selection.runtime_dirs
    where = "default" if directories == default_runtime_dirs() else " ".join(directories)
    return where, selection.name, selection.pid_file, selection.alias


Selected = tuple[str, str | None, str | None, str | None]

SELECTIONS: list[tuple[str, Mapping[str, str], list[str], Selected]] = [
    ("", {}, [], ("default", None, None, None)),
    ("", {}, ["app"], ("default", "app", None, None)),
    ("target = 'app'", {}, [], ("default", "app", None, None)),
    ("target = 'app'\nname = 'shop'", {}, [], ("default", "shop", None, None)),
    ("target = 'app'\nname = 'shop'", {}, ["app"], ("default", "app", None, "shop")),
    ("name = 'shop'", {}, ["app"], ("default", "app", None, "shop")),
    ("target = 'app'\nname = 'shop'", {}, ["other"], ("default", "other", None, None)),
    ("target = 'app'\nname = 'shop'", {}, ["-n", "bar", "app"], ("default", "bar", None, None)),
    ("name = 'shop'", {"GWORKER_NAME": "bar"}, [], ("default", "bar", None, None)),
    ("runtime-dir = 'run'", {}, [], ("~/run", None, None, None)),
    ("runtime-dir = 'run'", {"GWORKER_RUNTIME_DIR": "/env"}, [], ("/env", None, None, None)),
    ("runtime-dir = 'run'", {}, ["--runtime-dir", "/cli"], ("/cli", None, None, None)),
    ("pid = 'x.pid'", {}, [], ("default", None, "~/x.pid", None)),
    # A pid file may have been given to the settings since the start: the name finds it all the
    # same.
    ("pid = 'x.pid'\ntarget = 'app'", {}, [], ("default", "app", None, None)),
    ("pid = 'x.pid'", {}, ["app"], ("default", "app", None, None)),
    ("pid = 'x.pid'", {}, ["--pid", "/y.pid"], ("default", None, "/y.pid", None)),
    # Mistakes elsewhere do not keep an instance from being stopped.
    ("name = 'shop'\nnonsense = 1\nworkers = 0", {"GWORKER_XYZZY": "", "GWORKER_WORKERS": "x"},
    [],
     ("default", "shop", None, None)),
]  # fmt: skip


@pytest.mark.parametrize(("file", "environ", "argv", "expected"), SELECTIONS)
def test_which_instance(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    environ: Mapping[str, str],
    argv: list[str],
    expected: tuple[str | None, ...],
) -> None:
    (here / "gworker.toml").write_text(file)
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    assert selected(here, *argv) == tuple(
        value and value.replace("~", str(here)) for value in expected
    )


def test_a_found_file_that_cannot_be_read_is_noted_and_left(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "gworker.toml").write_text("name = ")
    assert selected(here) == ("default", None, None, None)
    assert capsys.readouterr().err.startswith(f"gworker: note: {here}/gworker.toml: invalid TOML: ")
    with pytest.raises(ConfigError, match="invalid TOML"):
        selected(here, "-c", "gworker.toml")
    assert selected(here, "-c", "gworker.toml", "--pid", "/x.pid")[2] == "/x.pid"
    assert selected(here, "-c", "gworker.toml", "--runtime-dir", "/r", "-n", "x")[1] == "x"


def test_identity_reads_nothing_else(here: Path) -> None:
    (here / "gworker.toml").write_text("workers = 7\nname = 'shop'")
    values, note = look_up_instance(Layer("command line", {"timeout": 5}))
    assert (values["name"].value, values["workers"].origin, note) == ("shop", "default", "")


def test_sources_without_a_current_directory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    made: Callable[[], Any] = Sources("app", Layer("command line", {})).file
    assert made() is None


def test_a_broker_in_the_environment_is_refused_without_its_password(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GWORKER_BROKER", "redis://:secret@h:x")
    with pytest.raises(ConfigError, match=r"GWORKER_BROKER: 'redis://\*\*\*@h:x' is not valid"):
        read()
