"""Large messages are read to where they stay, with either core, whatever happens before they are
complete."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from pure import using
from served import CORES, Far, Served, over_tcp, until

SIZE = 3_000_000
BODY = bytes(range(250)) * (SIZE // 250)
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close(2) resets


@pytest.fixture(params=list(CORES))
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    loaded = CORES[request.param]
    with using(loaded):
        made = Served(loaded, max_package_size=SIZE)
        yield made
        made.close()


class Talk:
    """An HTTP connection of which half a body has come."""

    def __init__(self, served: Served) -> None:
        self.bodies: list[bytes] = []
        self.closed = False
        self.far: Far = served.connect(
            "http", over_tcp(), on_message=self.take, on_close=self.close
        )
        self.io: Any = self.far.connection.io
        self.far.send(HEAD + BODY[: SIZE // 2])
        until(lambda: self.io.bytes_read == len(HEAD) + SIZE // 2)
        assert self.io.receive_buffer.left == SIZE // 2

    def take(self, connection: Any, request: Any) -> str:
        self.bodies.append(request.body)
        return "ok"

    def close(self, connection: Any) -> None:
        self.closed = True


def test_what_follows_a_body_is_the_next_request(served: Served) -> None:
    talk = Talk(served)
    talk.far.send(BODY[SIZE // 2 :] + NEXT)
    until(lambda: talk.far.read().count(b"200 OK") == 2)
    assert talk.bodies == [BODY, b""]
    assert talk.io.receive_buffer is None
    assert talk.io.bytes_read == served.context.bytes_read == len(HEAD) + SIZE + len(NEXT)


def test_a_reset_amid_a_body(served: Served) -> None:
    talk = Talk(served)
    talk.far.send(BODY[SIZE // 2 : SIZE // 2 + 1000])
    talk.far.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    talk.far.socket.close()
    until(lambda: talk.closed)
    assert talk.bodies == []
    assert talk.io.receive_buffer is None


def test_an_end_amid_a_body(served: Served) -> None:
    talk = Talk(served)
    talk.far.socket.shutdown(socket.SHUT_WR)
    until(lambda: talk.far.read() and talk.closed)
    assert talk.far.got.startswith(b"HTTP/1.1 400 ")
    assert talk.bodies == []


def test_reading_stops_amid_a_body(served: Served) -> None:
    talk = Talk(served)
    talk.far.connection.pause_recv()
    sender = gevent.spawn(talk.far.send, BODY[SIZE // 2 :])
    gevent.sleep(0.05)
    assert talk.io.bytes_read == len(HEAD) + SIZE // 2
    talk.far.connection.resume_recv()
    until(lambda: talk.far.read().count(b"200 OK") == 1)
    sender.get(timeout=5)
    assert talk.bodies == [BODY]


def test_it_is_closed_amid_a_body(served: Served) -> None:
    talk = Talk(served)
    talk.far.connection.destroy()
    until(lambda: talk.closed)
    assert talk.bodies == []
    assert talk.io.receive_buffer is None
