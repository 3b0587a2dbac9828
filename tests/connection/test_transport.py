"""Large messages are sent behind their few bytes of framing, without a copy: whatever the socket
takes of both."""

from __future__ import annotations

import _socket
import errno
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gevent import get_hub
from greenlet import getcurrent

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.dispatcher import new_job
from gworker.core.poller import WRITABLE
from gworker.ipc.scoreboard import Column, Scoreboard
from gworker.protocols.base import LARGE
from gworker.protocols.frame import FrameProtocol

MESSAGE = bytes(range(256)) * (LARGE // 256)
FRAMED = (len(MESSAGE) + 4).to_bytes(4) + MESSAGE


class FakeSocket:
    """Takes as many bytes as it is told to, each time it is asked; then is full, or broken."""

    family = _socket.AF_UNIX

    def __init__(self, *takes: int, broken: bool = False) -> None:
        self.takes = list(takes)
        self.broken = broken
        self.sent = b""
        self.calls: list[str] = []
        self._real = _socket.socketpair()

    def fileno(self) -> int:
        return self._real[0].fileno()

    def _take(self, data: bytes) -> int:
        if not self.takes:
            raise OSError(errno.EPIPE, "broken") if self.broken else BlockingIOError
        taken = min(self.takes.pop(0), len(data))
        self.sent += data[:taken]
        return taken

    def send(self, data: Any) -> int:
        self.calls.append("send")
        return self._take(bytes(data))

    def sendmsg(self, pieces: tuple[bytes, bytes]) -> int:
        self.calls.append("sendmsg")
        return self._take(b"".join(pieces))

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        for each in self._real:
            each.close()


Make = Callable[[FakeSocket], Connection]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Connection] = []
    worker = Worker("frame://127.0.0.1:1", name="large")
    board = Scoreboard(1)
    service = ServerContext(worker, Limits(), board.row(board.take()), get_hub().loop)

    def connect(socket: FakeSocket) -> Connection:
        made.append(Connection(service, socket, None, FrameProtocol))  # type: ignore[arg-type]
        return made[-1]

    yield connect
    for each in made:
        each.destroy()


def flush(connection: Connection) -> None:
    while connection.send_queue:
        connection.io.on_ready(WRITABLE)


@pytest.mark.parametrize("first", [0, 1, 3, 4, 5, 100, len(FRAMED) - 1, len(FRAMED)])
def test_whatever_is_taken_first_all_of_it_arrives_once(make: Make, first: int) -> None:
    socket = FakeSocket(first, *[4000] * 9) if first else FakeSocket()
    connection = make(socket)
    assert connection.send(MESSAGE) is True
    assert socket.calls == ["sendmsg"]
    assert connection.send_queue == len(FRAMED) - first
    assert connection.bytes_written == first
    socket.takes = [4000] * 9
    flush(connection)
    assert socket.sent == FRAMED
    assert connection.bytes_written == connection.server_context.bytes_written == len(FRAMED)


def test_behind_what_is_queued_it_waits_its_turn(make: Make) -> None:
    socket = FakeSocket(2)
    connection = make(socket)
    assert connection.send(b"first")
    assert connection.send(MESSAGE)
    assert connection.send(b"last")
    assert socket.calls == ["send"]
    socket.takes = [3] + [5000] * 9
    flush(connection)
    assert socket.sent == b"\0\0\0\x09first" + FRAMED + b"\0\0\0\x08last"


def test_the_message_is_kept_and_not_a_copy_of_it(make: Make) -> None:
    connection = make(FakeSocket(2))
    assert connection.send(MESSAGE)
    assert connection.io.write_buffer is not None
    head, message = connection.io.write_buffer._pieces
    assert bytes(head) == FRAMED[2:4]
    assert isinstance(message, memoryview)
    assert message.obj is MESSAGE


def test_a_full_buffer_refuses_it_and_tells_once(make: Make) -> None:
    connection = make(FakeSocket())
    connection.max_send_buffer_size = LARGE
    told: list[Any] = []
    connection.on_buffer_full = told.append
    job = new_job(connection, [])
    job.greenlet = getcurrent()  # callbacks of the running handler are called at once
    assert connection.send(MESSAGE) is True
    assert connection.send(MESSAGE) is False
    assert told == [connection]
    assert connection.send_queue == len(FRAMED)


def test_a_peer_that_is_gone_ends_the_connection(make: Make) -> None:
    connection = make(FakeSocket(broken=True))
    failures = connection.server_context.row[Column.SEND_FAILURES]
    assert connection.send(MESSAGE) is False
    assert connection.status == "closed"
    assert connection.server_context.row[Column.SEND_FAILURES] == failures + 1


@pytest.mark.parametrize(
    "message",
    [bytearray(MESSAGE), memoryview(MESSAGE), MESSAGE.decode("latin-1")],
    ids=["bytearray", "memoryview", "str"],
)
def test_what_is_not_bytes_is_encoded_in_one_piece(make: Make, message: Any) -> None:
    socket = FakeSocket(1 << 20)
    assert make(socket).send(message)
    assert socket.calls == ["send"]


def test_smaller_ones_are_sent_in_one_piece(make: Make) -> None:
    socket = FakeSocket(1 << 20)
    assert make(socket).send(MESSAGE[:-1])
    assert socket.calls == ["send"]


def test_raw_bytes_get_nothing_before_them(make: Make) -> None:
    socket = FakeSocket(1 << 20)
    assert make(socket).send(MESSAGE, raw=True)
    assert socket.sent == MESSAGE
