"""The memory to which bodies and large messages are read, in both cores."""

from __future__ import annotations

import pickle
import socket
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gworker import core
from gworker.core.receive_buffer import ReceiveBuffer as InPython
from gworker.protocols import buffered  # noqa: F401  (says how one is pickled)

BOTH = pytest.mark.parametrize("make", [core.ReceiveBuffer, InPython], ids=["core", "Python"])
MASK = b"\x01\x02\x80\xff"


def masked(data: bytes) -> bytes:
    return bytes(byte ^ MASK[at % 4] for at, byte in enumerate(data))


@BOTH
@given(data=st.binary(max_size=50), cuts=st.lists(st.integers(0, 50), max_size=4))
def test_the_pieces_are_one(make: Any, data: bytes, cuts: list[int]) -> None:
    cuts = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    plain, unmasked = make(len(data)), make(len(data), MASK)
    for start, stop in pairwise(cuts):
        plain.add(data[start:stop])
        unmasked.add(memoryview(masked(data))[start:stop])
        assert plain.left == unmasked.left == len(data) - stop
        assert plain.since(start) == data[start:stop]
    assert plain.since(0) == unmasked.since(0) == data
    assert plain.take() == unmasked.take() == data


@BOTH
def test_no_more_than_its_size(make: Any) -> None:
    buffer = make(5)
    buffer.add(b"abc")
    with pytest.raises(ValueError, match="3 bytes for a buffer that lacks 2"):
        buffer.add(b"def")
    assert buffer.left == 2
    assert buffer.take() == b"abc"


@BOTH
@pytest.mark.parametrize("mask", [b"", MASK])
def test_it_is_read_from_a_socket(make: Any, mask: bytes) -> None:
    data = bytes(range(251)) * 12_000  # more than is reserved at first
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        ours.setblocking(False)
        sent = 0
        rest = memoryview(masked(data) if mask else data)
        buffer = make(len(data), mask)
        with pytest.raises(BlockingIOError):
            buffer.read_from(ours)
        while buffer.left:
            sent += theirs.send(rest[sent:])
            if sent == len(data):
                theirs.setblocking(True)
                theirs.send(b"the next one")
            room, left = buffer.room, buffer.left
            size = buffer.read_from(ours)
            assert 0 < size <= room <= left
            assert buffer.left == left - size
        theirs.close()
        assert buffer.room == 0
        assert ours.recv(100) == b"the next one"
    assert buffer.take() == data


@BOTH
def test_the_end_of_the_stream(make: Any) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    buffer = make(5)
    with ours:
        assert buffer.read_from(ours) == 0
    assert buffer.left == 5


@BOTH
def test_a_promise_costs_no_memory(make: Any) -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    before = resident()
    promised = []
    for _ in range(300):
        buffer = make(10_000_000)
        buffer.add(b"x" * 1000)
        promised.append(buffer)
    assert resident() - before < 30_000_000


@BOTH
def test_it_moves_to_another_process(make: Any) -> None:
    buffer = make(8, MASK, True)
    buffer.add(masked(b"abcdefgh")[:3])
    again = pickle.loads(pickle.dumps(buffer)) if make is core.ReceiveBuffer else buffer
    assert (again.size, again.left, again.mask, again.is_watched) == (8, 5, MASK, True)
    again.add(masked(b"abcdefgh")[3:])
    assert again.take() == b"abcdefgh"
