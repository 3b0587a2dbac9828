"""Members that come to groups and leave them, as all their processes hear it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import places
import pytest
import scenarios
from broker_faults import BrokerProcess, until

test_presence = scenarios.of("presence")
test_presence_with_the_core_in_python = scenarios.of("presence", GWORKER_PURE="1")


class Program:
    """A process with a member in a room, and what it prints."""

    def __init__(self, path: str, uid: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, str(places.TESTS / "programs" / "shows_presence.py"), path, uid],
            env={**os.environ, "PYTHONPATH": str(places.TESTS / "support")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def close(self) -> None:
        self.popen.kill()
        self._thread.join(5)
        self.popen.communicate(timeout=5)

    def _read(self) -> None:
        assert self.popen.stdout is not None
        self.lines.extend(line.strip() for line in self.popen.stdout)

    def ask(self, expression: str) -> str:
        assert self.popen.stdin is not None
        known = len(self.lines)
        self.popen.stdin.write(f"{expression}\n")
        self.popen.stdin.flush()
        until(lambda: len(self.lines) > known)
        return self.lines.pop()

    def has_printed(self, line: str) -> Callable[[], bool]:
        return lambda: line in self.lines


@pytest.mark.timeout(60)
def test_a_process_that_was_stopped_for_longer_than_its_lease_comes_back() -> None:
    broker = BrokerProcess(lease=1)
    programs: list[Program] = []
    try:
        for uid in ("anna", "ben"):
            programs.append(Program(broker.path, uid))
            until(programs[-1].has_printed(f"joined ['{uid}'] left []"), 20)
        anna, ben = programs
        until(anna.has_printed("joined ['ben'] left []"))
        ben.popen.send_signal(signal.SIGSTOP)
        until(lambda: anna.ask("messages.count('room')") == "1")
        assert anna.ask("messages.is_online('ben')") == "False"
        until(anna.has_printed("joined [] left ['ben']"))
        anna.lines.clear()
        ben.popen.send_signal(signal.SIGCONT)
        until(anna.has_printed("joined ['ben'] left []"))
        assert anna.ask("messages.count('room')") == "2"
        assert anna.ask("messages.is_online('ben')") == "True"
        ben.popen.send_signal(signal.SIGSTOP)
        until(lambda: anna.ask("messages.count('room')") == "1")
        ben.popen.send_signal(signal.SIGCONT)
        until(lambda: anna.ask("messages.count('room')") == "2")
        anna.lines.clear()
        time.sleep(4.5)
        assert anna.lines == []
    finally:
        for each in programs:
            each.close()
        broker.close()
