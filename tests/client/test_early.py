"""What is sent before a connection is open takes as much memory as it counts."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from gworker.client.early import Early

KB = 1024


@pytest.fixture
def traced() -> Iterator[Callable[[], int]]:
    """Bytes of memory that are in use more than at the beginning of the test."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    yield lambda: tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()


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
