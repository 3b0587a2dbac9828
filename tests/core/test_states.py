"""What the message path reads and changes of a connection, in whichever core is chosen."""

from __future__ import annotations

import _socket
import gc
import sys
from typing import Any

import pytest
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.state import State
from gworker.core import IMPLEMENTATION, ConnectionState, TransportState
from gworker.ipc.scoreboard import Scoreboard
from gworker.protocols.tcp import TcpProtocol
from gworker.system.peer_address import Proxied

IPV4 = ("192.0.2.1", 65535)


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "address",
    [
        IPV4,
        ("0.0.0.0", 0),
        ("2001:db8::1", 443, 0, 0),
        ("::ffff:192.0.2.1", 1, 0, 0),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 9, 0, 0),
        ("fe80::1%eth0", 1, 0, 2),
        ("fe80::1", 1, 0, 2),
        ("2001:db8::1", 1, 7, 0),
        ("2001:DB8::1", 1, 0, 0),
        ("2001:db8::1", 1),
        ("192.0.2.1", 1, 0, 0),
        ("192.0.2.01", 1),
        ("192.0.2.1", 65536),
        ("192.0.2.1", -1),
        ("192.0.2.1", 2**80),
        ("192.0.2.1", "1"),
        ("192.0.2.1", True),
        (Name("192.0.2.1"), 1),
        ("192.0.2.1\0x", 1),
        ("\udc80", 1),
        ("x" * 5000, 1),
        ("client.example", 1),
        (None, 1),
        ("192.0.2.1",),
        (),
        "",
        "/run/peer",
        b"\0abstract",
        None,
        Proxied(IPV4, ("198.51.100.1", 2)),
    ],
)
def test_an_address_comes_back_as_it_was(address: Any) -> None:
    io = TransportState()
    for each in (address, IPV4, address, "", address):
        io.remote = each
        for _ in range(2):
            assert (io.remote, type(io.remote)) == (each, type(each))
    if isinstance(address, tuple) and address:
        assert [type(each) for each in io.remote] == [type(each) for each in address]
    if isinstance(address, Proxied):
        assert io.remote.proxy == address.proxy


def test_an_address_that_is_kept_is_freed_with_the_transport_and_with_the_next_one() -> None:
    address = Proxied(IPV4, "")
    before = sys.getrefcount(address)
    ios = [TransportState() for _ in range(3)]
    for io in ios:
        io.remote = address
        io.remote = address
    assert sys.getrefcount(address) == before + 3
    ios[0].remote = IPV4
    ios[1].remote = None
    assert sys.getrefcount(address) == before + 1
    del io, ios
    gc.collect()
    assert sys.getrefcount(address) == before


def test_a_connection_has_each_of_the_states() -> None:
    connection: Any = ConnectionState()
    for state in State:
        connection.lifecycle = state
        assert connection.lifecycle is state


@pytest.mark.skipif(IMPLEMENTATION != "compiled", reason="a slot takes everything")
@pytest.mark.parametrize("value", [None, "established", 0])
def test_nothing_else_is_a_state(value: Any) -> None:
    connection: Any = ConnectionState()
    connection.lifecycle = State.CLOSED
    with pytest.raises(TypeError):
        connection.lifecycle = value
    assert connection.lifecycle is State.CLOSED


@pytest.mark.parametrize("name", ["eof_received", "parser_paused"])
def test_flags_are_bools(name: str) -> None:
    owner: Any = TransportState() if name == "eof_received" else ConnectionState()
    for value in (True, False, True):
        setattr(owner, name, value)
        assert getattr(owner, name) is value


@pytest.mark.parametrize("size", [65536, 126976])
def test_the_size_of_a_read(size: int) -> None:
    io: Any = TransportState()
    io._read_size = size
    assert io._read_size == size
    io.eof_received, io.remote, io.pause_reasons = True, IPV4, 63
    assert (io._read_size, io.pause_reasons, io.remote) == (size, 63, IPV4)


@pytest.mark.skipif(IMPLEMENTATION != "compiled", reason="a slot takes 8 bytes")
def test_what_an_idle_connection_takes() -> None:
    board = Scoreboard(1)
    server = ServerContext(Worker("tcp://127.0.0.1:0"), Limits(), board.row(0), get_hub().loop)
    one, other = _socket.socketpair()
    connection = Connection(server, one, IPV4, TcpProtocol)
    try:
        assert sys.getsizeof(connection) <= 136
        assert sys.getsizeof(connection.io) <= 120
    finally:
        connection.destroy()
        other.close()
