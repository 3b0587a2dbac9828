"""Processes that hang or crash before they are ready: what is said of where they stood."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import places
import pytest
from instance import Instance, wait_for

pytestmark = pytest.mark.timeout(180)

MODELS = places.app("models")
APP = "import models\nhandlers = models.text\n"

CRASHES = [
    ("leave", "exited 3"),
    ("crash", "killed by signal 11 (SIGSEGV)"),
    ("kill", "killed by signal 9 (SIGKILL)"),
]


def line_in(function: str) -> str:
    """`models.py:12`: the line on which `function` of models.py hangs."""
    lines = MODELS.splitlines()
    begin = lines.index(f"def {function}():")
    return (
        f"models.py:{begin + 2}" if function != "spin" else rf"models.py:({begin + 2}|{begin + 3})"
    )


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Instance]:
    made = Instance(tmp_path / "instance", APP)
    (made.directory / "models.py").write_text(MODELS)
    yield made
    made.kill()


def order(one: Instance, step: str, function: str) -> None:
    (one.directory / "order").write_text(f"{step} {function}")


@pytest.mark.parametrize("function", ["wait", "spin", "compute_in_c"])
def test_an_import_that_hangs(one: Instance, function: str) -> None:
    order(one, "load", function)
    done = one.run("start", "app:handlers", "--boot-timeout", "1")
    reason = f"target app:handlers was still being loaded after 1 s, at {line_in(function)}"
    assert done.returncode == 1
    assert re.search(rf"error: {reason}: killed by signal 9 \(SIGKILL\)\n$", done.stderr)
    stacks = done.stderr.partition(
        ") target app:handlers was still being loaded after 1 s; its stacks follow\n"
    )[2]
    assert f"in {function}" in stacks
    assert re.search(r"Hub|Greenlets", stacks), "all greenlets, not the running one alone"
    assert "app.py" in stacks


def test_a_check_of_an_import_that_hangs(one: Instance) -> None:
    order(one, "load", "wait")
    done = one.run("check", "app:handlers", "--boot-timeout", "1")
    assert done.returncode == 1
    assert "in wait" in done.stderr
    assert done.stderr.endswith(
        f"error: target app:handlers was still being loaded after 1 s, at {line_in('wait')}\n"
    )  # fmt: skip


def test_the_line_is_told_from_the_directory_as_it_is_spelt(one: Instance) -> None:
    order(one, "load", "wait")
    link = one.directory.with_name("current")
    link.symlink_to(one.directory)
    done = one.run("check", "app:handlers", "--boot-timeout", "1", "--chdir", str(link))
    assert f", at {line_in('wait')}\n" in done.stderr


@pytest.mark.parametrize(("function", "how"), CRASHES)
def test_a_crash_at_import(one: Instance, function: str, how: str) -> None:
    order(one, "load", function)
    for command in ("check", "start"):
        done = one.run(command, "app:handlers")
        assert done.returncode == 1
        assert done.stderr.endswith(f"error: {how} while target app:handlers was being loaded\n")


def test_a_reload_tells_the_same_and_so_does_status(one: Instance) -> None:
    one.start("--boot-timeout", "2", target="app:handlers")
    order(one, "load", "leave")
    answer = one.reload()
    assert (answer["exit"], answer["error"]) == (
        1,
        "exited 3 while target app:handlers was being loaded",
    )
    order(one, "load", "wait")
    answer = one.reload()
    where = f"target app:handlers was still being loaded after 2 s, at {line_in('wait')}"
    assert answer["error"].startswith(where)
    order(one, "load", "leave")
    os.kill(one.workers()[0]["pid"], signal.SIGKILL)
    wait_for(lambda: len(one.status()["exits"]) >= 2, "its successor fails")
    assert (
        one.status()["exits"][-1]["reason"] == "exited 3 while target app:handlers was being loaded"
    )


def test_on_worker_start_that_hangs(one: Instance) -> None:
    order(one, "start", "wait")
    done = one.run("start", "app:handlers", "--boot-timeout", "2")
    assert done.returncode == 1
    reason = (
        "text#0: not ready within 2 s: on_worker_start of text had not returned, at "
        f"{line_in('wait')}"
    )
    assert f"error: {reason}: killed by signal 9 (SIGKILL)\n" in done.stderr
    assert "in wait" in done.stderr


@pytest.mark.parametrize(("function", "how"), CRASHES)
def test_a_crash_in_on_worker_start(one: Instance, function: str, how: str) -> None:
    order(one, "start", function)
    done = one.run("start", "app:handlers")
    assert done.returncode == 1
    assert f"error: text#0: {how} in on_worker_start of text\n" in done.stderr
