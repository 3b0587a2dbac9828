from __future__ import annotations

import io
from typing import Any

import pytest

from gworker.http.body import StreamedRequest
from gworker.http.errors import BadRequest
from gworker.http.request import Request
from gworker.wsgi import input as wsgi_input
from gworker.wsgi.input import EMPTY, open_input

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"


def chunked() -> dict[str, Any]:
    return {"HTTP_TRANSFER_ENCODING": "chunked"}


def streamed(*pieces: bytes) -> StreamedRequest:
    request = StreamedRequest(HEAD, True, 1000)
    rest = iter(pieces)
    request.attach(lambda: next(rest, None))
    return request


def test_no_body_is_the_same_for_all_and_cannot_be_closed() -> None:
    assert open_input({}, Request(HEAD), False) is EMPTY
    EMPTY.close()
    assert (EMPTY.read(), EMPTY.readline(), EMPTY.readlines(), list(EMPTY)) == (b"", b"", [], [])


def test_a_body_that_is_here() -> None:
    environ: dict[str, Any] = {"CONTENT_LENGTH": "3"}
    assert open_input(environ, Request(HEAD, b"abc"), False).read() == b"abc"
    assert environ == {"CONTENT_LENGTH": "3"}


@pytest.mark.parametrize("content", [b"abc", b""])
def test_a_chunked_body_has_a_length(content: bytes) -> None:
    environ = chunked()
    assert open_input(environ, Request(HEAD, content), False).read() == content
    assert environ == {"CONTENT_LENGTH": str(len(content))}


def test_a_long_chunked_body_is_spooled() -> None:
    environ = chunked()
    with open_input(environ, streamed(b"a" * 70000, b"b"), False) as body:
        assert body.readline() == b"a" * 70000 + b"b"
    assert environ == {"CONTENT_LENGTH": "70001"}


def test_a_long_chunked_body_may_be_streamed() -> None:
    environ = chunked()
    body = open_input(environ, streamed(b"abc", b"d"), True)
    assert environ == chunked()
    assert (body.read(2), body.read()) == (b"ab", b"cd")


def test_what_is_spooled_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi_input, "MAX_SPOOLED", 5)
    with pytest.raises(BadRequest) as caught:
        open_input(chunked(), streamed(b"abc", b"def"), False)
    assert caught.value.status == 413


def test_a_long_body_of_a_known_length_is_streamed() -> None:
    body = open_input({"CONTENT_LENGTH": "4"}, streamed(b"ab", b"cd"), False)
    assert isinstance(body, io.BufferedReader)
    assert body.read() == b"abcd"
