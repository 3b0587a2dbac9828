"""JSON in a body, and what is none."""

from __future__ import annotations

import pytest

from gworker.http import BadRequest, Request


def request(line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Request:
    return Request("\r\n".join([line, "Host: a", *fields, "", ""]).encode("latin-1"), body)


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"[" * 100000])
def test_json_that_is_none_is_a_bad_request(body):
    with pytest.raises(BadRequest) as raised:
        request(body=body).json()
    assert raised.value.reply.startswith(b"HTTP/1.1 400 ")


def test_json():
    assert request(body=b'{"a": [1, "\xc3\xa9"]}').json() == {"a": [1, "é"]}
    with pytest.raises(ValueError, match="."):
        request(body=b"{").json()
    with pytest.raises(ValueError, match="nested"):
        request(body=b"[" * 100000).json()
