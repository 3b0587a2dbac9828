"""One gworker instance under test: its directory, its processes, its commands."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
from template import Command

from gworker.cli import control_client, instances

T = TypeVar("T")

FORKED = {"check", "connections", "health", "list", "reload", "scale", "status", "stop", "upgrade"}
"""Commands that a template forks; those that start something are executed."""

DEADLINE = 60.0
"""Seconds within which anything that a test waits for has to happen; a slow machine needs most of
them."""


def wait_for(condition: Callable[[], T], what: str, seconds: float = DEADLINE) -> T:
    """Return the first true value of `condition()`; fail after `seconds`."""
    end = time.monotonic() + seconds
    pause = 0.01
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.2, 0.1)  # looking is work, and slows down what is waited for
    return value


def is_alive(process: psutil.Process) -> bool:
    """False for a zombie: it holds nothing, and what has inherited it may take a second to reap
    it."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def sockets(pid: int) -> set[str]:
    """The sockets that a process holds."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            if target.startswith("socket:"):
                found.add(target)
    return found


@contextmanager
def effective_user(uid: int | None) -> Iterator[None]:
    """Look at files as this user does; None: as before. Needs root."""
    before = os.geteuid()
    os.seteuid(before if uid is None else uid)
    try:
        yield
    finally:
        os.seteuid(before)


class Instance:
    """An app in a directory of its own, served by `python -m gworker app:handlers`."""

    def __init__(self, directory: Path, source: str) -> None:
        directory.mkdir()
        self.directory = directory
        self.runtime = directory / "run"
        self.log = directory / "log"
        self.process: subprocess.Popen[str] | Command | None = None
        self.prefix: list[str] = []
        """What its commands are run by, as setpriv(1): they are executed then, and not forked by a
        template."""
        self.user: int | None = None
        """Whose instance it is, if not this process's own: no other user's commands believe its
        files."""
        self._writes = 0
        self.write(source)

    def write(self, source: str) -> None:
        """Write the app, as a deploy does."""
        path = self.directory / "app.py"
        path.write_text(textwrap.dedent(source))
        # Python takes a .pyc for current if size and second of the source are the same.
        self._writes += 1
        os.utime(path, (time.time(), time.time() - 1000 + self._writes))

    def start(self, *options: str, target: str = "app", wait: bool = True) -> None:
        """Start it in the foreground, with its log in a file; with `wait`, until it is ready."""
        arguments = [target, "--log-file", str(self.log), *options]
        if self.prefix:
            command, pipe = self.command(*arguments), subprocess.PIPE
            self.process = subprocess.Popen(
                command, cwd=self.directory, text=True, stdout=pipe, stderr=pipe
            )
        else:
            self.process = Command(self.arguments(*arguments), self.directory)
        if wait:
            wait_for(self._is_ready, f"ready, the log says:\n{self.read_log()}")

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(
                f"exited {self.process.returncode}: {self.process.communicate()}\n{self.read_log()}"
            )
        return " is ready: " in self.read_log()

    def command(self, *arguments: str) -> list[str]:
        """The command line of a gworker command for this instance."""
        return [*self.prefix, sys.executable, "-m", "gworker", *self.arguments(*arguments)]

    def arguments(self, *arguments: str) -> list[str]:
        """`arguments`, and which instance is meant."""
        return [*arguments, "--runtime-dir", str(self.runtime)]

    def run(self, *arguments: str, timeout: float = DEADLINE) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = self.command(*arguments)
        if self.prefix or arguments[0] not in FORKED:
            return subprocess.run(
                command,
                cwd=self.directory,
                text=True,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        started = Command(self.arguments(*arguments), self.directory)
        try:
            outputs = started.communicate(timeout)
        except subprocess.TimeoutExpired:
            started.kill()
            started.communicate()
            raise
        assert started.returncode is not None
        return subprocess.CompletedProcess(command, started.returncode, *outputs)

    def read_log(self) -> str:
        """All of the log so far."""
        return self.log.read_text() if self.log.exists() else ""

    @property
    def pid(self) -> int:
        """The arbiter's pid, from its pid file."""
        (path,) = self.runtime.glob("*.pid")
        return int(path.read_text())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the arbiter."""
        os.kill(self.pid, number)

    def ask_arbiter(self, command: str, **arguments: Any) -> list[dict[str, Any]]:
        """The arbiter's replies on its control socket: what a command asks, without starting
        one."""
        with effective_user(self.user):
            found = instances.scan([str(self.runtime)])
            connection = control_client.connect(found[0], DEADLINE)
        with closing(connection):
            return list(connection.call(command, **arguments))

    def status(self) -> dict[str, Any]:
        """What `gworker status --json` prints."""
        status: dict[str, Any] = self.ask_arbiter("status")[0]["status"]
        return status

    def workers(self, name: str | None = None) -> list[dict[str, Any]]:
        """The rows of `status`, of one Worker or of all."""
        return [row for row in self.status()["workers"] if name in (None, row["worker"])]

    def port(self, name: str) -> int:
        """The port on which a Worker listens."""
        return int(self.workers(name)[0]["listen"].rpartition(":")[2])

    def connect(self, name: str) -> socket.socket:
        """A TCP connection to a Worker."""
        return socket.create_connection(("127.0.0.1", self.port(name)), timeout=DEADLINE)

    def ask(self, name: str, data: bytes, size: int = 65536) -> bytes:
        """Connect, send `data`, and return what comes first."""
        with self.connect(name) as connection:
            connection.sendall(data)
            return connection.recv(size)

    def reload(self) -> dict[str, Any]:
        """Reload and wait for it: the arbiter's last reply, {"exit": 0} or {"exit": 1, "error":
        ...}."""
        return self.ask_arbiter("reload")[-1]

    def children(self) -> list[psutil.Process]:
        """The arbiter's children."""
        return psutil.Process(self.pid).children()

    def processes(self) -> list[psutil.Process]:
        """Everything that runs in this instance's directory: also what has lost its arbiter."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.directory) and process.pid != os.getpid():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wait_log(self, text: str, seconds: float = DEADLINE) -> None:
        """Wait until the log contains `text`."""
        wait_for(
            lambda: text in self.read_log(), f"{text!r} in the log:\n{self.read_log()}", seconds
        )

    def wait_exit(self, seconds: float = DEADLINE) -> int:
        """Wait until the foreground process has ended; return its exit code."""
        assert self.process is not None
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End everything that is left, at once."""
        pids = (
            [int(path.read_text() or 0) for path in self.runtime.glob("*.pid")]
            if self.runtime.exists()
            else []
        )
        victims = []
        for pid in filter(None, pids):
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end at any moment
                process = psutil.Process(pid)
                victims += [*process.children(recursive=True), process]
        victims += [process for process in self.processes() if process not in victims]
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        wait_for(lambda: not any(map(is_alive, victims)), f"the end of {victims}")
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
