"""Readers of bodies."""

from __future__ import annotations

import pytest

from gworker.http.errors import RefusedRequest
from gworker.protocols.http.body import MAX_CHUNK_LINE, ChunkedReader, LengthReader

CHUNKED = b'3;a="b\\"c"\r\nabc\r\n2\r\nde\r\n0\r\nX-A: b\r\n\r\n'


def read(reader, data, size):
    """Feed pieces of `size` bytes; return the content and what is left over."""
    buffer, content = b"", b""
    for at in range(0, len(data), size):
        buffer += data[at : at + size]
        before = None
        while not reader.is_complete and before != len(buffer):
            before = len(buffer)
            buffer = buffer[reader.read(buffer, 0) :]
            content += reader.take()
    return content, buffer


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_body_stops_at_its_last_byte(size):
    for reader, data in ((LengthReader(5), b"abcde"), (ChunkedReader(5), CHUNKED)):
        assert read(reader, data + b"GET /", size) == (b"abcde", b"GET /")
        assert reader.is_complete


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"z\r\n", 400),
        (b"1 \r\na", 400),
        (b"1\na\r\n", 400),
        (b"1\r\nab\r\n", 400),
        (b"1" * (MAX_CHUNK_LINE + 3), 400),
        (b"6\r\nabcdef\r\n", 413),
        (b"0\r\nno colon\r\n\r\n", 400),
        (b"0\r\nX-A: " + b"b" * 20_000, 431),
    ],
)
def test_chunks_that_may_not_be(data, status, size):
    with pytest.raises(RefusedRequest) as caught:
        read(ChunkedReader(5), data, size)
    assert caught.value.status == status


def test_the_limit_is_of_what_is_not_taken():
    reader = ChunkedReader(5)
    for _ in range(10):
        assert reader.read(b"5\r\nabcde\r\n", 0) == 10
        assert reader.take() == b"abcde"
