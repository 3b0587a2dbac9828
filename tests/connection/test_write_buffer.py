"""A write buffer with a fake socket: order, partial writes, errors, and what is woken when."""

from __future__ import annotations

import _socket
import tracemalloc
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent import get_hub
from hypothesis import given
from hypothesis import strategies as st

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.write_buffer import MAX_WRITE, WriteBuffer
from gworker.ipc.scoreboard import Scoreboard
from gworker.protocols import get


class FakeSocket:
    """Takes as many bytes as it is told to, then is full."""

    def __init__(self, *takes: int) -> None:
        self.takes = list(takes)
        self.sent = b""
        self.asked: list[int] = []

    def send(self, data: memoryview) -> int:
        self.asked.append(len(data))
        if not self.takes:
            raise BlockingIOError
        taken = min(self.takes.pop(0), len(data))
        self.sent += bytes(data[:taken])
        return taken


@given(
    st.lists(st.one_of(st.binary(max_size=30), st.binary(max_size=30).map(memoryview)), max_size=8),
    st.lists(st.integers(1, 20)),
)
def test_what_goes_in_comes_out_in_order(
    pieces: list[bytes | memoryview], takes: list[int]
) -> None:
    buffer = WriteBuffer()
    for piece in pieces:
        buffer.append(piece)
    whole = b"".join(bytes(piece) for piece in pieces)
    assert buffer.size == len(whole)
    socket = FakeSocket(*takes)
    sent = buffer.flush(socket)  # type: ignore[arg-type]
    assert sent == len(socket.sent)
    assert buffer.size == len(whole) - sent
    assert whole.startswith(socket.sent)
    for _ in range(len(whole) + len(pieces)):
        socket.takes = [7]
        buffer.flush(socket)  # type: ignore[arg-type]
    assert buffer.size == 0
    assert socket.sent == whole


def test_one_write_is_bounded() -> None:
    buffer = WriteBuffer()
    buffer.append(bytes(3 * MAX_WRITE))
    socket = FakeSocket(MAX_WRITE, MAX_WRITE, MAX_WRITE)
    buffer.flush(socket)  # type: ignore[arg-type]
    assert socket.asked == [MAX_WRITE] * 3
    assert buffer.size == 0


def test_other_errors_are_the_callers() -> None:
    class Broken:
        def send(self, data: memoryview) -> int:
            raise BrokenPipeError

    buffer = WriteBuffer()
    buffer.append(b"a")
    with pytest.raises(BrokenPipeError):
        buffer.flush(Broken())  # type: ignore[arg-type]


def test_close_wakes_all_that_wait() -> None:
    buffer = WriteBuffer()
    waiting = [gevent.spawn(buffer.wait, 10) for _ in range(3)]
    gevent.sleep(0)
    assert not any(greenlet.dead for greenlet in waiting)
    buffer.close()
    gevent.joinall(waiting, timeout=10)
    assert [greenlet.value for greenlet in waiting] == [True] * 3
    assert buffer.wait(0)  # and one that comes later


def test_wait_gives_up() -> None:
    buffer = WriteBuffer()
    assert buffer.wait(0.01) is False
    buffer.close()


KB = 1024


MB = 1024 * KB


class Willing:
    """A socket that takes a part of each piece."""

    def send(self, data: memoryview | bytearray) -> int:
        if len(data) < 3:
            raise BlockingIOError
        return len(data) // 3


@pytest.fixture
def traced() -> Iterator[Callable[[], int]]:
    """Bytes of memory that are in use more than at the beginning of the test."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    yield lambda: tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()


@pytest.mark.parametrize("size", [1, 2, 100, 5_000, 16_383, 16_384, 100_000])
def test_a_write_buffer_takes_what_it_counts(traced: Callable[[], int], size: int) -> None:
    buffer = WriteBuffer()
    while buffer.size < 512 * KB:
        buffer.append(bytes(size))
    assert buffer.size <= traced() < 1.3 * buffer.size + 10 * KB
    buffer.flush(Willing())  # type: ignore[arg-type]
    assert traced() < 1.3 * buffer.size + size + 80 * KB


def test_little_is_kept_for_the_rest_of_a_large_message(traced: Callable[[], int]) -> None:
    class Nearly:
        def send(self, data: memoryview) -> int:
            if len(data) <= 10:
                raise BlockingIOError
            return max(1, len(data) - 10)

    buffer = WriteBuffer()
    buffer.append(bytes(4 * MB))
    buffer.flush(Nearly())  # type: ignore[arg-type]
    assert buffer.size == 10
    assert traced() < 100 * KB


def test_pieces_of_a_buffer_that_is_larger_do_not_keep_it(traced: Callable[[], int]) -> None:
    """As `encode` of a user's protocol may return them."""
    worker = Worker("tcp://127.0.0.1:1", name="memory")
    board = Scoreboard(1)
    service = ServerContext(worker, Limits(), board.row(board.take()), get_hub().loop)

    class Stuck(_socket.socket):
        def send(self, data: object) -> int:  # type: ignore[override]
            raise BlockingIOError

    connection = Connection(service, Stuck(), None, get("tcp"))
    before = traced()
    for _ in range(8):
        connection.io.write(memoryview(bytes(MB))[:20_000])  # type: ignore[arg-type]
    assert connection.send_queue == 160_000
    assert traced() - before < 200_000
    connection.destroy()
