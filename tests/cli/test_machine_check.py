"""`gworker check` without a TARGET: what it finds on this machine, and on others."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gworker.cli import machine_check
from gworker.cli.machine_check import ADVICE, MEND, OK, Finding


def check(
    cwd: Path, *options: str, limit: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    """The command as one types it, in an empty directory."""
    command = f"{limit} exec {sys.executable} -m gworker check {' '.join(options)}"
    return subprocess.run(
        ["sh", "-c", command],
        cwd=cwd, env={**os.environ, **environ}, text=True, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip


def test_this_machine_is_fit(tmp_path: Path) -> None:
    done = check(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    names = [line[:18].strip() for line in done.stdout.splitlines()]
    assert list(dict.fromkeys(names)) == [
        "python", "packages", "core", "gevent", "descriptors", "somaxconn", "ephemeral "
                                                                    "ports", "terminal", "redis",
        "optional packages", "broker",
    ]  # fmt: skip
    assert all(line[18:].startswith(("ok ", "advice ")) for line in done.stdout.splitlines())


def test_what_has_to_be_mended_is_exit_1(tmp_path: Path) -> None:
    done = check(tmp_path, "--json", limit="ulimit -n 200;", GEVENT_LOOP="libuv")
    assert done.returncode == 1
    found = {each["name"]: each for each in json.loads(done.stdout) if each["state"] == "mend"}
    assert found.keys() == {"gevent", "descriptors"}
    assert found["gevent"]["text"].endswith("libev is needed, unset GEVENT_LOOP")
    assert found["descriptors"]["text"].startswith("200 for each process")
    assert "LimitNOFILE=" in found["descriptors"]["text"]


def test_a_gevent_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "gevent.py").write_text("raise ImportError('undefined symbol: greenlet')")
    done = check(tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert (
        "mend    cannot be used (ImportError: undefined symbol: greenlet): pip install"
        in done.stdout
    )


def test_with_a_target_it_is_the_target_that_is_checked(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("handlers = lambda connection: None")
    (tmp_path / "gworker.toml").write_text("target = 'app'")
    done = check(tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("app: ok\n")


# ---- other machines


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """`kernel(name, text)`: what a file below /proc/sys says."""
    monkeypatch.setattr(machine_check, "PROC", str(tmp_path))

    def says(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    return says


@pytest.mark.parametrize(
    ("hard", "state", "words"),
    [
        (resource.RLIM_INFINITY, OK, "without a limit"),
        (1_048_576, OK, "1048576 for each process"),
        (4096, ADVICE, "raise the hard limit"),
        (100, MEND, "raise the hard limit"),
    ],
)
def test_descriptors(monkeypatch: pytest.MonkeyPatch, hard: int, state: str, words: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, hard))
    found = machine_check.descriptors()
    assert found.state == state
    assert words in found.text


@pytest.mark.parametrize(
    ("look", "name", "text", "state", "words"),
    [
        (machine_check.somaxconn, "net/core/somaxconn", "4096\n", OK, "4096 connections"),
        (
            machine_check.somaxconn,
            "net/core/somaxconn",
            "128\n",
            ADVICE,
            "sysctl -w net.core.somaxconn=1024",
        ),
        (machine_check.somaxconn, "net/core/other", "", ADVICE, "cannot be read"),
        (
            machine_check.ephemeral_ports,
            "net/ipv4/ip_local_port_range",
            "32768\t60999\n",
            OK,
            "28232 for dialled",
        ),
        (
            machine_check.ephemeral_ports,
            "net/ipv4/ip_local_port_range",
            "61000\t65535\n",
            ADVICE,
            "sysctl -w net.ipv4",
        ),
        (machine_check.ephemeral_ports, "net/ipv4/other", "", ADVICE, "cannot be read"),
    ],
)
def test_the_kernel(
    kernel: Callable[[str, str], None],
    look: Callable[[], Finding],
    name: str,
    text: str,
    state: str,
    words: str,
) -> None:
    kernel(name, text)
    found = look()
    assert found.state == state
    assert words in found.text


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    assert machine_check.python().state == MEND
    assert machine_check.python().text.endswith("Python 3.11 or later is needed")


@pytest.mark.parametrize(
    ("installed", "state", "text"),
    [
        ({"a": "2.0", "b": "1.10.1"}, OK, "all that gworker requires is installed"),
        ({"a": "1.9.9", "b": "1.10.1"}, MEND, "pip install 'a>=2'"),
        ({"a": "2.0"}, MEND, "pip install 'b !=1.3,>=1.10'"),
    ],
)
def test_packages(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], state: str, text: str
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    required = ["a>=2", "b !=1.3,>=1.10", "pytest>=8; extra == 'test'"]
    monkeypatch.setattr(metadata, "requires", lambda _: required)
    monkeypatch.setattr(metadata, "version", version)
    assert machine_check.packages() == Finding("packages", state, text)


def test_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert machine_check.packages().state == ADVICE


@pytest.mark.parametrize(
    ("implementation", "pure", "state", "words"),
    [
        ("compiled", "", OK, "compiled"),
        ("Python", "1", OK, "Python, as GWORKER_PURE says"),
        ("Python", "", ADVICE, "pip install --force-reinstall"),
    ],
)
def test_the_core(
    monkeypatch: pytest.MonkeyPatch, implementation: str, pure: str, state: str, words: str
) -> None:
    monkeypatch.setattr(machine_check, "IMPLEMENTATION", implementation)
    monkeypatch.setenv("GWORKER_PURE", pure)
    found = machine_check.core()
    assert found.state == state
    assert words in found.text


def test_packages_that_go_ill_with_gevent(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"mysqlclient": "2.2", "redis": "6.0"}
    monkeypatch.setattr(machine_check, "_version", lambda name: installed.get(name, ""))
    (found,) = machine_check.troublesome()
    assert found == Finding(
        "optional packages",
        ADVICE,
        "mysqlclient 2.2: it holds the event loop while it waits: take PyMySQL, or call it by "
        "gworker.blocking",
    )
    assert machine_check.redis().text == "redis-py 6.0"
    assert (
        machine_check.optional().text
        == "none; not installed: psycopg, PyMySQL, SQLAlchemy, requests"
    )
    installed.clear()
    assert machine_check.redis() == Finding(
        "redis", OK, "redis-py is not installed; if your code uses Redis: pip install redis"
    )


@pytest.mark.parametrize(
    ("encoding", "is_terminal", "term", "state", "words"),
    [
        ("UTF-8", True, "xterm", OK, "xterm, 80 columns"),
        ("utf-8", False, "", OK, "tables are plain"),
        ("ANSI_X3.4-1968", True, "xterm", ADVICE, "export LANG=C.UTF-8"),
        ("utf-8", True, "", ADVICE, "export TERM=xterm-256color"),
    ],
)
def test_terminals(
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    is_terminal: bool,
    term: str,
    state: str,
    words: str,
) -> None:
    stdout: Any = SimpleNamespace(encoding=encoding, isatty=lambda: is_terminal, fileno=lambda: 1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((80, 24)))
        patch.setenv("TERM", term)
        found = machine_check.terminal()
    assert found.state == state
    assert words in found.text
