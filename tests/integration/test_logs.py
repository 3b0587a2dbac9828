"""Where lines go: log and output files, moved away and made anew, in all processes."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import places
import pytest
from instance import Instance, wait_for

from gworker.master.log_files import MAX_SIZE

pytestmark = pytest.mark.timeout(180)

APP = places.app("speaks")


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Instance]:
    instance = Instance(tmp_path / "instance", APP)
    yield instance
    instance.kill()


def everybody_says(one: Instance, word: str, found: Callable[[], str]) -> None:
    """Ask until both processes have logged `word`."""

    def said() -> bool:
        pids = {row["pid"] for row in one.workers()}
        one.ask("text", word.encode() + b"\n")
        return all(f"[{pid}] [INFO] noted {word}" in found() for pid in pids)

    wait_for(said, f"{word!r} from every process")


def test_files_that_were_moved_away_are_made_anew_by_usr1(one: Instance) -> None:
    output = one.directory / "out"
    started = one.run("app", "-d", "--log-file", str(one.log), "--stdout-file", str(output))
    assert started.returncode == 0, started.stderr
    everybody_says(one, "before", one.read_log)
    assert "[WARNING] warned before" in one.read_log(), (
        "what user code logs without setting anything up"
    )
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
    assert (
        one.run("app", "-d", "--log-file", str(one.log), "--log-level", "warning").returncode == 0
    )
    one.ask("text", b"quiet\n")
    wait_for(lambda: "warned quiet" in one.read_log(), "the warning")
    assert "[INFO]" not in one.read_log()


def start_daemon(one: Instance, target: str = "app", *options: str) -> Path:
    """Start it without --log-file; where the start says that the log is."""
    started = one.run(target, "-d", *options)
    assert (started.returncode, started.stderr) == (0, "")
    return Path(started.stdout.rstrip().rpartition(", log ")[2])


def test_a_daemon_has_a_log_without_asking_for_one(one: Instance) -> None:
    one.log = start_daemon(one, "app:text", "--name", "app/text")
    assert one.log.parent == Path(os.environ["LOGS_DIRECTORY"])
    assert re.fullmatch(r"app-text-[0-9a-f]{8}\.log", one.log.name), "a name can be no path"
    everybody_says(one, "something", one.read_log)
    assert one.log.stat().st_mode & 0o777 == 0o640
    assert f"\nlog {one.log} (default)\n" in one.run("status").stdout
    assert f'log-file = "{one.log}"  # default\n' in one.run("status", "--settings").stdout
    assert re.search(
        rf"log-file +{one.log} +default\n", one.run("check", "app", "-d", "-n", "app/text").stdout
    )
    one.log.rename(one.log.with_name("moved"))
    one.signal(signal.SIGUSR1)
    wait_for(one.log.exists, "made anew")
    everybody_says(one, "more", one.read_log)


def test_the_log_of_a_daemon_is_turned_over(one: Instance) -> None:
    one.log = start_daemon(one, "app", "--name", "big")
    os.truncate(one.log, MAX_SIZE)
    one.wait_log("log files reopened")
    assert Path(f"{one.log}.1").stat().st_size >= MAX_SIZE
    everybody_says(one, "after", one.read_log)
    assert one.reload()["exit"] == 0
    everybody_says(one, "reloaded", one.read_log)
    assert one.run("upgrade").returncode == 0
    everybody_says(one, "upgraded", one.read_log)


def test_a_log_that_the_user_has_named_is_not_turned_over(one: Instance) -> None:
    assert one.run("app", "-d", "--log-file", str(one.log)).returncode == 0
    os.truncate(one.log, MAX_SIZE)

    def what_follows() -> str:
        with open(one.log) as file:
            file.seek(MAX_SIZE)
            return file.read()

    everybody_says(one, "on", what_follows)
    assert sorted(path.name for path in one.directory.iterdir() if "log" in path.name) == ["log"]


def test_without_a_place_for_its_log_a_daemon_does_not_start(
    one: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = one.directory / "app.py" / "logs"
    monkeypatch.setenv("LOGS_DIRECTORY", str(directory))
    started = one.run("app", "-d")
    assert (started.returncode, started.stdout) == (1, "")
    said = (
        f"gworker: error: cannot write the log {directory}/app.log: {directory}: Not a "
        "directory; give a --log-file"
    )
    assert started.stderr == said + "\n"
    wait_for(lambda: not one.processes(), "the daemon has left")


OWN_LOGGING = places.app("own_logging")


@pytest.mark.parametrize("how", ["dictConfig", "fileConfig"])
@pytest.mark.parametrize("when", ["at import", "in on_worker_start", "in a handler"])
def test_a_500_is_in_the_log_though_the_application_has_disabled_all_loggers(
    instance: Callable[..., Instance], how: str, when: str
) -> None:
    one = instance(OWN_LOGGING, "--env", f"HOW={how}", "--env", f"WHEN={when}")
    assert one.ask("web", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 200 ")

    def failed() -> bool:
        assert one.ask("web", b"GET /fail HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 500 ")
        return "ValueError: failed on purpose" in one.read_log()

    if when == "in a handler":  # looked at each second
        wait_for(failed, "a traceback in the log")
    else:
        assert failed()
    assert "asked for /fail" in (one.directory / "own.log").read_text()


UNIX_LINES = places.app("unix_lines")

FORGED = "[2026-01-01 00:00:00 +0000] [1] [CRITICAL] forged"


def test_peers_cannot_forge_records(
    instance: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = instance(UNIX_LINES)
    monkeypatch.chdir(one.directory)  # the paths of unix sockets are short
    for number, message in enumerate(
        [b"\xff", b"boom\r\x1b[2J\xc2\x9b1m\xe2\x80\xa8" + FORGED.encode()]
    ):
        with socket.socket(socket.AF_UNIX) as client:
            client.bind(f"{number}\n{FORGED}\x1b")
            client.connect("s")
            client.sendall(message + b"\n")
            assert client.recv(100) == b""
    one.wait_log("ValueError: no such command: boom")
    one.wait_log("line is not UTF-8")
    text = one.read_log()
    assert text.count("CRITICAL] forged") >= 3
    assert not [line for line in text.splitlines() if line.startswith(FORGED)]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028]", text)
