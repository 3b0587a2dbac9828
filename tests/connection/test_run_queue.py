"""Peers that send very much at once are served in turns: no other waits until all of it is
handled."""

from __future__ import annotations

import _socket
import socket
import socketserver
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import gevent
import pytest
from gevent import get_hub
from websocket_bytes import frame, handshake

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection import run_queue
from gworker.connection.connection import Connection
from gworker.connection.context import QUEUE_MESSAGES, ServerContext
from gworker.connection.run_queue import RunQueue
from gworker.ipc.scoreboard import Scoreboard
from gworker.protocols import MORE, NEED_DATA, get
from gworker.protocols.base import STEPS
from gworker.protocols.http.body import LINES
from gworker.server.socketserver_adapter import OPERATIONS, LegacyConnection, LegacyServer

FLOOD = 2_000
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ONE = {
    "text": b"\n",
    "frame": b"\0\0\0\x04",
    "websocket": frame(0x82),
    "http": GET,
    "pings": frame(0x89),
}
"""The smallest message of each protocol."""


ON_MESSAGE, HANDLER = "on_message", "handler"
"""How messages are handled."""


class House:
    """Connections of one process, of which each notes by its name what it handles."""

    def __init__(self, protocol: str, kind: str) -> None:
        self.handled: list[str] = []
        self.far: list[socket.socket] = []
        worker = Worker("tcp://127.0.0.1:1", name="house")
        if kind == HANDLER:
            worker.handler = self._serve
        else:
            worker.on_message = self._answer
        board = Scoreboard(1)
        self.service = ServerContext(worker, Limits(), board.row(board.take()), get_hub().loop)
        self.protocol = protocol

    def enter(self, name: str) -> Peer:
        near, far = socket.socketpair()
        far.setblocking(False)
        near.setblocking(False)
        self.far.append(far)
        near_end = _socket.socket(fileno=near.detach())
        connection: Any = Connection(self.service, near_end, ("127.0.0.1", 1), get(self.protocol))
        connection.context.name = name
        connection.open(self.service.worker.connection_handler)
        peer = Peer(far, connection)
        if self.protocol == "websocket":
            far.send(handshake())
            peer.read_until(b"\r\n\r\n")
        return peer

    def _answer(self, connection: Any, _: Any) -> None:
        self.handled.append(connection.context.name)
        connection.send("ok")

    def _serve(self, connection: Any) -> None:
        for message in connection:
            self._answer(connection, message)

    def before_the_last_innocent(self) -> int:
        """How much of a flood was handled before all innocents were."""
        return len(self.handled) - 1 - self.handled[::-1].index("innocent")

    def close(self) -> None:
        for connection in self.service.registry.connections.values():
            connection.destroy()
        for far in self.far:
            far.close()


class Peer:
    """The other end of one."""

    def __init__(self, far: socket.socket, connection: Any) -> None:
        self.far = far
        self.connection = connection
        self.got = b""

    def read_until(self, mark: bytes) -> None:
        until(lambda: mark in self.read())

    def read(self) -> bytes:
        with suppress(BlockingIOError):
            self.got += self.far.recv(1 << 18)
        return self.got


@contextmanager
def beside(house: House) -> Iterator[None]:
    """Two send one message each, before and after what is sent in the block: one of them comes
    behind that, whatever the order in which the loop serves its sockets."""
    first, last = house.enter("innocent"), house.enter("innocent")
    gevent.sleep(0.01)
    first.far.send(ONE[house.protocol])
    yield
    last.far.send(ONE[house.protocol])


def until(condition: Callable[[], bool]) -> None:
    with gevent.Timeout(20):
        while not condition():
            gevent.sleep(0.001)


Enter = Callable[[str, type[Connection]], House]


@pytest.fixture
def house() -> Iterator[Enter]:
    made: list[House] = []

    def make(protocol: str, kind: str) -> House:
        made.append(House(protocol, kind))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("kind", [ON_MESSAGE, HANDLER])
@pytest.mark.parametrize("protocol", ["text", "frame", "websocket", "http"])
def test_others_do_not_wait_until_a_flood_is_handled(
    house: Enter, protocol: str, kind: str
) -> None:
    one = house(protocol, kind)
    flooder = one.enter("flooder")
    with beside(one):
        flooder.far.send(ONE[protocol] * FLOOD)
    until(lambda: one.handled.count("innocent") == 2)
    assert one.before_the_last_innocent() <= 2 * QUEUE_MESSAGES
    until(lambda: len(one.handled) == FLOOD + 2 and flooder.read() != b"")  # nothing of it is lost


def test_pings_are_answered_in_turns_too(house: Enter) -> None:
    one = house("websocket", Connection)
    flooder = one.enter("flooder")
    written = flooder.connection.bytes_written
    pongs: list[int] = []
    one.service.worker.on_message = lambda *_: pongs.append(
        (flooder.connection.bytes_written - written) // 2
    )
    with beside(one):
        flooder.far.send(ONE["pings"] * FLOOD)
    until(lambda: len(pongs) == 2)
    assert max(pongs) <= 2 * STEPS
    until(lambda: flooder.connection.bytes_written - written == FLOOD * 2)


def test_a_broadcast_does_not_begin_somebodys_turn(house: Enter) -> None:
    """Else flooders whose messages go to all would go on with each other's, and never let
    another one between."""
    one = house("text", Connection)
    flooders = [one.enter("flooder") for _ in range(3)]

    def tell(connection: Any, message: Any) -> None:
        one.handled.append(connection.context.name)
        for each in flooders:
            each.connection.send("told")

    one.service.worker.on_message = tell
    with beside(one):
        for each in flooders:
            each.far.send(ONE["text"] * FLOOD)
    until(lambda: one.handled.count("innocent") == 2)
    assert one.before_the_last_innocent() <= len(flooders) * 2 * QUEUE_MESSAGES


def test_who_is_closed_while_it_waits_for_its_turn_hears_of_it(house: Enter) -> None:
    one = house("text", Connection)
    flooder = one.enter("flooder")
    closed: list[Any] = []
    flooder.connection.on_close = closed.append
    flooder.far.send(ONE["text"] * FLOOD)
    until(lambda: one.service.run_queue.is_busy)
    flooder.connection.destroy()
    assert one.service.is_at_work
    until(lambda: closed == [flooder.connection])
    assert len(one.handled) < FLOOD
    until(lambda: not one.service.is_at_work)


def test_a_reader_of_lines_that_owns_its_socket(house: Enter) -> None:
    one = house("text", Connection)

    class Echo(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                one.handled.append("flooder")
                self.wfile.write(line)

    near, far = socket.socketpair()
    one.far.append(far)
    near.setblocking(False)
    with socket.socket() as listener:
        server = LegacyServer(listener, Echo)
    taken = LegacyConnection(
        one.service, server, _socket.socket(fileno=near.detach()), ("127.0.0.1", 1)
    )
    get_hub().loop.run_callback(taken.open)
    with beside(one):
        far.sendall(b"\n" * FLOOD)
    until(lambda: one.handled.count("innocent") == 2)
    assert one.before_the_last_innocent() <= 4 * OPERATIONS


def test_a_handler_that_reads_tiny_chunks_gives_way_too(house: Enter) -> None:
    one = house("http", Connection)
    one.service.worker.options["stream_above"] = 0
    chunks = 15_000

    def read(connection: Any, request: Any) -> None:
        if request.method == "GET":
            one.handled.append("innocent")
            connection.send("")
            return
        body = 0
        while piece := request.stream.read1(65536):
            one.handled.append("flooder")
            body += len(piece)
        one.handled.append(str(body))

    one.service.worker.on_message = read
    flooder = one.enter("flooder")
    flood = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * chunks
    )
    with beside(one):
        flooder.far.send(flood + b"0\r\n\r\n")
    until(lambda: one.handled.count("innocent") == 2)
    assert one.before_the_last_innocent() <= 2 * QUEUE_MESSAGES
    until(lambda: str(chunks) in one.handled)
    assert one.handled.count("flooder") > 4 * QUEUE_MESSAGES


def test_tiny_chunks_of_a_body_are_read_in_turns() -> None:
    http = get("http")(1 << 20)
    http.receive_data(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * FLOOD
    )
    asked = 0
    while (event := http.next_event()) is MORE:
        asked += 1
    assert event is NEED_DATA
    assert asked == 2 * FLOOD // LINES
    http.receive_data(b"0\r\n\r\n")
    assert http.next_event().body == b"x" * FLOOD


# ---- the queue itself


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(run_queue, "monotonic", one)
    return one


class Loop:
    """Turns when it is told to."""

    active = False

    def timer(self, _: float) -> Loop:
        return self

    def start(self, callback: Callable[[], None]) -> None:
        self.active = True
        self._callback = callback

    def stop(self) -> None:
        self.active = False

    def turn(self) -> None:
        assert self.active
        self._callback()


def test_all_that_waits_has_so_much_of_a_turn_together(clock: Clock) -> None:
    loop, done = Loop(), []
    queue = RunQueue(loop)

    def step(name: int) -> None:
        done.append(name)
        clock.now += run_queue.SECONDS / 2

    for number in range(5):
        queue.add(lambda number=number: step(number))  # type: ignore[misc]
    loop.turn()
    assert done == [0, 1]
    loop.turn()
    loop.turn()
    assert done == [0, 1, 2, 3, 4]
    assert not queue.is_busy
    assert not loop.active


def test_a_step_that_queues_again_waits_for_the_next_turn(clock: Clock) -> None:
    loop, done = Loop(), []
    queue = RunQueue(loop)

    def again() -> None:
        done.append("again")
        queue.add(again)

    queue.add(again)
    queue.add(lambda: done.append("once"))
    loop.turn()
    assert done == ["again", "once"]
    loop.turn()
    assert done == ["again", "once", "again"]


def test_what_a_step_raises_costs_no_other_its_turn(clock: Clock) -> None:
    loop, done = Loop(), []
    queue = RunQueue(loop)
    queue.add(lambda: 1 / 0)
    queue.add(lambda: done.append("next"))
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    loop.turn()
    assert done == ["next"]


def test_a_greenlet_waits_for_its_turn() -> None:
    queue = RunQueue(get_hub().loop)
    gevent.spawn(queue.wait).get(timeout=10)
