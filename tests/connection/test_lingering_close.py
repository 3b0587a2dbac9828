"""Closing without a reset: over real sockets."""

from __future__ import annotations

import _socket
import socket
import time
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent import get_hub

from gworker.connection import lingering_close
from gworker.connection.lingering_close import LingeringClose


def until(condition: Callable[[], object]) -> None:
    with gevent.Timeout(5):
        while not condition():
            gevent.sleep(0.005)


class House:
    def __init__(self) -> None:
        self.freed = 0
        self.lingerer = LingeringClose(get_hub().loop, 0, self._closed)
        listener = socket.create_server(("127.0.0.1", 0))
        self.peer = socket.create_connection(listener.getsockname())
        descriptor, _ = listener._accept()  # type: ignore[attr-defined]
        self.ours = _socket.socket(fileno=descriptor)
        self.ours.setblocking(False)
        listener.close()

    def _closed(self) -> None:
        self.freed += 1


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.peer.close()
    made.ours.close()


def test_what_is_unread_costs_the_peer_nothing(house: House) -> None:
    time.sleep(lingering_close.SECONDS)  # what holds up the event loop shortens no time
    house.peer.sendall(b"not read")
    house.ours.send(b"the answer")
    house.lingerer.close(house.ours)
    gevent.sleep(0.02)
    house.peer.sendall(b"and more")
    assert house.peer.recv(100) == b"the answer"
    assert house.peer.recv(100) == b""
    assert (len(house.lingerer.sockets), house.freed) == (1, 0)
    house.peer.close()
    until(lambda: house.freed)
    assert not house.lingerer.sockets
    assert house.ours.fileno() == -1


def test_a_peer_that_does_not_close_has_its_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering_close, "SECONDS", 0.05)
    house.lingerer.close(house.ours)
    until(lambda: house.freed)


def test_a_peer_that_sends_without_end_is_cut(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering_close, "MAX_BYTES", 1000)
    house.peer.sendall(bytes(2000))
    house.lingerer.close(house.ours)
    until(lambda: house.freed)


def test_a_socket_whose_peer_has_gone_is_closed_at_once(house: House) -> None:
    house.ours.close()
    house.lingerer.close(house.ours)
    assert not house.lingerer.sockets


def test_a_copy_of_the_process_closes_its_own_descriptor_only(house: House) -> None:
    house.lingerer.close(house.ours)
    for each in list(house.lingerer.sockets):
        each.let_go()
    assert (house.ours.fileno(), house.freed) == (-1, 0)
    assert not house.lingerer.sockets
