"""The store of a broker over invented time: what takes minutes or days, and what it keeps in
memory. What its operations do is in `test_conformance.py`."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from gworker.broker.store.store import Store

DAY = 86400.0


class Kept:
    """A store, its clock, and what it has delivered."""

    def __init__(self) -> None:
        self.now = 0.0
        self.delivered: list[tuple[bytes, bytes]] = []
        self._store = Store(self._deliver, lambda: self.now)

    def __call__(self, operation: str, channel: bytes, *arguments: bytes | int) -> Any:
        texts = [each if isinstance(each, bytes) else b"%d" % each for each in arguments]
        return self._store.operations[operation](channel, *texts)

    def _deliver(self, channel: bytes, payload: bytes) -> int:
        self.delivered.append((channel, payload))
        return 1


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_an_idempotency_key_lives_for_five_minutes(kept: Kept) -> None:
    arguments = b"g:a", b"recoverable", 10, 1000, b"key", b"", b"a"
    first = kept("keep", *arguments)
    kept.now = 299.9
    assert kept("keep", *arguments) == [0, first[1], 1, 1]
    kept.now = 300.1
    assert kept("keep", *arguments) == [1, first[1], 2, 0]


def test_a_position_lives_for_thirty_days_after_its_last_use(kept: Kept) -> None:
    epoch = kept("keep", b"g:a", b"recoverable", 10, 1000, b"", b"", b"a")[1]
    kept.now = 29 * DAY
    assert kept("position", b"g:a") == [epoch, 1]
    kept.now = 58 * DAY
    assert kept("history", b"g:a", b"recoverable", epoch, 1, 0, 0) == [epoch, 1, 1, []]
    kept.now = 60 * DAY
    assert kept("history", b"g:a", b"recoverable", epoch, 1, 0, 0) == [b"", 0, 0, []]
    assert kept("position", b"g:a")[0] != epoch


def test_entries_that_live_longer_than_a_position_keep_it(kept: Kept) -> None:
    ttl = int(40 * DAY * 1000)
    epoch = kept("keep", b"g:a", b"recoverable", 10, ttl, b"", b"", b"a")[1]
    kept.now = 39 * DAY
    assert kept("history", b"g:a", b"recoverable", b"", 0, 0, 0) == [epoch, 1, 1, [[1, b"a"]]]
    kept.now = 70 * DAY
    assert kept("history", b"g:a", b"recoverable", b"", 0, 0, 0) == [b"", 0, 1, []]


def test_a_leave_that_was_not_asked_for_is_forgotten(kept: Kept) -> None:
    for identity in (b"ann", b"bob"):
        kept("enter", b"g:a", b"p", b"", identity, identity, b"", identity)
    kept("exit", b"g:a", b"p", b"ann")
    kept.now = 100.0
    kept("exit", b"g:a", b"p", b"bob")
    kept.now = 310.0
    assert kept("publish_due_leaves", b"", b"<", b",", b">") == 1
    assert kept.delivered == [(b"g:a", b"\0<bob>")]


def test_a_lease_of_no_milliseconds_lasts_until_reap(kept: Kept) -> None:
    kept("renew", b"", b"p", 0)
    kept("enter", b"g:a", b"p", b"", b"m", b"ann", b"", b"leave")
    kept.now = 1000 * DAY
    assert kept("count", b"g:a") == 1
    assert kept("reap", b"", b"p") == 1
    assert kept("count", b"g:a") == 0


def histories(kept: Kept, n: int) -> None:
    kept("keep", b"g:%d" % n, b"recoverable", 10, 1000, b"", b"", b"x" * 100)
    kept.now += 3 * DAY


def idempotency_keys(kept: Kept, n: int) -> None:
    kept("keep", b"g:a", b"fleeting", 0, 0, b"key%d" % n, b"", b"x")
    kept.now += 10


def values(kept: Kept, n: int) -> None:
    kept("set", b"d:%d" % n, b"x" * 100, 1000)
    kept.now += 0.1


def values_that_are_deleted(kept: Kept, n: int) -> None:
    kept("set", b"d:%d" % n, b"x" * 100, 10**9)
    kept("delete", b"d:%d" % n)
    kept("keys", b"", b"d:", b"") if n == 0 else None


def values_with_shorter_and_shorter_lives(kept: Kept, n: int) -> None:
    kept("set", b"d:a", b"x" * 100, 10**9 - n)


def members(kept: Kept, n: int) -> None:
    kept("enter", b"g:%d" % n, b"p%d" % n, b"", b"m", b"ann", b"", b"leave")
    kept("reap", b"", b"p%d" % n)
    kept.now += 5


def members_without_events(kept: Kept, n: int) -> None:
    kept("enter", b"u:%d" % n, b"p", b"", b"m", b"ann", b"", b"")
    kept("exit", b"u:%d" % n, b"p", b"m")


@pytest.mark.parametrize(
    "use",
    [
        histories,
        idempotency_keys,
        values,
        values_that_are_deleted,
        values_with_shorter_and_shorter_lives,
        members,
        members_without_events,
    ],
)
def test_what_has_expired_takes_no_memory(kept: Kept, use: Callable[[Kept, int], None]) -> None:
    def memory_after(numbers: range) -> int:
        for n in numbers:
            use(kept, n)
            kept.delivered.clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = memory_after(range(3000))
        assert memory_after(range(3000, 12000)) - before < 60_000
    finally:
        tracemalloc.stop()
