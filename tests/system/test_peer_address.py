"""Addresses in the forms that users ask for."""

from __future__ import annotations

import os
import pickle
import socket

import pytest

from gworker.system.peer_address import (
    Credentials,
    Proxied,
    SocketAddress,
    connected,
    credentials_of,
    ip,
    local_of,
    port,
    text,
)


@pytest.mark.parametrize(
    ("address", "host", "number", "shown"),
    [
        (("192.0.2.1", 80), "192.0.2.1", 80, "192.0.2.1:80"),
        (("2001:db8::1", 80, 0, 0), "2001:db8::1", 80, "[2001:db8::1]:80"),
        (("::ffff:192.0.2.1", 80, 0, 0), "192.0.2.1", 80, "192.0.2.1:80"),
        ("/run/x.sock", "", 0, "/run/x.sock"),
        (b"\0abstract", "", 0, "@abstract"),
        ("", "", 0, ""),
        (None, "", 0, ""),
    ],
)
def test_forms(address: SocketAddress, host: str, number: int, shown: str) -> None:
    assert (ip(address), port(address), text(address)) == (host, number, shown)


def test_a_proxied_address_is_the_clients_and_knows_its_proxy() -> None:
    address = Proxied(("192.0.2.7", 5), ("127.0.0.1", 80))
    for each in (address, pickle.loads(pickle.dumps(address))):
        assert text(each) == "192.0.2.7:5"
        assert connected(each) == ("127.0.0.1", 80)
    assert connected(("127.0.0.1", 80)) == ("127.0.0.1", 80)


def test_the_process_at_the_other_end() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert credentials_of(one) == Credentials(os.getpid(), os.getuid(), os.getgid())
    with socket.socket() as tcp:
        assert credentials_of(tcp) is None


def test_a_closed_socket_has_no_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert local_of(server) == server.getsockname()
    assert local_of(server) is None
