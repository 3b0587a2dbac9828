"""Settings from files and the environment: layers, types, errors, reloads, and which instance is
meant."""

from __future__ import annotations

import inspect
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gworker.app.limits import effective_limits
from gworker.app.options import LIMITS
from gworker.app.options import OPTIONS as WORKER_OPTIONS
from gworker.app.overrides import override
from gworker.app.worker import Worker, declared
from gworker.cli import command_table, main
from gworker.config.options import DEFAULT_LIMITS, OPTIONS, Option, default_runtime_dirs
from gworker.config.report import Row, as_text, as_toml, changes, rows
from gworker.config.settings import Layer, Settings, resolve
from gworker.config.sources import (
    Sources,
    environment_layers,
    is_setting,
    look_up_instance,
    reread,
    sources,
)
from gworker.config.toml_file import WORKER_KEYS, file_layer
from gworker.connection.http_settings import upload_dir
from gworker.errors import ConfigError

NAMES = {option.name: option for option in OPTIONS}
IN_FILES = [option for option in OPTIONS if option.file]

# For each option: what a file says, what it becomes, and the same in the environment. `~` is the
# file's directory.
VALUES: dict[str, tuple[str, object, str]] = {
    "workers": ("4", 4, "4"),
    "bind": ('["tcp://:1", "unix:///s"]', ("tcp://:1", "unix:///s"), "tcp://:1,unix:///s"),
    "daemon": ("true", True, "on"),
    "name": ('"shop"', "shop", "shop"),
    "pid": ('"x/y.pid"', "~/x/y.pid", "x/y.pid"),
    "runtime-dir": ('"run"', "~/run", "run"),
    "chdir": ('"."', "~", "."),
    "umask": ('"027"', 0o27, "027"),
    "user": ('"root"', "root", "root"),
    "group": ('"0"', "0", "0"),
    "env": ('{A = "b c", N = 5}', (("A", "b c"), ("N", "5")), "A=b,N=5"),
    "stdout-file": ('"/o"', "/o", "/o"),
    "log-file": ('"../l"', "~/../l", "../l"),
    "log-level": ('"DEBUG"', "debug", "Debug"),
    "graceful-timeout": ("1.5", 1.5, "1.5"),
    "boot-timeout": ("2", 2.0, "2"),
    "timeout": ("1e1", 10.0, "1e1"),
    "max-requests": ("100", 100, "100"),
    "max-requests-jitter": ("10", 10, "10"),
    "max-memory": ('"64M"', 64 << 20, "64MiB"),
    "max-age": ("3600", 3600.0, "3600"),
    "log-format": ('"json"', "json", "json"),
    "access-log": ('"a"', "~/a", "a"),
    "reload": ("true", True, "on"),
    "reload-extra": ('["*.html", "/x"]', ("~/*.html", "/x"), "*.html,/x"),
    "max-connections": ("0", 0, "0"),
    "max-connections-per-address": ("20", 20, "20"),
    "idle-timeout": ("5", 5.0, "5"),
    "keep-alive": ("15", 15.0, "15"),
    "message-timeout": ("3", 3.0, "3"),
    "send-timeout": ("20", 20.0, "20"),
    "close-timeout": ("2.5", 2.5, "2.5"),
    "min-rate": ("0", 0, "0"),
    "header-timeout": ("5.5", 5.5, "5.5"),
    "handshake-timeout": ('"6"', 6.0, "6"),
    "proxy-protocol": ("true", True, "on"),
    "forwarded-allow-ips": ('["10.0.0.0/8", "unix"]', ("10.0.0.0/8", "unix"), "10.0.0.0/8,unix"),
    "ping-interval": ('"7"', 7.0, "7"),
    "ping-timeout": ('"8"', 8.0, "8"),
    "max-package-size": ('"1MiB"', 1 << 20, "1M"),
    "max-send-buffer-size": ("0x1000", 4096, "4096"),
    "kernel-send-buffer": ('"128KiB"', 131072, "128KiB"),
    "max-json-size": ('"64K"', 65536, "64K"),
    "upload-dir": ('"/var/tmp"', "/var/tmp", "/var/tmp"),
    "computing-processes": ("3", 3, "3"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and no settings in the environment."""
    for name in [name for name in os.environ if name.startswith("GWORKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(target: str | None = "app", **command_line: object) -> Settings:
    return sources(target, Layer("command line", command_line)).read()


def given(settings: Settings, option: Option) -> object:
    return settings.limits.get(option.key) if option.limit else getattr(settings, option.key)


def resolved(value: object, base: Path) -> object:
    if isinstance(value, tuple):
        return tuple(resolved(each, base) for each in value)
    return (
        os.path.normpath(value.replace("~", str(base)))
        if isinstance(value, str) and "~" in value
        else value
    )


# ---- each option, in each layer


@pytest.mark.parametrize("name", VALUES)
def test_an_option_in_a_file(here: Path, name: str) -> None:
    text, expected, _ = VALUES[name]
    option = NAMES[name]
    file = here / "gworker.toml"
    file.write_text(f"{name} = {text}\n")
    with_dashes = read()
    file.write_text(f"{option.key} = {text}\n")
    settings = read()
    assert settings == with_dashes
    assert given(settings, option) == (expected if name == "env" else resolved(expected, here))
    assert settings.origins[option.key] == str(file)
    others = {key: origin for key, origin in settings.origins.items() if key != option.key}
    assert set(others.values()) == {"default", "command line"}
    assert [key for key, origin in others.items() if origin == "command line"] == ["target"]


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


@pytest.mark.parametrize("option", IN_FILES, ids=lambda option: option.name)
def test_every_option_that_has_a_parser_for_numbers_takes_numbers(
    here: Path, option: Option
) -> None:
    """Also one that is newer than the table above: whole numbers and seconds are no strings in
    TOML."""
    try:
        is_number = option.parse is not None and option.value("64") == 64
    except ValueError:
        is_number = False
    (here / "gworker.toml").write_text(f"{option.name} = 64")
    if is_number:
        assert given(read(), option) == 64
    else:
        with pytest.raises(ConfigError, match="expected"):
            read()


WRONG = ["1979-05-27", "{}", "[]", "[[]]", "[{}]", "nan", "-1.5", "9223372036854775808"]


@pytest.mark.parametrize("option", IN_FILES, ids=lambda option: option.name)
def test_a_value_of_a_wrong_type_names_file_key_value_and_what_is_expected(
    here: Path, option: Option
) -> None:
    file = here / "gworker.toml"
    for text in WRONG if option.parse is None else [*WRONG, "true"]:
        if option.repeat and text in ("[]", "{}"):
            continue  # nothing given
        file.write_text(f"{option.name} = {text}")
        with pytest.raises(ConfigError) as raised:
            read()
        start, _, expected = str(raised.value).partition(" is not valid, expected ")
        assert start.startswith(f"{file}: {option.name} = ")
        assert expected


BAD = [
    ("workers = 0", "workers = 0 is not valid, expected a whole number, 1 or more"),
    ("workers = 1.0", "workers = 1.0 is not valid, expected a whole number, 1 or more"),
    ('workers = "four"', "workers = 'four' is not valid, expected a whole number, 1 or more"),
    ("workers = [1]", "workers = [1] is not valid, expected a whole number, 1 or more"),
    ("name = 5", 'name = 5 is not valid, expected a string, as in "5"'),
    ("user = 0", 'user = 0 is not valid, expected a string, as in "0"'),
    ("umask = 0o27", 'umask = 23 is not valid, expected a string, as in "23"'),
    ("umask = 99", "umask = 99 is not valid, expected an octal mask from 0 to 777, as in 027"),
    ("daemon = 1", "daemon = 1 is not valid, expected true or false"),
    ('daemon = "yes"', "daemon = 'yes' is not valid, expected true or false"),
    ('log_level = "loud"', "log_level = 'loud' is not valid, expected one of debug, info"),
    ("timeout = inf", "timeout = inf is not valid, expected seconds, 0 or more"),
    ('chdir = ""', "chdir = '' is not valid, expected a path"),
    ('bind = ["tcp://:1", 5]', "bind = 5 is not valid, expected SCHEME://"),
    ('bind = "8000"', "bind = '8000' is not valid, expected SCHEME://"),
    ("env = {A = true}", "env.A = true is not valid, expected a string"),
    ('env = {"" = "x"}', "env. = 'x' is not valid, expected NAME=VALUE"),
    ('env = {A = "\\u0000"}', "env.A = '\\x00' is not valid, expected NAME=VALUE"),
    ('env = {"A=B" = "x"}', "env: 'A=B' is not valid, expected a name without ="),
    ('env = "A"', "env = 'A' is not valid, expected NAME=VALUE"),
    ("target = 1", "target = 1 is not valid, expected module[:attr]"),
    ('target = ""', "target = '' is not valid, expected module[:attr]"),
    ("wrokers = 1", "unknown key 'wrokers'; did you mean workers?"),
    ("graceful_timout = 1", "unknown key 'graceful_timout'; did you mean graceful-timeout?"),
    ("xyzzy = 1", "unknown key 'xyzzy'; there are access-log, bind, boot-timeout, chdir"),
    ('config = "x"', "unknown key 'config'; there are "),
    ("check = true", "unknown key 'check'; there are "),
    ("log-level = 'info'\nlog_level = 'info'", "log_level is given twice, with - and with _"),
    ("worker = 5", "worker: expected tables [worker.NAME]"),
    ("worker = {chat = 5}", "worker: expected tables [worker.NAME]"),
    ("[worker.chat]\ncuont = 1", "[worker.chat]: unknown key 'cuont'; did you mean count?"),
    (
        "[worker.chat]\ncount = 0",
        "[worker.chat]: count = 0 is not valid, expected a whole number, 1 or more",
    ),
    (
        "[worker.chat]\nhandover = 1",
        '[worker.chat]: handover = 1 is not valid, expected true, false or "auto"',
    ),
    (
        "[worker.chat]\nhandover = 'no'",
        "[worker.chat]: handover = 'no' is not valid, expected true, false or \"auto\"",
    ),
    (
        "[worker.chat]\nreloadable = 1",
        "[worker.chat]: reloadable = 1 is not valid, expected true or false",
    ),
    (
        "[worker.chat]\nidle_timeout = -1",
        "[worker.chat]: idle_timeout = -1 is not valid, expected seconds, 0 or",
    ),
    (
        "[worker.chat]\nidle_timeout = 1\nidle-timeout = 2",
        "[worker.chat]: idle-timeout is given twice",
    ),
    ("workers = " + "9" * 5000, "invalid TOML: "),
    ("workers = 0x" + "f" * 5000, "workers = a number is not valid, expected a whole number"),
    ("bind = [" + '"' + "x" * 500 + '"]', "x" * 99 + " … is not valid, expected SCHEME://"),
    ("a = " + "[" * 5000, "invalid TOML: "),
    ("workers = 4\nworkers = 5", "Cannot overwrite a value (at line 2, the end)"),
    ("workers == 4", "invalid TOML: Invalid value (at line 1, column 10)"),
    ("\n\nname = 'a", 'invalid TOML: Expected "\'" (at line 3, the end)'),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[text[:40] for text, _ in BAD])
def test_what_is_wrong_in_a_file(here: Path, text: str, expected: str) -> None:
    (here / "gworker.toml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        read()
    assert str(raised.value).startswith(f"{here}/gworker.toml")
    assert expected in str(raised.value)


def test_a_file_that_is_not_utf_8_is_named_with_the_line(here: Path) -> None:
    (here / "gworker.toml").write_bytes(b"workers = 1\nname = '\xff'\n")
    with pytest.raises(ConfigError, match=r"gworker\.toml: invalid TOML: not UTF-8 \(at line 2\)"):
        read()


def test_a_file_that_cannot_be_read(here: Path) -> None:
    for name, make in {
        "directory": lambda path: path.mkdir(),
        "fifo": os.mkfifo,  # opening it for reading must not wait for a writer
        "large": lambda path: path.write_text("#" * (1 << 20) + "#"),
        "dangling": lambda path: path.symlink_to("nowhere"),
        "missing": lambda path: None,
    }.items():
        make(here / name)  # type: ignore[no-untyped-call]
        with pytest.raises(ConfigError, match=f"cannot read {here}/{name}: "):
            read(config=str(here / name))


def test_descriptors_of_refused_files_are_closed(here: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError):
        read(config=str(here))
    assert len(os.listdir("/proc/self/fd")) == before


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
    ("GWORKER_PRELOAD", "1", "GWORKER_PRELOAD: no such setting; there are GWORKER_ACCESS_LOG, "),
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


# ---- the order of the layers


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


def test_worker_tables_hold_worker_arguments_and_all_limits() -> None:
    arguments = set(inspect.signature(Worker).parameters) | set(LIMITS) | set(WORKER_OPTIONS)
    assert set(WORKER_KEYS) <= arguments
    assert set(LIMITS) == set(DEFAULT_LIMITS) <= set(WORKER_KEYS)


# ---- which file, and what is meant by a path


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


@pytest.mark.parametrize("text", ["[project]\nname = 'x'", "", "[tool]\nx = 'gworker'"])
def test_a_project_file_that_is_asked_for_needs_the_table(here: Path, text: str) -> None:
    (here / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"pyproject\.toml: there is no table \[tool\.gworker\]"):
        read(config=str(here / "pyproject.toml"))


@pytest.mark.parametrize("text", ["tool = 5 # gworker", "[tool]\ngworker = 5"])
def test_a_project_file_in_which_it_is_no_table(here: Path, text: str) -> None:
    (here / "pyproject.toml").write_text(text)
    with pytest.raises(
        ConfigError, match=r"pyproject\.toml: \w+ = 5 is not valid, expected a table"
    ):
        read()


def test_an_error_in_a_project_file_names_the_table(here: Path) -> None:
    (here / "pyproject.toml").write_text("[tool.gworker]\nwrokers = 1")
    with pytest.raises(
        ConfigError, match=r"pyproject\.toml \[tool\.gworker\]: unknown key 'wrokers'"
    ):
        read()


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


# ---- how they are shown


def test_print_config_is_a_file_that_says_the_same(here: Path) -> None:
    given_lines = [f"{name} = {text}" for name, (text, _, _) in VALUES.items()]
    (here / "gworker.toml").write_text(
        "\n".join(
            ["target = 'app.py:x'", *given_lines, '[worker."a b"]', "count = 3", "idle-timeout = 9"]
        )
    )
    (here / "app.py").touch()
    settings = read(None)
    shown = as_toml(rows(settings, {"a b": {"idle_timeout": 1, "max_connections": 5}}))
    assert "max-connections = 0  # " in shown
    assert 'worker."a b".idle-timeout = 9.0  # ' in shown
    (here / "again.toml").write_text(shown)
    again = read(None, config=str(here / "again.toml"))
    for option in IN_FILES:
        assert given(again, option) == given(settings, option), option.name
    assert again.of_workers == settings.of_workers
    assert again.target == settings.target


def test_print_config_says_where_each_value_comes_from(here: Path) -> None:
    (here / "gworker.toml").write_text("workers = 2")
    shown = as_toml(rows(read(user="root")), ("name", "pid")).splitlines()
    assert 'target = "app"  # command line' in shown
    assert f"workers = 2  # {here}/gworker.toml" in shown
    assert 'user = "root"  # command line' in shown
    assert "# group  # default" in shown
    assert "timeout = 60.0  # default" in shown
    assert f'# config = "{here}/gworker.toml"  # default' in shown
    assert shown[-1] == "# restart needed for: name, pid"
    assert tomllib.loads("\n".join(shown))["workers"] == 2


def test_every_option_is_shown_once(here: Path) -> None:
    assert [row.name for row in rows(read())] == ["target", *NAMES]


def test_what_workers_say_is_shown_unless_something_overrides_it(here: Path) -> None:
    (here / "gworker.toml").write_text(
        "header-timeout = 2\n[worker.chat]\nidle-timeout = 3\ncount = 4\n"
    )
    limits = {
        "chat": {"idle_timeout": 1, "header_timeout": 1, "max_connections": 1},
        "web": {"idle_timeout": 7},
    }
    shown = [row for row in rows(read(), limits) if row.name.startswith("worker.")]
    assert shown == [
        Row("worker.chat.idle-timeout", 3.0, f"{here}/gworker.toml [worker.chat]"),
        Row("worker.chat.count", 4, f"{here}/gworker.toml [worker.chat]"),
        Row("worker.chat.max-connections", 1, "Worker chat"),
        Row("worker.web.idle-timeout", 7, "Worker web"),
    ]


def test_values_for_people() -> None:
    shown = [
        as_text(value) for value in (None, [], {}, ["a", "b"], {"A": "b"}, True, False, 1.5, "x")
    ]
    assert shown == ["-", "-", "-", "a, b", "A=b", "true", "false", "1.5", "x"]


# ---- a reload


def test_a_reload_reads_the_file_again_and_nothing_else(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = here / "gworker.toml"
    file.write_text("workers = 2\ntimeout = 5")
    monkeypatch.setenv("GWORKER_BOOT_TIMEOUT", "7")
    before = read(log_level="debug")
    monkeypatch.setenv("GWORKER_BOOT_TIMEOUT", "8")
    monkeypatch.setenv("GWORKER_WORKERS", "9")
    monkeypatch.setenv("GWORKER_NONSENSE", "9")
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


def test_changes_keep_the_values_of_variables_secret() -> None:
    before, after = (
        resolve("t"),
        resolve("t", Layer("command line", {"env": (("PASSWORD", "hunter2"),)})),
    )
    assert changes(before, after) == ["env"]


# ---- which instance a command is for


def selected(here: Path, *argv: str) -> tuple[str, str | None, str | None, str | None]:
    parser = main.parser_of("status")
    selection = command_table.selection(parser.parse_args(argv))
    directories = selection.runtime_dirs
    where = "default" if directories == default_runtime_dirs() else " ".join(directories)
    return where, selection.name, selection.pid_file, selection.alias


SELECTIONS: list[tuple[str, Mapping[str, str], list[str], tuple[str, str | None, str | None, str | None]]] = [
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
    # Mistakes elsewhere keep nobody from stopping an instance.
    ("name = 'shop'\nnonsense = 1\nworkers = 0", {"GWORKER_NONSENSE": "", "GWORKER_WORKERS": "x"},
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
    values, notes = look_up_instance(Layer("command line", {"timeout": 5}))
    assert (values["name"].value, values["workers"].origin, notes) == ("shop", "default", [])


# ---- what a file says of single Workers


@pytest.fixture
def chat() -> Worker:
    worker = Worker("text://127.0.0.1:0", name="chat", count=1, idle_timeout=1)
    declared.remove(worker)
    return worker


def overriding(here: Path, worker: Worker, text: str) -> None:
    (here / "gworker.toml").write_text(text)
    override([worker], read())


def test_a_worker_is_overridden(here: Path, chat: Worker) -> None:
    overriding(
        here,
        chat,
        "[worker.chat]\nlisten = 'tcp://:1'\ncount = 5\nuser = 'root'\ngroup = '0'\nreloadable = "
        "false\n"
        "reuse-port = true\nbacklog = 7\nidle-timeout = 9",
    )
    made = chat.declaration()
    assert (made.listen, made.count, made.user, made.group) == ("tcp://:1", 5, "root", "0")
    assert (made.reloadable, made.reuse_port, made.backlog) == (False, True, 7)
    assert made.limits == {"idle_timeout": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[worker.caht]\ncount = 1",
            r"\[worker\.caht\]: the target declares no Worker 'caht'; it declares chat",
        ),
        ("[worker.chat]\nlisten = 'tcp://nowhere'", r"gworker\.toml \[worker\.chat\]: listen: "),
    ],
)
def test_what_cannot_be_overridden(here: Path, chat: Worker, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        overriding(here, chat, text)


def test_a_worker_without_a_socket_gets_none(here: Path) -> None:
    worker = Worker(name="chat")
    declared.remove(worker)
    with pytest.raises(ConfigError, match="this Worker has no socket"):
        overriding(here, worker, "[worker.chat]\nlisten = 'tcp://:1'")


def test_the_layer_of_a_file_has_only_what_was_given(here: Path) -> None:
    (here / "x.toml").write_text("workers = 2")
    assert file_layer(str(here / "x.toml")) == (str(here / "x.toml"), {"workers": 2})


def test_sources_without_a_current_directory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    made: Callable[[], Any] = sources("app", Layer("command line", {})).file
    assert made() is None
    assert isinstance(sources("app", Layer("command line", {})), Sources)
