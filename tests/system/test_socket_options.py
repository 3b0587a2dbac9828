"""The options of sockets, as the kernel has them."""

from __future__ import annotations

import socket

from gworker.system.address import parse
from gworker.system.bind import bind


def test_accepted_sockets_inherit_what_was_set() -> None:
    listener = bind(parse("tcp://127.0.0.1:0"), backlog=8)
    client = socket.create_connection(listener.getsockname(), timeout=5)
    listener.settimeout(5)
    descriptor, _ = listener._accept()  # type: ignore[attr-defined]
    accepted = socket.socket(fileno=descriptor)
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 55
    for each in (accepted, client, listener):
        each.close()
