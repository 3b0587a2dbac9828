"""What stands in for an instance and for a server when commands are tested."""

from __future__ import annotations

import subprocess
import textwrap
import types
from collections.abc import Callable

import places

from gworker.config.settings import Settings
from gworker.master.systemd import Invocation
from gworker.system.daemon import Launch

ARBITER = places.program("fake_arbiter")

Run = Callable[..., tuple[int, str, str]]


class Arbiters:
    """Fake arbiters, whose runtime files are in `directory`."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, answers: str, name: str = "shop", pid_file: str = "") -> subprocess.Popen[str]:
        """Start one; `answers` is Python, as `tests/programs/fake_arbiter.py` takes it."""
        arguments = [self.directory, name, pid_file, textwrap.dedent(answers)]
        process = subprocess.Popen([*ARBITER, *arguments], stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def end(self) -> None:
        """End all of them."""
        for process in self.processes:
            process.kill()
            process.communicate()


class Server(types.ModuleType):
    """In place of gworker.cli.serve and gworker.cli.check: notes what it is given."""

    def __init__(self) -> None:
        super().__init__("gworker.cli.serve")
        self.served: list[Settings] = []
        self.checked: list[Settings] = []
        self.result: int | Exception = 0

    def serve(
        self, settings: Settings, launch: Launch, invocation: Invocation, document: object
    ) -> int:
        self.served.append(settings)
        self.launch = launch
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def check(self, settings: Settings, as_json: bool) -> int:
        self.checked.append(settings)
        return 4
