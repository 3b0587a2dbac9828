"""The file of settings: each option, each Worker, and what is wrong in one."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import pytest
from option_values import IN_FILES, NAMES, VALUES, given, read, resolved

from gworker.app.options import LIMITS
from gworker.app.options import OPTIONS as WORKER_OPTIONS
from gworker.app.worker import Worker
from gworker.config.options import DEFAULT_LIMITS, Option
from gworker.config.toml_file import WORKER_KEYS, file_layer
from gworker.errors import ConfigError


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
    (
        "xyzzy = 1",
        "unknown key 'xyzzy'; there are access-log, access-log-format, app, bind, boot-timeout, ",
    ),
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


def test_worker_tables_hold_worker_arguments_and_all_limits() -> None:
    arguments = set(inspect.signature(Worker).parameters) | set(LIMITS) | set(WORKER_OPTIONS)
    assert set(WORKER_KEYS) <= arguments
    assert set(LIMITS) == set(DEFAULT_LIMITS) <= set(WORKER_KEYS)


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


def test_the_layer_of_a_file_has_only_what_was_given(here: Path) -> None:
    (here / "x.toml").write_text("workers = 2")
    assert file_layer(str(here / "x.toml")) == (str(here / "x.toml"), {"workers": 2})


def test_a_broker_that_is_none_is_refused_without_its_password(here: Path) -> None:
    (here / "gworker.toml").write_text('broker = "redis://:secret@h:x"')
    with pytest.raises(
        ConfigError, match=r"broker = 'redis://\*\*\*@h:x' is not valid, expected a port"
    ):
        read()
