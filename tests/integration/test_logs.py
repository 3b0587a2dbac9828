"""Where lines go: log and output files, moved away and made anew, in all processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from instance import Instance, wait_for

pytestmark = pytest.mark.timeout(180)

APP = """
    import logging, sys
    from gworker import Worker

    text = Worker("text://127.0.0.1:0", count=2)

    @text.on_message
    def speak(connection, line):
        print("printed", line, flush=True)
        print("complained", line, file=sys.stderr, flush=True)
        logging.getLogger("app").warning("warned %s", line)
        logging.getLogger("gworker.app").info("noted %s", line)
        connection.send(line)
"""


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Instance]:
    instance = Instance(tmp_path / "instance", APP)
    yield instance
    instance.kill()


def everybody_says(one: Instance, word: str, found: Callable[[], str]) -> None:
    """Ask until both processes have logged `word`."""
    pids = {row["pid"] for row in one.workers()}

    def said() -> bool:
        one.ask("text", word.encode() + b"\n")
        return all(f"[{pid}] [INFO] noted {word}" in found() for pid in pids)

    wait_for(said, f"{word!r} from every process")


def test_files_that_were_moved_away_are_made_anew_by_usr1(one: Instance) -> None:
    output = one.directory / "out"
    started = one.run("app", "-d", "--log-file", str(one.log), "--stdout-file", str(output))
    assert started.returncode == 0, started.stderr
    everybody_says(one, "before", one.read_log)
    assert "[WARNING] warned before" in one.read_log(), "what user code logs without setting anything up"
    assert "printed before" in output.read_text()
    assert "complained before" in output.read_text()

    one.log.rename(one.directory / "log.1")
    output.rename(one.directory / "out.1")
    everybody_says(one, "between", (one.directory / "log.1").read_text)
    assert not one.log.exists()
    one.signal(signal.SIGUSR1)
    wait_for(lambda: one.log.exists() and output.exists(), "made anew")
    one.wait_log("log files reopened")
    everybody_says(one, "after", one.read_log)
    text = output.read_text()
    assert "printed after" in text
    assert "complained after" in text
    assert "after" not in (one.directory / "out.1").read_text()

    assert one.reload()["exit"] == 0
    assert " is ready (pid " in one.read_log(), "the next generation writes to the new file too"
    one.run("stop")
    assert "stopped" in one.read_log()


def test_a_directory_that_is_gone_loses_nothing(one: Instance) -> None:
    logs = one.directory / "logs"
    logs.mkdir()
    one.log = logs / "log"
    assert one.run("app", "-d", "--log-file", str(one.log)).returncode == 0
    logs.rename(one.directory / "elsewhere")
    one.signal(signal.SIGUSR1)
    one.log = one.directory / "elsewhere" / "log"
    one.wait_log(f"cannot reopen {logs}/log: No such file or directory")
    everybody_says(one, "still", one.read_log)


@pytest.mark.parametrize("option", ["--log-file", "--stdout-file"])
def test_a_file_that_cannot_be_written_is_a_failed_start(one: Instance, option: str) -> None:
    started = one.run("app", "-d", option, "/no/such/file")
    assert started.returncode == 1
    assert "gworker: error: cannot " in started.stderr
    assert "/no/such/file: No such file or directory" in started.stderr
    wait_for(lambda: not one.processes(), "the daemon has left")


def test_the_level_is_a_floor(one: Instance) -> None:
    assert one.run("app", "-d", "--log-file", str(one.log), "--log-level", "warning").returncode == 0
    one.ask("text", b"quiet\n")
    wait_for(lambda: "warned quiet" in one.read_log(), "the warning")
    assert "[INFO]" not in one.read_log()
