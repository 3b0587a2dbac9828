"""The options: each reaches its setting, and is refused in words."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from typing import Any

import pytest

from gworker.broker.url import parse as parse_broker
from gworker.config import settings as config
from gworker.config.options import DEFAULT_LIMITS, OPTIONS, add_options, default_runtime_dirs
from gworker.config.settings import Settings, resolve


def parse(*argv: str) -> Settings:
    parser = argparse.ArgumentParser(prog="gworker", allow_abbrev=False)
    add_options(parser)
    return resolve("app:handlers", config.command_line(parser.parse_args(argv)))


def without_origins(settings: Settings) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(settings)} - {"origins"}
    return {name: getattr(settings, name) for name in names}


def test_defaults() -> None:
    bare = parse()
    assert (bare.target, bare.name, bare.limits) == ("app:handlers", "app:handlers", {})
    for option in OPTIONS:
        if not option.limit and option.key != "name":
            assert getattr(bare, option.key) == option.default


def test_every_option_reaches_its_setting() -> None:
    limits = {
        "max_connections",
        "max_connections_per_address",
        "idle_timeout",
        "keep_alive",
        "header_timeout",
    }
    limits |= {
        "handler_timeout",
        "handshake_timeout",
        "message_timeout",
        "send_timeout",
        "close_timeout",
        "min_rate",
    }
    limits |= {
        "max_package_size",
        "max_send_buffer_size",
        "max_json_size",
        "kernel_send_buffer",
        "ping_interval",
        "ping_timeout",
    }
    assert {option.key for option in OPTIONS if option.limit} == limits == set(DEFAULT_LIMITS)
    fields = {field.name for field in dataclasses.fields(Settings)}
    fields -= {"target", "script", "limits", "origins", "of_workers", "pending"}
    fields -= {"working_directory", "read"}
    assert {option.key for option in OPTIONS if not option.limit} == fields


GIVEN: list[tuple[list[str], str, object]] = [
    (["-w", "4"], "workers", 4),
    (["--workers=1"], "workers", 1),
    (["-b", "tcp://:1", "--bind", "unix:///s"], "bind", ("tcp://:1", "unix:///s")),
    (["-n", "shop"], "name", "shop"),
    (["--pid", "/a/b.pid"], "pid", "/a/b.pid"),
    (["--runtime-dir", "/a/../b"], "runtime_dir", "/b"),
    (["--chdir", "/srv"], "chdir", "/srv"),
    (["--umask", "027"], "umask", 0o27),
    (["--umask", "0o777"], "umask", 0o777),
    (["--umask", "0"], "umask", 0),
    (["--user", "root"], "user", "root"),
    (["--user", "0"], "user", "0"),
    (["--group", "root"], "group", "root"),
    (["--group", "12345"], "group", "12345"),
    (["--env", "A=b=c", "--env", "B="], "env", (("A", "b=c"), ("B", ""))),
    (["--stdout-file", "/o"], "stdout_file", "/o"),
    (["--log-file", "/l"], "log_file", "/l"),
    (["--log-level", "DEBUG"], "log_level", "debug"),
    (["--log-format", "JSON"], "log_format", "json"),
    (["--access-log", "-"], "access_log", "-"),
    (["--access-log", "/var/log/a"], "access_log", "/var/log/a"),
    (["--broker", "redis://h"], "broker", parse_broker("redis://h")),
    (["--cluster-name", "shop-1.eu_2"], "cluster_name", "shop-1.eu_2"),
    (["--broker-mode", "600"], "broker_mode", 0o600),
    (["--broker-group", "root"], "broker_group", "root"),
    (["--graceful-timeout", "0"], "graceful_timeout", 0.0),
    (["--boot-timeout", "0.5"], "boot_timeout", 0.5),
    (["--timeout", "1e1"], "timeout", 10.0),
    (["--max-requests", "1000"], "max_requests", 1000),
    (["--max-requests-jitter", "0"], "max_requests_jitter", 0),
    (["--max-memory", "0"], "max_memory", 0),
    (["--max-memory", "1.5G"], "max_memory", 3 << 29),
    (["--max-age", "3600"], "max_age", 3600.0),
    (["--max-connections", "0"], "limits", {"max_connections": 0}),
    (["--idle-timeout", "0"], "limits", {"idle_timeout": 0.0}),
    (["--header-timeout", "1.5"], "limits", {"header_timeout": 1.5}),
    (["--handshake-timeout", "5"], "limits", {"handshake_timeout": 5.0}),
    (["--ping-interval", "30"], "limits", {"ping_interval": 30.0}),
    (["--ping-timeout", "0"], "limits", {"ping_timeout": 0.0}),
    (["--max-package-size", "10M"], "limits", {"max_package_size": 10 << 20}),
    (["--max-send-buffer-size", "64K"], "limits", {"max_send_buffer_size": 64 << 10}),
    (["--kernel-send-buffer", "64K"], "limits", {"kernel_send_buffer": 64 << 10}),
    (["--kernel-send-buffer", "0"], "limits", {"kernel_send_buffer": 0}),
    (["--max-json-size", "2MiB"], "limits", {"max_json_size": 2 << 20}),
    (["--upload-dir", "/a/../b"], "upload_dir", "/b"),
]


@pytest.mark.parametrize(("argv", "field", "value"), GIVEN)
def test_a_given_option_changes_its_field_only(argv: list[str], field: str, value: object) -> None:
    assert without_origins(parse(*argv)) == {**without_origins(parse()), field: value}


BAD: list[tuple[str, str, str]] = [
    ("--workers", "0", "a whole number, 1 or more"),
    ("--workers", "-1", "a whole number"),
    ("--workers", "1.5", "a whole number"),
    ("--workers", "1_0", "a whole number"),
    ("--workers", "٣", "a whole number"),
    ("--workers", "", "a whole number"),
    ("--bind", "8000", "SCHEME://"),
    ("--bind", "://x", "SCHEME://"),
    ("--bind", "tcp://", "SCHEME://"),
    ("--name", "", "a name"),
    ("--name", "a\nb", "a name"),
    ("--pid", "", "a path"),
    ("--umask", "8", "an octal mask"),
    ("--umask", "1000", "an octal mask"),
    ("--umask", "rwx", "an octal mask"),
    ("--user", "no such user", "a user that exists"),
    ("--user", "4294967295", "a user that exists"),
    ("--user", "-1", "a user that exists"),
    ("--group", "no such group", "a group that exists"),
    ("--env", "A", "NAME=VALUE"),
    ("--env", "=b", "NAME=VALUE"),
    ("--log-level", "loud", "one of debug, info, warning, error, critical"),
    ("--log-format", "xml", "one of text, json"),
    ("--graceful-timeout", "-1", "seconds, 0 or more"),
    ("--graceful-timeout", "nan", "seconds"),
    ("--graceful-timeout", "inf", "seconds"),
    ("--graceful-timeout", "soon", "seconds"),
    ("--boot-timeout", "0", "seconds, more than 0"),
    ("--boot-timeout", "x", "seconds, more than 0"),
    ("--max-requests", "-1", "a whole number, 0 or more"),
    ("--max-requests-jitter", "0.5", "a whole number, 0 or more"),
    ("--max-memory", "lots", "a size in bytes"),
    ("--max-memory", "00", "a size in bytes"),
    ("--max-age", "-1", "seconds, 0 or more"),
    ("--max-connections", "-1", "a whole number, 0 or more"),
    ("--max-package-size", "0", "a size in bytes"),
    ("--max-package-size", "10X", "a size in bytes"),
    ("--max-package-size", "-1", "a size in bytes"),
    ("--max-package-size", "M", "a size in bytes"),
    ("--max-package-size", "0.1", "a size in bytes"),
]


@pytest.mark.parametrize(("flag", "text", "expected"), BAD)
def test_a_bad_value_names_flag_value_and_what_is_expected(
    flag: str, text: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        parse(f"{flag}={text}")
    assert raised.value.code == 2
    out, err = capsys.readouterr()
    message = err.splitlines()[-1]
    assert out == ""
    assert flag in message
    assert repr(text) in message
    assert f"expected {expected}" in message


LATER = [
    "--reload",
    "--admin",
]


@pytest.mark.parametrize("flag", [*LATER, "--work", "--nonsense"])
def test_an_option_that_does_not_exist_yet_is_unknown(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(flag, "1")
    assert "unrecognized arguments" in capsys.readouterr().err


ROOTS = ["/run/gworker", "/var/mine/gworker-0", "/tmp/gworker-0", "/var/tmp/gworker-0"]


USERS = [
    "/xdg/gworker", "/var/mine/gworker-1000", "/tmp/gworker-1000", "/var/tmp/gworker-1000",
    "/run/user/1000/gworker", "/run/gworker",
]  # fmt: skip


@pytest.mark.parametrize(
    ("uid", "environ", "expected"),
    [
        (0, {"XDG_RUNTIME_DIR": "/xdg", "TMPDIR": "/var/mine"}, ROOTS),
        (0, {}, [ROOTS[0], *ROOTS[2:]]),
        (1000, {"XDG_RUNTIME_DIR": "/xdg", "TMPDIR": "/var/mine"}, USERS),
        (1000, {}, USERS[2:]),
        (1000, {"XDG_RUNTIME_DIR": "relative", "TMPDIR": "."}, USERS[2:]),
        (1000, {"TMPDIR": "/tmp/"}, USERS[2:]),
    ],
)
def test_runtime_directories(
    monkeypatch: pytest.MonkeyPatch, uid: int, environ: dict[str, str], expected: list[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert list(default_runtime_dirs()) == expected
    assert list(parse().runtime_dirs) == expected
    assert parse("--runtime-dir", "/a").runtime_dirs == ("/a",)


def test_the_help_of_every_option_formats() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    text = parser.format_help()
    assert all(
        re.search(rf"{re.escape(flag)}\b", text) for option in OPTIONS for flag in option.flags
    )


@pytest.mark.parametrize("url", ["redis://:secret@h:x", "memory", "nats://:secret@h"])
def test_a_broker_that_is_none_is_refused_without_its_password(
    capsys: pytest.CaptureFixture[str], url: str
) -> None:
    with pytest.raises(SystemExit):
        parse("--broker", url)
    printed = capsys.readouterr().err
    assert f"--broker: '{url.replace(':secret', '***')}' is not valid, expected " in printed


@pytest.mark.parametrize("name", ["", "a b", "{x}", "x" * 65, "é"])
def test_what_is_no_name_of_a_cluster(name: str) -> None:
    with pytest.raises(SystemExit):
        parse("--cluster-name", name)
