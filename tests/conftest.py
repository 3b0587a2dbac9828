"""For all tests."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from driving import Drive
from pki import Pki
from setproctitle import setproctitle
from world import World

from gworker.cli.instances import TITLE
from gworker.master.control_server import ControlServer
from gworker.master.runtime_files import RuntimeFiles

# A shell starts jobs in the background with SIGINT ignored; what the tests start would inherit
# that, and never hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Where daemons without --log-file log to; some of them run as nobody.
os.environ["LOGS_DIRECTORY"] = tempfile.mkdtemp(prefix="gworker-logs-")
os.chmod(os.environ["LOGS_DIRECTORY"], 0o1777)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--brokers", default="", help="kinds of broker that tests/broker is run over, or all"
    )


def pytest_unconfigure() -> None:
    """Each process of the tests has made one."""
    shutil.rmtree(os.environ["LOGS_DIRECTORY"], ignore_errors=True)


@pytest.fixture
def start() -> Iterator[SimpleNamespace]:
    """`start.one(...)`: a child that holds the runtime files of an instance; its pid is
    returned."""
    pids: list[int] = []

    def one(directory: str, name: str, pid_file: str | None = None) -> int:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                setproctitle(f"{TITLE}[{name}]")
                files = RuntimeFiles([directory], name, pid_file)
                files.acquire()
                selector = selectors.DefaultSelector()
                ControlServer(files.socket_path, selector, lambda call: None).open()
                os.write(writer, b"+")
                signal.pause()
            finally:
                os._exit(1)
        os.close(writer)
        pids.append(pid)
        assert os.read(reader, 1) == b"+"
        os.close(reader)
        return pid

    yield SimpleNamespace(one=one)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """`make(**settings)`: an arbiter with invented processes and an invented clock."""
    made: list[World] = []

    def one(**settings: Any) -> World:
        made.append(World(tmp_path, **settings))
        return made[-1]

    yield one
    for each in made:
        each.close()


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    """One such arbiter, without any setting."""
    return make()


@pytest.fixture(scope="session")
def drive() -> Drive:
    """What drives a protocol without a connection."""
    return Drive()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority, and certificates of `server`, `shop`, `any` and `client`."""
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.issue("server", "localhost")
    made.issue("shop", "shop.example.com")
    made.issue("any", "*.example.com")
    made.issue("client", "client.example.com")
    return made


@pytest.fixture
def files(pki: Pki) -> dict[str, str]:
    """The TLS options of a server."""
    where = pki.directory
    return {"certfile": str(where / "server.pem"), "keyfile": str(where / "server.key")}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and no settings in the environment."""
    for name in [name for name in os.environ if name.startswith("GWORKER_")]:
        if name != "GWORKER_PURE":  # which chooses the core that is tested
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
