"""The body of a request as a stream."""

from __future__ import annotations

import io

from gworker.http import Request


def request(line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Request:
    return Request("\r\n".join([line, "Host: a", *fields, "", ""]).encode("latin-1"), body)


def test_the_stream_of_a_whole_request() -> None:
    stream = request(body=b"one\ntwo").stream
    assert isinstance(stream, io.BufferedIOBase)
    assert stream.read(2) == b"on"
    assert list(stream) == [b"e\n", b"two"]
