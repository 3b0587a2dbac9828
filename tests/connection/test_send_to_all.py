"""One message to many connections: the compiled core sends where that is simple, else nowhere."""

from __future__ import annotations

import _socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.core import IMPLEMENTATION, send_to_all
from gworker.ipc.scoreboard import Scoreboard
from gworker.protocols import get

compiled = pytest.mark.skipif(IMPLEMENTATION == "Python", reason="the core in Python has no such")

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class House:
    """Connections whose peers are in this process."""

    def __init__(self) -> None:
        self.board = Scoreboard(1)
        self.row = self.board.row(self.board.take())
        self.peers: dict[Any, _socket.socket] = {}

    def enter(self, protocol: str, handler: Any = None) -> Any:
        worker = Worker(f"{protocol}://127.0.0.1:1", on_message=handler)
        context = ServerContext(worker, Limits(), self.row, get_hub().loop)
        near, far = _socket.socketpair()
        near.setblocking(False)
        far.settimeout(5)
        connection = Connection(context, near, None, get(protocol))
        connection.open()
        self.peers[connection] = far
        return connection

    def got(self, connection: Any) -> bytes:
        """What its peer has, without waiting."""
        far = self.peers[connection]
        far.setblocking(False)
        try:
            return far.recv(65536)
        except BlockingIOError:
            return b""


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    for connection, far in house.peers.items():
        connection.destroy()
        far.close()


@compiled
def test_each_has_it_in_its_own_framing(house: House) -> None:
    some = [house.enter(name) for name in ("tcp", "text", "frame", "tcp")]
    assert send_to_all(some, "m\xe9") == (4, [])
    texts = [house.got(each) for each in some]
    assert texts == [b"m\xc3\xa9", b"m\xc3\xa9\n", b"\0\0\0\x07m\xc3\xa9", b"m\xc3\xa9"]


@compiled
def test_large_and_binary_messages_go_the_same_way(house: House) -> None:
    tcp, frame = house.enter("tcp"), house.enter("frame")
    assert send_to_all([tcp, frame], b"x" * 20_000) == (2, [])
    assert house.got(tcp) == b"x" * 20_000
    assert house.got(frame) == (20_004).to_bytes(4, "big") + b"x" * 20_000


@pytest.mark.parametrize("message", [{"a": 1}, [1], bytearray(b"b"), memoryview(b"b"), None])
def test_what_is_neither_text_nor_bytes_is_left(house: House, message: object) -> None:
    one = house.enter("tcp")
    assert send_to_all([one], message) == (0, [one])
    assert house.got(one) == b""


def test_an_exchange_that_owes_an_answer_is_left(house: House) -> None:
    one = house.enter("http", lambda connection, request: gevent.sleep(60))
    house.peers[one].sendall(REQUEST)
    gevent.sleep(0.05)
    assert send_to_all([one], "no answer") == (0, [one])
    assert house.got(one) == b""


def test_a_handshake_that_has_not_come_is_left(house: House) -> None:
    one = house.enter("websocket")
    assert send_to_all([one], "early") == (0, [one])
    assert house.got(one) == b""


def test_what_waits_to_be_written_is_not_overtaken(house: House) -> None:
    one = house.enter("tcp")
    while not one.send_queue:
        one.send(b"x" * 65536)
    assert send_to_all([one], "later") == (0, [one])


def test_one_that_is_closed_or_observed_is_left(house: House) -> None:
    closed, observed = house.enter("tcp"), house.enter("tcp")
    closed.destroy()
    observed.observer = object()
    assert send_to_all([closed, observed], "m") == (0, [closed, observed])
    assert house.got(observed) == b""
    observed.observer = None


def test_what_is_no_connection_is_left() -> None:
    other = object()
    assert send_to_all([other], "m") == (0, [other])


@compiled
def test_one_whose_peer_has_gone_neither_takes_it_nor_is_left(house: House) -> None:
    one, gone, two = (house.enter("tcp") for _ in range(3))
    house.peers[gone].close()
    assert send_to_all([one, gone, two], "m") == (2, [])
    assert gone.status == "closed"
    assert [house.got(each) for each in (one, two)] == [b"m", b"m"]
