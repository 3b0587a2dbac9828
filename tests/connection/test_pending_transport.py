"""What is sent before a connection is open takes as much memory as it counts."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from gworker.connection.pending_transport import PendingTransport
from gworker.protocols import get
from gworker.protocols.text import TextProtocol

KB = 1024


@pytest.fixture
def traced() -> Iterator[Callable[[], int]]:
    """Bytes of memory that are in use more than at the beginning of the test."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    yield lambda: tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()


class Shaking(TextProtocol):
    """It tells how messages are encoded once it has shaken hands."""

    def waiting_for(self) -> str:
        return "handshake"


class Owner:
    told = has_stopped = False

    def buffer_full(self) -> None:
        self.told = True

    def stop(self) -> None:
        self.has_stopped = True


@pytest.mark.parametrize("joins", [True, False], ids=["a stream", "datagrams"])
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "message"])
@pytest.mark.parametrize(
    "message", ["", "x", "é" * 50, "x" * 5_000], ids=["empty", "1", "50", "5000"]
)
def test_what_is_sent_before_a_connection_is_open_takes_what_it_counts(
    traced: Callable[[], int], message: str, raw: bool, joins: bool
) -> None:
    owner = Owner()
    kept = PendingTransport(owner, owner.stop, "tcp", joins, 256 * KB)
    machine = Shaking(1 << 20)
    for _ in range(200_000):
        if not kept.keep(machine, message.encode() if raw else message[:-1] + message[-1:], raw):
            break
    assert owner.told == (kept.held >= 256 * KB)
    assert traced() < 2 * 256 * KB


def test_a_connection_that_ends_before_it_is_open_stops_dialling_and_keeps_nothing() -> None:
    owner = Owner()
    kept = PendingTransport(owner, owner.stop, "tcp", True, KB)
    kept.keep(get("text")(KB), "hello", False)
    assert kept.buffered == 6
    kept.abort()
    assert owner.has_stopped
    assert (kept.buffered, kept.is_over) == (0, True)
