"""The settings in force, as they are shown."""

from __future__ import annotations

import tomllib
from pathlib import Path

from option_values import IN_FILES, NAMES, VALUES, given, read

from gworker.broker.url import parse
from gworker.config.report import Row, as_text, as_toml, changes, rows
from gworker.config.settings import Layer, resolve


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


def test_changes_keep_the_values_of_variables_secret() -> None:
    before, after = (
        resolve("t"),
        resolve("t", Layer("command line", {"env": (("PASSWORD", "hunter2"),)})),
    )
    assert changes(before, after) == ["env"]


def test_nothing_shows_the_password_of_a_broker() -> None:
    settings = [
        resolve("app", Layer("test", {"broker": parse(url)}))
        for url in ("local", "redis://:secret@h")
    ]
    found = {row.name: row.value for row in rows(settings[1])}
    assert (found["broker"], found["broker-mode"]) == ("redis://***@h", "660")
    assert changes(*settings) == ["broker local → redis://***@h"]
    assert ":secret" not in as_toml(rows(settings[1])) + repr(settings[1])
