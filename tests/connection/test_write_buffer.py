"""The outbox with a fake socket: order, partial writes, errors, and who is woken when."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gworker.connection.write_buffer import MAX_WRITE, Outbox


class FakeWatcher:
    def __init__(self) -> None:
        self.state = "new"

    def start(self, callback: Callable[[], None]) -> None:
        self.state = "started"

    def stop(self) -> None:
        self.state = "stopped"

    def close(self) -> None:
        assert self.state == "stopped"
        self.state = "closed"


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


def nothing() -> None:
    pass


@given(
    st.lists(st.one_of(st.binary(max_size=30), st.binary(max_size=30).map(memoryview)), max_size=8),
    st.lists(st.integers(1, 20)),
)
def test_what_goes_in_comes_out_in_order(
    pieces: list[bytes | memoryview], takes: list[int]
) -> None:
    outbox = Outbox(FakeWatcher(), nothing)
    for piece in pieces:
        outbox.append(piece)
    whole = b"".join(bytes(piece) for piece in pieces)
    assert outbox.size == len(whole)
    socket = FakeSocket(*takes)
    sent = outbox.flush(socket)  # type: ignore[arg-type]
    assert sent == len(socket.sent)
    assert outbox.size == len(whole) - sent
    assert whole.startswith(socket.sent)
    for _ in range(len(whole) + len(pieces)):
        socket.takes = [7]
        outbox.flush(socket)  # type: ignore[arg-type]
    assert outbox.size == 0
    assert socket.sent == whole


def test_one_write_is_bounded() -> None:
    outbox = Outbox(FakeWatcher(), nothing)
    outbox.append(bytes(3 * MAX_WRITE))
    socket = FakeSocket(MAX_WRITE, MAX_WRITE, MAX_WRITE)
    outbox.flush(socket)  # type: ignore[arg-type]
    assert socket.asked == [MAX_WRITE] * 3
    assert outbox.size == 0


def test_other_errors_are_the_callers() -> None:
    class Broken:
        def send(self, data: memoryview) -> int:
            raise BrokenPipeError

    outbox = Outbox(FakeWatcher(), nothing)
    outbox.append(b"a")
    with pytest.raises(BrokenPipeError):
        outbox.flush(Broken())  # type: ignore[arg-type]


def test_it_owns_its_watcher() -> None:
    watcher = FakeWatcher()
    outbox = Outbox(watcher, nothing)
    assert watcher.state == "started"
    outbox.close()
    assert watcher.state == "closed"


def test_close_wakes_everybody_who_waits() -> None:
    outbox = Outbox(FakeWatcher(), nothing)
    waiting = [gevent.spawn(outbox.wait, 10) for _ in range(3)]
    gevent.sleep(0)
    assert not any(greenlet.dead for greenlet in waiting)
    outbox.close()
    gevent.joinall(waiting, timeout=10)
    assert [greenlet.value for greenlet in waiting] == [True] * 3
    assert outbox.wait(0)  # and whoever comes later


def test_wait_gives_up() -> None:
    outbox = Outbox(FakeWatcher(), nothing)
    assert outbox.wait(0.01) is False
    outbox.close()
