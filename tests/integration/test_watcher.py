"""--reload over real processes: edits are served soon, broken ones say where, the watcher ends with
the arbiter."""

from __future__ import annotations

import contextlib
import os
import signal
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import places
import psutil
import pytest
from instance import Instance, wait_for

pytestmark = pytest.mark.timeout(180)

APP = places.app("imports_lazily")


class Developed(Instance):
    """An instance whose code is being edited."""

    def __init__(self, directory: Path, source: str = APP) -> None:
        super().__init__(directory, source)
        (directory / "helpers").mkdir()
        self.edit("lazily.py", "VERSION = ''")
        self.edit("helpers/version.py", "VERSION = '1'")

    def edit(self, name: str, text: str) -> None:
        """Save a file as many editors do: write another one, and put that in place."""
        beside = self.directory / f"{name}.tmp"
        beside.write_text(text + "\n")
        beside.rename(self.directory / name)

    def serves(self, text: str) -> None:
        wait_for(
            lambda: self.ask("web", b"?\n").decode().strip() == text,
            f"{text!r} is served:\n{self.read_log()}",
        )

    def begun(self) -> int:
        """How many reloads have begun."""
        return self.read_log().count("reload: loading the target")

    def watcher(self) -> psutil.Process | None:
        for each in self.children():
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                if "watcher" in " ".join(each.cmdline()):
                    return each
        return None


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Developed]:
    made = Developed(tmp_path_factory.mktemp("watcher") / "instance")
    try:
        made.start("--reload", "--reload-extra", "templates/**/*.html", "--graceful-timeout", "1")
        yield made
    finally:
        made.kill()


def test_an_edit_is_served_soon_and_loaded_once(one: Developed) -> None:
    one.serves("1")
    began = time.monotonic()
    one.edit("helpers/version.py", "VERSION = '2'")  # of the same size, within the same second
    one.wait_log("changed: helpers/version.py")
    assert time.monotonic() - began < 15.0, "some 0.3 s; the rest is for a slow machine"
    one.serves("2")
    wait_for(lambda: one.status()["state"] == "running", "the reload is over")
    assert one.begun() == 1


def test_what_is_imported_later_is_watched_too(one: Developed) -> None:
    one.serves("2")
    watcher = one.watcher()
    assert watcher is not None
    # Nothing outside tells when it is watched: so edit until it is seen.
    count = one.begun()

    def edited() -> bool:
        one.edit("lazily.py", "VERSION = '!'")
        time.sleep(0.3)
        return one.begun() > count

    wait_for(edited, "the edit of a file that a handler imports")
    one.serves("2!")


def test_a_syntax_error_says_where_and_is_mended(one: Developed) -> None:
    one.edit("app.py", "import helpers.version\nVERSION = = 4")
    one.wait_log(
        "reload refused: target 'app' failed to load: SyntaxError: invalid syntax (app.py, line 2)"
    )
    wait_for(lambda: one.status()["state"] == "running", "the reload is over")
    assert one.status()["last_reload"]["ok"] is False
    told = [one.read_log().count(words) for words in ("reload refused: ", "serves after")]
    assert sum(told) == one.begun(), "each reload has one outcome, which is told once"
    assert f'File "{one.directory}/app.py", line 2' in one.read_log()
    one.serves("2!")
    one.edit(
        "app.py", "import helpers.version\n" + textwrap.dedent(APP).replace(" + lazily.VERSION", "")
    )
    one.serves("2")


def test_a_module_that_is_missing_and_then_written(one: Developed) -> None:
    one.edit("helpers/version.py", "from helpers.number import VERSION")
    one.wait_log("No module named 'helpers.number'")
    one.edit("helpers/number.py", "VERSION = '5'")
    one.serves("5")


def test_extra_files_are_watched(one: Developed) -> None:
    wait_for(lambda: one.status()["state"] == "running", "no reload goes on")
    (one.directory / "templates" / "deep").mkdir(parents=True)
    one.edit("templates/deep/page.html", "hello")
    one.wait_log("changed: templates/deep/page.html")


def test_the_watcher_is_replaced_and_ends_with_the_arbiter(one: Developed) -> None:
    first = wait_for(one.watcher, "the watcher")
    assert first is not None
    first.kill()
    second = wait_for(
        lambda: (found := one.watcher()) and found.pid != first.pid and found, "another watcher"
    )
    assert isinstance(second, psutil.Process)
    assert one.status()["exits"] == [], "it is no worker process"
    one.edit("helpers/number.py", "VERSION = '6'")
    one.serves("6")
    wait_for(lambda: one.status()["state"] == "running", "the reload is over")
    (worker,) = (row["pid"] for row in one.workers("web") if row["state"] == "ready")
    # It cannot end, and so tells whether it keeps the arbiter's line to the watcher open.
    os.kill(worker, signal.SIGSTOP)
    os.kill(one.pid, signal.SIGKILL)
    wait_for(
        lambda: not second.is_running() or second.status() == psutil.STATUS_ZOMBIE,
        "the watcher has ended",
    )
    os.kill(worker, signal.SIGKILL)


def test_a_first_load_that_fails_waits_for_an_edit(tmp_path: Path) -> None:
    one = Developed(tmp_path / "instance", "from helpers import (")
    try:
        one.start("--reload", wait=False)
        one.wait_log("not started; --reload waits for a change")
        one.write(APP)
        one.wait_log(" is ready: ")
        one.serves("1")
        assert one.process is not None
        one.signal(signal.SIGTERM)
        _, errors = one.process.communicate(timeout=60)
        assert one.process.returncode == 0
        assert errors.count('app.py", line 1') == 1
        assert errors.endswith(
            "gworker: error: target 'app' failed to load: SyntaxError: '(' was never closed "
            "(app.py, line 1)\n"
        )
    finally:
        one.kill()
