"""Accepting: whose fault an error is, what happens without room, and pausing."""

from __future__ import annotations

import _socket
import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.context import ServerContext
from gworker.ipc.scoreboard import Column, Scoreboard
from gworker.server import acceptor as module
from gworker.server.acceptor import Acceptor


def until(condition: Callable[[], object]) -> None:
    with gevent.Timeout(5):
        while not condition():
            gevent.sleep(0.005)


class Listener:
    """A listening socket whose accept fails as a test says."""

    def __init__(self) -> None:
        self.real = socket.create_server(("127.0.0.1", 0))
        self.real.setblocking(False)
        self.errors: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def _accept(self) -> Any:
        if self.errors:
            raise OSError(self.errors.pop(0), "as the test says")
        return self.real._accept()  # type: ignore[attr-defined]


class House:
    def __init__(self, **limits: Any) -> None:
        board = Scoreboard(1)
        self.row = board.row(board.take())
        self.service = ServerContext(Worker(name="w"), Limits(**limits), self.row, get_hub().loop)
        self.listener = Listener()
        self.served: list[_socket.socket] = []
        self.acceptor = Acceptor(self.service, self.listener, self.serve)  # type: ignore[arg-type]
        self.clients: list[socket.socket] = []

    def serve(self, socket: _socket.socket, remote: Any) -> None:
        self.served.append(socket)
        if len(self.served) == self.faulty:
            raise LookupError("a protocol that cannot be made")

    faulty = 0

    def connect(self) -> None:
        self.clients.append(socket.create_connection(self.listener.getsockname()))

    def close(self) -> None:
        self.acceptor.close()
        for each in (*self.clients, *self.served):
            each.close()


@pytest.fixture
def house() -> Iterator[Callable[..., House]]:
    made: list[House] = []

    def build(**limits: Any) -> House:
        made.append(House(**limits))
        return made[-1]

    yield build
    for each in made:
        each.close()


def test_each_connection_is_served_and_counted(house: Callable[..., House]) -> None:
    one = house()
    one.acceptor.start()
    for _ in range(3):
        one.connect()
    until(lambda: len(one.served) == 3)
    assert one.row[Column.ACCEPTED] == 3
    assert not one.served[0].gettimeout()


@pytest.mark.parametrize("error", sorted(module.PEER_GONE))
def test_the_error_of_one_connection_is_not_that_of_the_next(
    house: Callable[..., House], error: int
) -> None:
    one = house()
    one.listener.errors.append(error)
    one.connect()
    one.acceptor.start()
    until(lambda: one.served)


@pytest.mark.parametrize("error", sorted(module.FULL))
def test_a_machine_that_is_full_is_tried_again(
    house: Callable[..., House],
    error: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "RETRY_FIRST", 0.01)
    one = house()
    one.acceptor._delay = 0.01
    one.listener.errors.append(error)
    one.connect()
    with caplog.at_level("INFO"):
        one.acceptor.start()
        until(lambda: one.served)
        until(lambda: len(caplog.records) == 2)
    assert [record.getMessage() for record in caplog.records] == [
        "accept: as the test says: not accepting until a connection closes",
        "accepting again",
    ]


def test_an_error_of_ours_goes_to_the_hub_and_accept_is_tried_later(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = house()
    one.listener.errors.append(errno.EBADF)
    told: list[Any] = []
    monkeypatch.setattr(get_hub(), "handle_error", lambda *error: told.append(error[1]))
    one.connect()
    one.acceptor.start()
    until(lambda: told)
    assert told == [OSError]
    one.acceptor.callback_failed()
    until(lambda: one.served)


def test_with_too_many_connections_the_others_wait_in_the_kernel(
    house: Callable[..., House], caplog: pytest.LogCaptureFixture
) -> None:
    one = house(max_connections=1)
    registry = one.service.registry
    one.serve = lambda socket, remote: registry.handshaking.add(socket)  # type: ignore[method-assign,assignment,return-value]
    one.acceptor._serve = one.serve
    for _ in range(2):
        one.connect()
    one.acceptor.start()
    until(lambda: caplog.records)
    assert len(registry.handshaking) == 1
    assert caplog.messages == [
        "max_connections (1) reached: not accepting until a connection closes"
    ]
    registry.handshaking.pop().close()  # type: ignore[attr-defined]
    registry.notify_closed()
    until(lambda: registry.handshaking)
    registry.handshaking.pop().close()  # type: ignore[attr-defined]


def test_one_that_cannot_be_served_costs_itself_only(house: Callable[..., House]) -> None:
    one = house()
    one.faulty = 1
    for _ in range(2):
        one.connect()
    one.acceptor.start()
    until(lambda: len(one.served) == 2)
    assert one.row[Column.EXCEPTIONS] == 1
    assert one.served[0].fileno() == -1


def test_while_it_is_paused_nothing_is_accepted(house: Callable[..., House]) -> None:
    one = house()
    one.acceptor.start()
    one.acceptor.pause()
    one.connect()
    gevent.sleep(0.02)
    assert not one.served
    one.acceptor.start()
    until(lambda: one.served)


def test_at_the_end_what_waits_is_accepted(house: Callable[..., House]) -> None:
    one = house()
    for _ in range(3):
        one.connect()
    one.acceptor.drain()
    assert len(one.served) == 3
    one.acceptor.stop()
    one.acceptor.stop()
    assert one.service.registry.on_closed == []
