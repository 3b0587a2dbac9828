"""What is measured: the yardstick, gworker and its peers, each a command that serves one mode on
one port."""

import importlib.util
import itertools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from measure import BIN, HERE, HOST, ROOT, Server, free_port

# A gworker process inherits this; the package need not be installed.
PYTHONPATH = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
CROWD = 10_000
"""Connections that a broadcast goes to."""
HOLES = "holes"
"""The file that is sent."""
SOCKET = "echo.sock"
"""Of the services that listen on a unix socket as well, in the private directory."""
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Subject:
    """One server in one mode. `command(port, directory)` starts it; `target` belongs to the
    section."""

    name: str
    mode: str
    command: Callable[[int, Path], list[str]]
    target: float | None = None
    needs: str | None = None  # a module that may be missing

    @property
    def installed(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None

    def serve(self, directory: Path) -> Server:
        """A server that is not started yet, with a free port and a private directory below
        `directory`."""
        port = free_port()
        private = directory / str(next(_numbers))
        private.mkdir(mode=0o700)
        environment = {
            "BENCH_PORT": str(port),
            "BENCH_SOCKET": str(private / SOCKET),
            "PYTHONPATH": PYTHONPATH,
        }
        environment["BENCH_CROWD"] = str(CROWD)
        environment["BENCH_HOLES"] = str(directory / HOLES)
        return Server(self.name, self.mode, port, self.command(port, private), private, environment)


def gworker_command(service: str, directory: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "gworker", f"benchmarks/apps.py:{service}"]
    return [*command, "--runtime-dir", str(directory), "--graceful-timeout", "5", *options]


def gworker(
    mode: str, target: float | None = None, *, service: str | None = None, workers: int = 1
) -> Subject:
    def command(port: int, directory: Path) -> list[str]:
        return gworker_command(service or mode, directory, "-w", str(workers))

    return Subject(f"gworker {service or mode}", mode, command, target)


def peer(name: str, mode: str, needs: str | None = None) -> Subject:
    def command(port: int, directory: Path) -> list[str]:
        return [sys.executable, str(HERE / "peers.py"), mode, str(port)]

    return Subject(name, mode, command, needs=needs)


def gunicorn_command(port: int, directory: Path) -> list[str]:
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "1", "-b", f"{HOST}:{port}"]
    return [*command, "--no-control-socket", "--chdir", str(HERE), "peers:application"]


def yardstick_command(port: int, directory: Path) -> list[str]:
    return [str(BIN / "echo"), str(port)]


YARDSTICK = Subject("C echo tcp", "tcp", yardstick_command)
GWORKER = (gworker("tcp", 1.6), gworker("text", 1.8), gworker("ws", 2.0), gworker("http", 2.5))
PEERS = (
    peer("StreamServer tcp", "tcp"),
    peer("StreamServer text", "text"),
    peer("gevent-websocket ws", "ws", needs="geventwebsocket"),
    peer("pywsgi http", "http"),
    Subject("gunicorn gevent http", "http", gunicorn_command, needs="gunicorn"),
)
