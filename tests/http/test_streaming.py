"""Bodies that are sent in pieces."""

from __future__ import annotations

import pytest

from gworker.http.streaming import IterBody


class Source:
    """An iterable with a close method, as a cursor has."""

    def __init__(self, *parts):
        self.parts = parts
        self.closed = 0

    def __iter__(self):
        return iter(self.parts)

    def close(self):
        self.closed += 1


def test_parts_are_bytes():
    body = IterBody(["é", b"b", bytearray(b"c"), memoryview(b"d")], length=5)
    assert list(body.parts()) == ["é".encode(), b"b", b"c", b"d"]
    assert body.length == 5


@pytest.mark.parametrize("part", [1, None, ["a"]])
def test_other_parts(part):
    with pytest.raises(TypeError, match="bytes or str"):
        list(IterBody([part]).parts())


@pytest.mark.parametrize("source", ["a", b"a", bytearray(b"a"), memoryview(b"a")])
def test_what_is_a_body_already(source):
    with pytest.raises(TypeError, match="give a Response"):
        IterBody(source)


def test_a_negative_length():
    with pytest.raises(ValueError, match="0 or more"):
        IterBody([], length=-1)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_the_source_is_closed_however_it_ends(taken):
    source = Source(b"a", b"b", b"c")
    body = IterBody(source)
    if taken:
        parts = body.parts()
        for _ in range(taken):
            next(parts)
        parts.close()
    else:
        body.close()
    assert source.closed == 1


def test_an_exception_of_the_source_passes_and_closes_it():
    closed = []

    def source():
        try:
            yield b"a"
            raise LookupError("b")
        finally:
            closed.append(True)

    with pytest.raises(LookupError):
        list(IterBody(source()).parts())
    assert closed
