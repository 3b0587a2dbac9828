"""Settings from a file and the environment: a start from them, what check says, and reloads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import places
import pytest
from instance import DEADLINE, Instance, wait_for

pytestmark = pytest.mark.timeout(180)

APP = places.app("shows_settings")

FILE = """target = "app"
name = "shop"
runtime-dir = "run"
workers = 2
graceful_timeout = 3
env = {GREETING = "hello"}
[worker.chat]
max-package-size = "1KiB"
"""

ENVIRONMENT = {
    "GWORKER_IDLE_TIMEOUT": "80",
    "GWORKER__OTHER": "theirs",
    "GWORKER_SERVICE_HOST": "10.0.0.1",
    "GWORKER_GRACEFUL_TIMEOUT": "5",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    one = Instance(tmp_path_factory.mktemp("settings") / "instance", APP)
    patch = pytest.MonkeyPatch()
    try:
        for name, text in ENVIRONMENT.items():
            patch.setenv(name, text)
        (one.directory / "gworker.toml").write_text(FILE)
        one.start(target="start")
        yield one
    finally:
        one.kill()
        patch.undo()


@pytest.fixture(autouse=True)
def as_at_the_start(shop: Instance) -> None:
    """Each test begins with the file that the instance was started with, and that in force."""
    (shop.directory / "gworker.toml").write_text(FILE)
    if "workers = 2  # " not in settings(shop):
        assert shop.reload()["exit"] == 0
        wait_for(lambda: len(shop.workers()) == 2, "two processes")


def gworker(shop: Instance, *argv: str) -> subprocess.CompletedProcess[str]:
    """A command as one types it in the directory, without any option that says which instance."""
    return subprocess.run(
        [sys.executable, "-m", "gworker", *argv],
        cwd=shop.directory, text=True, capture_output=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


def settings(shop: Instance) -> str:
    answer = shop.ask_arbiter("settings")[0]["settings"]
    return "\n".join(f"{name} = {value}  # {origin}" for name, value, origin in answer["rows"])


def answer(shop: Instance) -> list[Any]:
    found: list[Any] = json.loads(shop.ask("chat", b"who\n"))
    return found


def test_a_start_from_the_file(shop: Instance) -> None:
    status = shop.status()
    assert (status["name"], len(status["workers"])) == ("shop", 2)
    environment, _, max_package_size = answer(shop)
    assert max_package_size == 1024
    # What sets the instance is not for the app, whose own gworker it would confuse; what is others'
    # stays.
    assert environment == {
        "GREETING": "hello",
        "GWORKER__OTHER": "theirs",
        "GWORKER_SERVICE_HOST": "10.0.0.1",
    }


def test_commands_find_the_instance_by_the_file(shop: Instance) -> None:
    done = gworker(shop, "status", "--settings")
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout.splitlines()
    file = shop.directory / "gworker.toml"
    for line in (
        f'target = "app"  # {file}',
        f"workers = 2  # {file}",
        "graceful-timeout = 5.0  # GWORKER_GRACEFUL_TIMEOUT",
        f'log-file = "{shop.log}"  # command line',
        "timeout = 60.0  # default",
        "idle-timeout = 80.0  # GWORKER_IDLE_TIMEOUT",
        f"worker.chat.max-package-size = 1024  # {file} [worker.chat]",
        "worker.chat.header-timeout = 7  # Worker chat",
    ):
        assert line in shown
    assert not any("worker.chat.idle-timeout" in line for line in shown)


def test_check_shows_settings_and_where_they_come_from(shop: Instance) -> None:
    done = gworker(shop, "check", "--json", "-w", "4")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["workers"] == [
        {"worker": "chat", "count": 4, "listen": "text://127.0.0.1:0", "serves": "callbacks"}
    ]
    rows = {row["name"]: (row["value"], row["origin"]) for row in found["settings"]}
    file = str(shop.directory / "gworker.toml")
    assert rows["workers"] == (4, "command line")
    assert rows["env"] == ({"GREETING": "hello"}, file)
    assert rows["worker.chat.header-timeout"] == (7, "Worker chat")
    assert rows["worker.chat.max-package-size"] == (1024, f"{file} [worker.chat]")


def test_a_reload_reads_the_file_again(shop: Instance) -> None:
    changed = (
        FILE.replace("workers = 2", "workers = 1").replace("hello", "moin").replace("1KiB", "2KiB")
    )
    (shop.directory / "gworker.toml").write_text('umask = "077"\n' + changed + "count = 3\n")
    done = shop.run("reload")
    assert (done.returncode, done.stderr) == (0, "")
    steps = done.stdout.splitlines()
    assert steps[0].startswith(
        "settings: workers 2 → 1, env, worker.chat.max-package-size 1024 → 2048, "
    )
    assert steps[1] == "restart needed for: umask"
    assert len(shop.workers()) == 3
    environment, _, max_package_size = answer(shop)
    assert (environment["GREETING"], max_package_size) == ("moin", 2048)
    assert "umask = None  # default" in settings(shop)
    assert "[WARNING] reload: restart needed for: umask" in shop.read_log()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "workers = 0\n",
            "gworker.toml: workers = 0 is not valid, expected a whole number, 1 or more",
        ),
        (
            "workers = 3\n[worker.caht]\ncount = 1\n",
            "[worker.caht]: the target declares no Worker 'caht'",
        ),
    ],
)
def test_a_file_that_is_wrong_refuses_the_reload(shop: Instance, text: str, reason: str) -> None:
    before = shop.status()
    (shop.directory / "gworker.toml").write_text('name = "shop"\nruntime-dir = "run"\n' + text)
    done = gworker(shop, "reload", "app")
    assert done.returncode == 1
    assert reason in done.stderr
    after = shop.status()
    assert [row["pid"] for row in after["workers"]] == [row["pid"] for row in before["workers"]]
    assert (after["generation"], after["last_reload"]["ok"]) == (before["generation"], False)
    assert reason in after["last_reload"]["error"]
    assert answer(shop)[0]["GREETING"] == "hello"


def test_hup_with_a_file_that_is_no_toml_is_logged_with_the_line(shop: Instance) -> None:
    (shop.directory / "gworker.toml").write_text('name = "shop"\nworkers =\n')
    os.kill(shop.pid, signal.SIGHUP)
    wait_for(
        lambda: (
            "gworker.toml: invalid TOML: Invalid value (at line 2, column 10)" in shop.read_log()
        ),
        "refusal",
    )
    assert len(shop.workers()) == 2
