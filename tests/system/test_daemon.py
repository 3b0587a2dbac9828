"""daemonize: what the starting command prints, returns and lets go of, in real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import places
import pytest

from gworker.errors import ConfigError
from gworker.system.daemon import MAX_MESSAGE, Launch

# A starting command: daemonizes, notes facts about the daemon in a file, then does what the test
# says.
STARTER = places.program("becomes_daemon")


class Starter:
    def __init__(self, tmp_path: Path) -> None:
        self.facts_path = tmp_path / "facts"
        self.process: subprocess.Popen[str] | None = None

    def run(self, action: str, output: str = "", **options: Any) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [*STARTER, str(self.facts_path), output, action],
            env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        return self.process

    def result(self, action: str, output: str = "", **options: Any) -> tuple[int, str, str]:
        process = self.run(action, output, **options)
        # communicate() returns at the end of the pipes: a descendant that kept one would make this
        # time out.
        out, err = process.communicate(timeout=20)
        return process.returncode, out, err

    @property
    def facts(self) -> dict[str, Any]:
        wait_until(self.facts_path.exists)
        return dict(json.loads(self.facts_path.read_text()))

    def end(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        if self.facts_path.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.facts["pid"], signal.SIGKILL)


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    starter.end()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_ready(starter: Starter) -> None:
    assert starter.result("launch.ready('up and running')") == (0, "before up and running\n", "")
    facts = starter.facts
    assert alive(facts["pid"])
    assert facts["pid"] != facts["starter"]
    assert facts["session"] not in (facts["pid"], facts["starter"], os.getsid(0))
    assert facts["directory"] == os.getcwd()
    assert {facts["fds"][fd] for fd in "012"} == {"/dev/null"}


def test_failed_prints_the_reason_on_stderr(starter: Starter) -> None:
    text = "Traceback:\\n  caf\\u00e9 \\udc80\\nImportError: no module"
    code, out, err = starter.result(f"launch.failed('{text}')")
    assert (code, out) == (1, "before ")
    assert err == "Traceback:\n  café \\udc80\nImportError: no module\n"


def test_only_the_first_word_counts(starter: Starter) -> None:
    assert starter.result("launch.ready('up'); launch.failed('down')") == (0, "before up\n", "")


@pytest.mark.parametrize(
    "end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit"]
)
def test_death_without_a_word(starter: Starter, end: str) -> None:
    code, out, err = starter.result(end)
    assert (code, out) == (1, "before ")
    assert err == "gworker: error: the arbiter died before it was ready\n"


def test_output_is_appended_at_once(starter: Starter, tmp_path: Path) -> None:
    output = tmp_path / "out.log"
    output.write_text("earlier\n")
    assert starter.result("launch.ready('up')", str(output))[0] == 0
    assert output.read_text() == "earlier\nto stdout\nto stderr\n"


def test_output_that_cannot_be_written_is_said_before_any_fork(
    starter: Starter, tmp_path: Path
) -> None:
    code, _, err = starter.result("launch.ready('up')", str(tmp_path / "no" / "out.log"))
    assert code == 1
    assert "ConfigError: cannot write" in err
    assert not starter.facts_path.exists()


def test_descriptors_of_the_shell_are_not_kept(starter: Starter) -> None:
    reader, writer = os.pipe()
    assert starter.result("launch.ready('up')", pass_fds=[writer])[0] == 0
    os.close(writer)
    assert os.read(reader, 1) == b""  # would block if the daemon held the other end
    os.close(reader)


def test_a_worker_that_let_go_does_not_hold_the_command(starter: Starter) -> None:
    worker = "if os.fork() == 0:\n  launch.close_in_child()\n  time.sleep(30)\nos._exit(0)"
    began = time.monotonic()
    assert starter.result(worker)[0] == 1
    assert time.monotonic() - began < 15


def test_a_command_that_was_killed_does_not_take_the_daemon_along(
    starter: Starter, tmp_path: Path
) -> None:
    wait = f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)"
    output = tmp_path / "out.log"
    process = starter.run(f"{wait}\nlaunch.ready('up'); print('on')", str(output))
    pid = starter.facts["pid"]
    process.kill()
    process.communicate(timeout=10)
    (tmp_path / "go").touch()
    wait_until(lambda: "on\n" in output.read_text())
    assert alive(pid)


def test_an_ignored_sigchld_does_no_harm(starter: Starter) -> None:
    ignore = lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # noqa: E731
    assert starter.result("launch.ready('up')", preexec_fn=ignore)[0] == 0


def test_interrupt_stops_the_daemon_and_says_so(starter: Starter) -> None:
    process = starter.run("pass", start_new_session=True)
    pid = starter.facts["pid"]
    # The daemon is there, so the command waits for its word, or for the process between them: both
    # must do.
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "before ")
    assert err == f"gworker: interrupted, the daemon (pid {pid}) is told to stop\n"
    wait_until(lambda: not alive(pid))


def test_a_long_message_neither_blocks_nor_loses_its_end() -> None:
    reader, writer = os.pipe()
    launch = Launch(writer)
    launch.failed("\x1b" * 100_000 + "the end")  # it is not read, and each character takes 6 bytes
    words = os.read(reader, 1 << 20).splitlines()
    assert json.loads(words[0]) == {"pid": str(os.getpid())}
    message = json.loads(words[1])["failed"]
    assert len(message) == MAX_MESSAGE
    assert message.endswith("the end")
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_foreground(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    launch = Launch()
    with caplog.at_level("INFO", logger="gworker"):
        launch.ready("all workers are ready")
    launch.failed("no good")
    launch.close_in_child()
    assert "all workers are ready" in caplog.text
    assert capsys.readouterr() == ("", "no good\n")


def test_config_error_is_the_error_of_open_output(tmp_path: Path) -> None:
    from gworker.system.daemon import open_output

    with pytest.raises(ConfigError, match="Is a directory"):
        open_output(str(tmp_path))
