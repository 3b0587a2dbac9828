"""An answer to a datagram leaves from the address that it was sent to."""

from __future__ import annotations

import _socket
import socket

import pytest

from gworker.system.pktinfo import ask, receive, send


@pytest.mark.parametrize(
    ("family", "everywhere", "ours"),
    [
        (socket.AF_INET, "0.0.0.0", "127.0.0.2"),
        (socket.AF_INET6, "::", "::1"),
    ],
)
def test_the_answer_comes_from_where_it_was_asked(family: int, everywhere: str, ours: str) -> None:
    server = _socket.socket(family, socket.SOCK_DGRAM)
    server.bind((everywhere, 0))
    number = server.getsockname()[1]
    assert ask(server)
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(b"?", (ours, number))
        data, sender, way = receive(server, 100)
        assert data == b"?"
        assert way is not None
        assert way[0] == ours
        assert send(server, b"!", way, sender) == 1
        assert client.recvfrom(100)[1][:2] == (ours, number)
    server.close()


def test_a_socket_of_one_address_needs_no_way() -> None:
    server = _socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    assert not ask(server)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"?", server.getsockname())
        data, sender, way = receive(server, 100)
        assert (data, way) == (b"?", None)
        send(server, b"!", way, sender)
        assert client.recv(100) == b"!"
    server.close()
