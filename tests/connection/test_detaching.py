"""A connection whose socket its user has."""

from __future__ import annotations

import gc
import socket
from typing import Any

import gevent
import pytest
from served import Far, Served, over_tcp, until

# Sockets are dropped on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Taken:
    """A connection of which the handler of the first request takes the socket."""

    def __init__(self, served: Served, asked: bytes = GET, **arguments: Any) -> None:
        self.closes = 0
        self.socket: Any = None
        self.far: Far = served.connect(
            "http", over_tcp(), on_message=self.take, on_close=self.count, **arguments
        )
        self.far.send(asked)
        until(lambda: self.socket is not None)
        self.connection = self.far.connection

    def take(self, connection: Any, request: Any) -> None:
        self.socket = connection.detach()

    def count(self, _: Any) -> None:
        self.closes += 1


# ---- detach


def test_what_was_read_ahead_comes_first(served: Served) -> None:
    taken = Taken(served, GET + b"ahead")
    assert taken.socket.recv(2) == b"ah"
    buffer = bytearray(10)
    assert taken.socket.recv_into(buffer) == 3
    assert buffer[:3] == b"ead"
    taken.far.send(b"later")
    assert taken.socket.recv(100) == b"later"
    taken.socket.sendall(b"answer" * 100_000)
    until(lambda: len(taken.far.read()) == 600_000)
    assert taken.connection.bytes_read == len(GET) + 10
    assert taken.connection.bytes_written == 600_000


def test_the_peeked_bytes_stay(served: Served) -> None:
    taken = Taken(served, GET + b"ahead")
    assert taken.socket.recv(2, socket.MSG_PEEK) == b"ah"
    assert taken.socket.makefile("rb").read(5) == b"ahead"


def test_a_body_that_was_not_read_comes_first(served: Served) -> None:
    served.worker.options["stream_above"] = 0
    taken = Taken(served, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nbody")
    assert taken.socket.recv(100) == b"body"


def test_it_is_there_and_busy_until_the_socket_is_closed(served: Served) -> None:
    taken = Taken(served)
    connection, registry = taken.connection, served.context.registry
    assert connection.status == "detached"
    assert connection.id in registry.connections
    assert registry.extra_descriptors == 1
    assert not connection.is_movable
    assert connection.migration_obstacle
    assert connection.send("x") is False
    assert connection.retire(1001, patient=False) is False
    taken.socket.close()
    until(lambda: taken.closes)
    assert connection.status == "closed"
    assert connection.id not in registry.connections
    assert registry.extra_descriptors == 0
    until(lambda: taken.far.read() == b"" and taken.far.ended == "end")
    taken.socket.close()
    gevent.sleep(0.01)
    assert taken.closes == 1


def test_a_socket_that_is_dropped_ends_it(served: Served) -> None:
    taken = Taken(served)
    taken.socket = None
    gc.collect()
    until(lambda: taken.closes == 1)
    assert taken.connection.status == "closed"


def test_a_file_of_the_socket_keeps_it(served: Served) -> None:
    taken = Taken(served)
    file = taken.socket.makefile("rwb", buffering=0)
    taken.socket.close()
    gevent.sleep(0.01)
    assert taken.closes == 0
    file.write(b"still here")
    until(lambda: taken.far.read() == b"still here")
    file.close()
    until(lambda: taken.closes == 1)


@pytest.mark.parametrize("how", ["close", "destroy"])
def test_closing_the_connection_ends_the_stream_of_the_socket(served: Served, how: str) -> None:
    taken = Taken(served)
    read = gevent.spawn(taken.socket.recv, 100)
    gevent.sleep(0)
    getattr(taken.connection, how)()
    assert read.get(timeout=20) == b""
    assert taken.closes == 0
    taken.socket.close()
    until(lambda: taken.closes == 1)


def test_an_exception_after_it_ends_the_stream(served: Served) -> None:
    sockets: list[Any] = []

    def take(connection: Any, request: Any) -> None:
        sockets.append(connection.detach())
        raise ZeroDivisionError

    far = served.connect("http", over_tcp(), on_message=take)
    far.send(GET)
    until(lambda: far.read() == b"" and far.ended == "end")
    assert sockets.pop().recv(1) == b""


def test_in_a_connection_handler(served: Served) -> None:
    told: list[Any] = []

    def handler(connection: Any) -> None:
        next(iter(connection))
        told.append(connection.detach())
        told.append(connection.recv())

    far = served.connect("http", over_tcp(), handler)
    far.send(GET)
    until(lambda: len(told) == 2)
    assert told[1] is None
    far.send(b"on")
    assert told[0].recv(10) == b"on"
    told[0].close()
    until(lambda: far.connection.status == "closed")


def test_a_protocol_that_goes_step_by_step(served: Served) -> None:
    lockstep = served.loaded.all["gworker.protocols.lockstep"].lockstep
    sockets: list[Any] = []
    far = served.connect(
        lockstep(served.protocol("text")),
        over_tcp(),
        on_message=lambda connection, _: sockets.append(connection.detach()),
    )
    far.send(b"go\nrest\n")
    until(lambda: sockets)
    assert sockets.pop().recv(100) == b"rest\n"


def test_one_that_decodes_ahead_is_not_detached(served: Served) -> None:
    with pytest.raises(RuntimeError, match="lockstep"):
        served.connect("text").connection.detach()


def test_what_waits_is_sent_before(served: Served) -> None:
    def take(connection: Any, request: Any) -> None:
        if request.path == "/first":
            connection.send(b"x" * 4_000_000)
        else:
            connection.detach().sendall(b"end")

    far = served.connect("http", over_tcp(), on_message=take)
    far.connection.max_send_buffer_size = 8_000_000
    far.send(GET.replace(b"/ ", b"/first ", 1) + GET)
    until(lambda: far.read().endswith(b"xend"))


def test_who_has_gone_has_no_socket(served: Served) -> None:
    far = served.connect("http")
    far.connection.destroy()
    with pytest.raises(ConnectionError):
        far.connection.detach()


def test_an_answer_in_pieces_is_not_cut(served: Served) -> None:
    raised: list[Any] = []

    def take(connection: Any, request: Any) -> None:
        connection.send(served.loaded.http.Response.stream([b"a"]))
        try:
            connection.detach()
        except RuntimeError as error:
            raised.append(str(error))

    far = served.connect("http", over_tcp(), on_message=take)
    far.send(GET)
    until(lambda: far.read().endswith(b"0\r\n\r\n"))
    assert raised == ["the answer is still being sent"]
