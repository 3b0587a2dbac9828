"""What waits to be sent takes as much memory as it counts, however small its pieces are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.client.early import Early
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.write_buffer import Outbox
from gworker.ipc.scoreboard import Scoreboard
from gworker.protocols import get

KB = 1024
MB = 1024 * KB


class Watcher:
    def start(self, callback: Callable[[], None]) -> None:
        pass

    stop = close = lambda self: None


class Taker:
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
def test_an_outbox_takes_what_it_counts(traced: Callable[[], int], size: int) -> None:
    outbox = Outbox(Watcher(), lambda: None)
    while outbox.size < 512 * KB:
        outbox.append(bytes(size))
    assert outbox.size <= traced() < 1.3 * outbox.size + 10 * KB
    outbox.flush(Taker())  # type: ignore[arg-type]
    assert traced() < 1.3 * outbox.size + size + 80 * KB


def test_little_is_kept_for_the_rest_of_a_large_message(traced: Callable[[], int]) -> None:
    class Nearly:
        def send(self, data: memoryview) -> int:
            if len(data) <= 10:
                raise BlockingIOError
            return max(1, len(data) - 10)

    outbox = Outbox(Watcher(), lambda: None)
    outbox.append(bytes(4 * MB))
    outbox.flush(Nearly())  # type: ignore[arg-type]
    assert outbox.size == 10
    assert traced() < 100 * KB


def test_pieces_of_a_buffer_that_is_larger_do_not_keep_it(traced: Callable[[], int]) -> None:
    """As `encode` of a user's protocol may return them."""
    worker = Worker("tcp://127.0.0.1:1", name="memory")
    board = Scoreboard(1)
    service = ServerContext(worker, Limits(), board.row(board.take()), get_hub().loop)

    class Stuck:
        family = 0

        def fileno(self) -> int:
            return 0

        def send(self, data: object) -> int:
            raise BlockingIOError

        def close(self) -> None:
            pass

    connection = Connection(service, Stuck(), None, get("tcp"))  # type: ignore[arg-type]
    before = traced()
    for _ in range(8):
        connection._write(memoryview(bytes(MB))[:20_000])  # type: ignore[arg-type]
    assert connection.send_queue == 160_000
    assert traced() - before < 200_000
    connection.destroy()


@pytest.mark.parametrize("joins", [True, False], ids=["a stream", "datagrams"])
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "message"])
@pytest.mark.parametrize(
    "message", ["", "x", "é" * 50, "x" * 5_000], ids=["empty", "1", "50", "5000"]
)
def test_what_is_sent_before_a_connection_is_open_takes_what_it_counts(
    traced: Callable[[], int], message: str, raw: bool, joins: bool
) -> None:
    early = Early(joins)
    for _ in range(200_000):
        early.add(message.encode() if raw else message[:-1] + message[-1:], raw)
        if early.held >= 256 * KB:
            break
    assert traced() < 2 * 256 * KB
