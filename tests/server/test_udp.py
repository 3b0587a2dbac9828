"""One datagram as its handler sees it, which may be written for connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.ipc.scoreboard import Column, Scoreboard
from gworker.protocols import get
from gworker.server.udp import Datagram

CONTRACT = (
    "id", "worker", "protocol", "transport", "status", "remote_ip", "remote_port",
    "remote_address", "local_ip",
    "local_port", "local_address", "tls", "proxy_address", "peer_credentials", "context",
    "request", "subprotocol",
    "close_code", "close_reason", "bytes_read", "bytes_written", "max_send_buffer_size",
    "max_package_size",
    "send_queue", "recv_queue",
)  # fmt: skip


class World:
    """A listener of ours, a peer, and what on_error was told."""

    def __init__(self, family: socket.AddressFamily, host: str) -> None:
        self.ours, self.peer = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        for each in (self.ours, self.peer):
            each.bind((host, 0))
            each.settimeout(5)
        self.errors: list[str] = []
        worker = Worker("udp://127.0.0.1:0", name="w")
        worker.on_error = lambda connection, code, message: self.errors.append(message)
        board = Scoreboard(1)
        self.row = board.row(board.take())
        service: Any = SimpleNamespace(
            row=self.row,
            worker=worker,
            limits=Limits(),
            requests=0,
            bytes_written=0,
            registry=SimpleNamespace(next_id=lambda: 7),
            intercepted=lambda name, callback, *arguments: callback(*arguments),
        )
        self.listener: Any = SimpleNamespace(
            server=service, socket=self.ours, finished=lambda: None
        )

    def datagram(self, protocol: str = "udp", data: bytes = b"hello") -> Datagram:
        return Datagram(get(protocol), self.listener, data, self.peer.getsockname(), None)


def world(family: socket.AddressFamily, host: str) -> Iterator[World]:
    made = World(family, host)
    yield made
    made.ours.close()
    made.peer.close()


@pytest.fixture
def v4() -> Iterator[World]:
    yield from world(socket.AF_INET, "127.0.0.1")


@pytest.fixture
def v6() -> Iterator[World]:
    yield from world(socket.AF_INET6, "::1")


def test_a_handler_that_is_written_for_connections_finds_what_it_asks_for(v4: World) -> None:
    one = v4.datagram("text", b"hello\n")
    for name in CONTRACT:
        getattr(one, name)
    one.max_send_buffer_size = 5
    one.pause_recv()
    one.resume_recv()
    assert one.send("a")
    assert one.drain()
    assert one.drain(0)
    assert (one.send_queue, one.recv_queue, one.tls, one.encode("b")) == (0, 0, None, b"b\n")
    one.destroy()
    one.close("b")
    assert (one.status, one.bytes_read, one.bytes_written) == ("established", 6, 4)
    assert [v4.peer.recv(10) for _ in range(2)] == [b"a\n", b"b\n"]
    with pytest.raises(TypeError, match="is one datagram"):
        one.pipe(one)
    with pytest.raises(RuntimeError, match="is one datagram"):
        one.switch("text")


def test_what_a_datagram_carries_over_ipv4(v4: World) -> None:
    assert v4.datagram().send(b"x" * 65507)
    assert not v4.datagram().send(b"x" * 65508)
    assert v4.errors == ["a datagram carries at most 65507 bytes, not 65508"]
    assert v4.row[Column.SEND_FAILURES] == 1


def test_what_a_datagram_carries_over_ipv6(v6: World) -> None:
    assert v6.datagram().send(b"x" * 65527)
    assert not v6.datagram().send(b"x" * 65528)
    assert v6.errors == ["a datagram carries at most 65527 bytes, not 65528"]


def test_an_ipv4_peer_of_a_socket_of_both_families(v6: World) -> None:
    both = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    both.bind(("::", 0))
    v6.listener.socket = both
    with both, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        remote = ("::ffff:127.0.0.1", peer.getsockname()[1], 0, 0)
        assert not Datagram(get("udp"), v6.listener, b"", remote, None).send(b"x" * 65508)
    assert v6.errors == ["a datagram carries at most 65507 bytes, not 65508"]
