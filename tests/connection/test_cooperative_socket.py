"""The socket of a `socketserver` handler: it counts, and over TLS it refuses what would go past
that."""

from __future__ import annotations

import _socket
from collections.abc import Iterator
from typing import Any

import pytest

from gworker.connection.cooperative_socket import (
    CountingSocket,
    TlsCountingSocket,
    cooperative,
    raw,
)


class Owner:
    read = written = 0

    def count(self, read: int, written: int) -> None:
        self.read += read
        self.written += written


@pytest.fixture
def pair() -> Iterator[tuple[CountingSocket, _socket.socket, Owner]]:
    near, far = _socket.socketpair()
    ours, owner = cooperative(near), Owner()
    ours.count = owner.count
    yield ours, far, owner
    ours.close()
    far.close()


def test_each_way_to_read_and_write_is_counted(pair: Any) -> None:
    ours, far, owner = pair
    far.send(b"12345")
    assert ours.recv(2) == b"12"
    buffer = bytearray(10)
    assert ours.recv_into(buffer) == 3
    assert ours.send(b"1234") == 4
    ours.sendall(b"56")
    assert (owner.read, owner.written) == (5, 6)


def test_the_end_of_the_stream_is_found_not_raised(pair: Any) -> None:
    ours, far, _owner = pair
    ours.end(_socket.SHUT_RD)
    assert ours.recv(10) == b""
    assert not ours.is_waiting
    far.close()
    ours.end(_socket.SHUT_RDWR)
    ours.end(_socket.SHUT_RDWR)


def test_it_is_a_plain_socket_again(pair: Any) -> None:
    ours, far, _ = pair
    plain = raw(ours)
    assert type(plain) is _socket.socket
    assert plain.gettimeout() == 0.0
    assert ours.fileno() == -1
    plain.send(b"x")
    assert far.recv(10) == b"x"
    plain.close()


@pytest.mark.parametrize(
    "name",
    ["recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "sendto", "sendmsg", "detach", "dup"],
)
def test_nothing_goes_past_tls(name: str) -> None:
    over_tls = TlsCountingSocket()
    with pytest.raises(TypeError, match="not possible with TLS"):
        getattr(over_tls, name)(b"x")
    with pytest.raises(ValueError, match="flags are not possible"):
        over_tls.recv(10, _socket.MSG_PEEK)
    over_tls.close()
