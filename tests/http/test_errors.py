"""Errors of requests carry their answer."""

from __future__ import annotations

import pickle

import pytest

from gworker.errors import RequestError
from gworker.http import BadRequest
from gworker.http.errors import ClientGone, RefusedRequest, SlowRequest, without_content


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RefusedRequest("no"), b"400 Bad Request"),
        (RefusedRequest("no", 501), b"501 Not Implemented"),
        (BadRequest("no", 404), b"404 Not Found"),
        (SlowRequest("no"), b"408 Request Timeout"),
    ],
)
def test_the_reply_says_status_and_text_and_is_the_last(error, line):
    head, _, body = error.reply.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    assert first == b"HTTP/1.1 " + line
    assert body == line + b": no\n"
    assert b"Content-Length: %d" % len(body) in fields
    assert b"Connection: close" in fields
    assert any(field.startswith(b"Date: ") for field in fields)
    assert error.status == int(line[:3])
    assert isinstance(error, RequestError)


def test_further_fields_and_what_is_not_ascii():
    reply = RefusedRequest("é\r\n", 405, b"Allow: GET\r\n").reply
    assert b"\r\nAllow: GET\r\n" in reply
    assert reply.endswith(b"405 Method Not Allowed: \\xe9\r\n\n")


def test_a_handler_may_catch_them_as_pythons_own():
    assert isinstance(BadRequest("no"), ValueError)
    assert isinstance(SlowRequest("no"), TimeoutError)
    assert isinstance(ClientGone("no"), ConnectionError)
    assert ClientGone("no").reply == b""


@pytest.mark.parametrize("error", [RefusedRequest("no", 501), BadRequest("no", 404)])
def test_pickling(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.status, copy.reply) == (
        type(error),
        "no",
        error.status,
        error.reply,
    )


def test_without_content():
    reply = BadRequest("no").reply
    assert without_content(reply) == reply.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert without_content(b"") == b""
