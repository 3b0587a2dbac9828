"""The listeners that a process opens itself, and the kind of connection that each of them makes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection, Session
from gworker.connection.context import ServerContext
from gworker.errors import ConfigError
from gworker.ipc.scoreboard import Scoreboard
from gworker.server.listeners import WorkerListeners
from gworker.system import fork_guard


def until(condition: Callable[[], object]) -> None:
    with gevent.Timeout(5):
        while not condition():
            gevent.sleep(0.005)


class House:
    def __init__(self, **attributes: Any) -> None:
        board = Scoreboard(1)
        row = board.row(board.take())
        self.heard: list[Any] = []
        self.worker = Worker(name="w", protocol="text", **attributes)
        self.service = ServerContext(self.worker, Limits(), row, get_hub().loop)
        self.listeners = WorkerListeners(self.service)

    def ask(self, url: str) -> Any:
        """Send a line to `url`; return the connection that it has made here."""
        path = url.removeprefix("unix://")
        client: socket.socket
        if path != url:
            client = socket.socket(socket.AF_UNIX)
            client.connect("\0" + path[1:] if path.startswith("@") else path)
        else:
            host, _, port = url.partition("://")[2].rpartition(":")
            client = socket.create_connection((host, int(port)))
        before = set(self.service.registry.connections)
        with client:
            client.sendall(b"line\n")
            until(lambda: set(self.service.registry.connections) - before)
            (number,) = set(self.service.registry.connections) - before
            made = self.service.registry.connections[number]
        until(lambda: made.status == "closed")
        return made


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., House]]:
    monkeypatch.setattr(fork_guard, "on_fork", lambda step: None)
    made: list[House] = []

    def build(**attributes: Any) -> House:
        made.append(House(**attributes))
        return made[-1]

    yield build
    for each in made:
        each.listeners.close(take_queued=False)


def test_a_port_that_the_kernel_chooses_is_told(house: Callable[..., House]) -> None:
    one = house()
    url = one.listeners.open("text://127.0.0.1:0", one.worker)
    assert int(url.rpartition(":")[2]) > 0
    one.listeners.start()
    assert type(one.ask(url)) is Connection


def test_a_connection_handler_gets_sessions(house: Callable[..., House]) -> None:
    one = house()
    one.worker.connection_handler = one.heard.extend
    url = one.listeners.open("text://127.0.0.1:0", one.worker)
    one.listeners.start()
    assert type(one.ask(url)) is Session
    assert one.heard == ["line"]


def test_an_inner_worker_hears_what_comes_in_by_its_own_listener(
    house: Callable[..., House],
) -> None:
    one = house()
    inner = Worker("text://127.0.0.1:0", name="inner")
    inner.on_message = lambda connection, line: one.heard.append(line)
    one.listeners.start()
    one.ask(one.listeners.open("text://127.0.0.1:0", inner))
    assert one.heard == ["line"]


def test_the_file_of_a_unix_socket_goes_with_its_process(
    house: Callable[..., House], tmp_path: Path
) -> None:
    one, path = house(), tmp_path / "s"
    url = one.listeners.open(f"unix://{path}", one.worker)
    assert url == f"unix://{path}"
    one.listeners.start()
    one.ask(url)
    one.listeners.close(take_queued=False)
    assert not path.exists()


def test_a_unix_socket_in_use_is_refused(house: Callable[..., House], tmp_path: Path) -> None:
    one, other, path = house(), house(), tmp_path / "s"
    one.listeners.open(f"unix://{path}", one.worker)
    with pytest.raises(ConfigError, match="this process listens on it already"):
        one.listeners.open(f"unix://{path}", one.worker)
    with pytest.raises(ConfigError, match="in use by another program.* path of its own"):
        other.listeners.open(f"unix://{path}", other.worker)
    other.listeners.close(take_queued=False)
    assert path.exists()


def test_a_name_that_is_no_file_is_like_a_path(house: Callable[..., House]) -> None:
    one, other = house(), house()
    name = f"unix://@gworker-test-{os.getpid()}"
    url = one.listeners.open(name, one.worker)
    one.listeners.start()
    one.ask(url)
    with pytest.raises(ConfigError, match="in use"):
        other.listeners.open(name, other.worker)


def test_what_is_refused_leaves_no_file(house: Callable[..., House], tmp_path: Path) -> None:
    one = house()
    one.worker.protocol = "nonsense"
    with pytest.raises(ConfigError, match="nonsense"):
        one.listeners.open(f"unix://{tmp_path}/s", one.worker)
    assert not list(tmp_path.iterdir())


def test_datagrams_need_a_protocol_and_a_handler_for_them(house: Callable[..., House]) -> None:
    one = house()
    with pytest.raises(ConfigError, match="http protocol needs connections, and UDP has none"):
        one.worker.protocol = "http"
        one.listeners.open("udp://127.0.0.1:0", one.worker)
    one.worker.protocol = "text"
    one.worker.connection_handler = lambda connection: None
    with pytest.raises(ConfigError, match="UDP has none; use on_message"):
        one.listeners.open("udp://127.0.0.1:0", one.worker)


def test_tls_needs_a_certificate(house: Callable[..., House]) -> None:
    one = house()
    with pytest.raises(ConfigError, match="needs a certificate"):
        one.listeners.open("tls://127.0.0.1:0", one.worker)


def test_a_paused_process_accepts_nothing(house: Callable[..., House]) -> None:
    one = house()
    url = one.listeners.open("text://127.0.0.1:0", one.worker)
    one.listeners.start()
    one.listeners.pause()
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))):
        gevent.sleep(0.02)
        assert not one.service.registry.connections
        one.listeners.start()
        until(lambda: one.service.registry.connections)
    until(lambda: not one.service.registry.connections)
