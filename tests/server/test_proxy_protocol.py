"""The steps before a connection: the header of the PROXY protocol, the number per address."""

from __future__ import annotations

import _socket
import socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.config.trusted_proxies import Trust
from gworker.connection.context import ServerContext
from gworker.ipc.scoreboard import Scoreboard
from gworker.server.proxy_protocol import admission
from gworker.system.peer_address import Proxied

PROXY = ("127.0.0.1", 9)
HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n"


def until(condition: Callable[[], object]) -> None:
    with gevent.Timeout(5):
        while not condition():
            gevent.sleep(0.005)


class House:
    def __init__(self, trusted: str | None = "127.0.0.1", **limits: Any) -> None:
        board = Scoreboard(1)
        row = board.row(board.take())
        self.service = ServerContext(Worker(name="w"), Limits(**limits), row, get_hub().loop)
        self.service.proxies = None if trusted is None else Trust(trusted)
        self.served: list[tuple[_socket.socket, Any]] = []
        self.step = admission(self.service, self.serve)
        self.far: list[socket.socket] = []

    def serve(self, socket: _socket.socket, remote: Any) -> None:
        self.served.append((socket, remote))

    def accept(self, remote: Any = PROXY) -> socket.socket:
        """The peer's end of a new socket."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            far = socket.create_connection(listener.getsockname(), timeout=5)
            descriptor, _ = listener._accept()  # type: ignore[attr-defined]
        near = _socket.socket(fileno=descriptor)
        near.setblocking(False)
        self.far.append(far)
        self.step(near, remote)
        return far

    @property
    def waits(self) -> int:
        return len(self.service.registry.handshaking)


@pytest.fixture
def house() -> Iterator[Callable[..., House]]:
    made: list[House] = []

    def build(*arguments: Any, **limits: Any) -> House:
        made.append(House(*arguments, **limits))
        return made[-1]

    yield build
    for each in made:
        for end in (*each.far, *(near for near, _ in each.served)):
            end.close()


def is_reset(peer: socket.socket) -> bool:
    try:
        return peer.recv(1) == b"?"
    except ConnectionResetError:
        return True


def test_without_a_setting_there_is_no_step(house: Callable[..., House]) -> None:
    one = house(None)
    assert one.step == one.serve


@pytest.mark.parametrize("pieces", [[HEADER + b"rest"], [HEADER[:9], HEADER[9:], b"rest"]])
def test_the_header_is_read_and_nothing_behind_it(
    house: Callable[..., House], pieces: list[bytes]
) -> None:
    one = house()
    far = one.accept()
    assert one.waits == 1
    for piece in pieces:
        far.sendall(piece)
        gevent.sleep(0.01)
    until(lambda: one.served)
    ((near, remote),) = one.served
    assert isinstance(remote, Proxied)
    assert (tuple(remote), remote.proxy) == (("192.0.2.7", 1234), PROXY)
    assert near.recv(100) == b"rest"
    assert not one.waits
    assert not one.service.timeouts.pending


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "refused a connection from the proxy 127.0.0.1:9: "),
        (b"PROXY", "it ended before its PROXY header"),
    ],
)
def test_anything_else_is_refused(
    house: Callable[..., House], caplog: pytest.LogCaptureFixture, data: bytes, why: str
) -> None:
    one = house()
    freed: list[int] = []
    one.service.registry.on_closed.append(lambda: freed.append(1))
    far = one.accept()
    far.sendall(data)
    far.shutdown(socket.SHUT_WR)
    until(lambda: not one.waits)
    assert why in caplog.text
    assert is_reset(far)
    assert (one.served, freed) == ([], [1])


def test_a_proxy_that_looks_whether_the_port_is_open_is_not_logged(
    house: Callable[..., House], caplog: pytest.LogCaptureFixture
) -> None:
    one = house()
    one.accept().close()
    until(lambda: not one.waits)
    assert not caplog.records


def test_a_peer_that_is_not_trusted(
    house: Callable[..., House], caplog: pytest.LogCaptureFixture
) -> None:
    one = house()
    far = one.accept(("192.0.2.1", 5))
    assert caplog.messages == ["refused a connection from 192.0.2.1:5: no trusted proxy"]
    assert is_reset(far)


def test_a_header_that_does_not_come(
    house: Callable[..., House], caplog: pytest.LogCaptureFixture
) -> None:
    one = house(handshake_timeout=0.05)
    one.accept()
    until(lambda: not one.waits)
    assert caplog.messages[0].endswith("127.0.0.1:9: no PROXY header in time")


def test_a_copy_of_the_process_leaves_the_socket_to_its_parent(house: Callable[..., House]) -> None:
    one = house()
    far = one.accept()
    (waiting,) = one.service.registry.handshaking
    waiting.let_go()
    assert far.recv(1) == b"", "no reset"
    assert not one.waits


def test_one_address_has_no_more_connections_than_it_may(
    house: Callable[..., House], caplog: pytest.LogCaptureFixture
) -> None:
    one = house(None, max_connections_per_address=1)
    per_address = one.service.registry.per_address
    one.accept(("192.0.2.1", 1))
    per_address.add(("192.0.2.1", 1))
    far = one.accept(("192.0.2.1", 2))
    assert is_reset(far)
    assert caplog.messages == [
        "192.0.2.1:2 has max_connections_per_address (1) connections: refused one"
    ]
    one.accept(("192.0.2.2", 1))
    assert (len(one.served), per_address.refused) == (2, 1)
