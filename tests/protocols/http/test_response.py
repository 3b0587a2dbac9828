from __future__ import annotations

import pytest

from gworker.core.status import CLOSE, status_line
from gworker.http import Response
from gworker.http.errors import RefusedRequest
from gworker.protocols.http.response import (
    KEEP,
    KEEP_1_0,
    encode_response,
)


def parse(data: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    pairs = [field.split(b": ", 1) for field in fields]
    assert len({name.lower() for name, _ in pairs}) == len(pairs)
    return line, dict(pairs), body


@pytest.mark.parametrize(
    ("message", "content_type", "body"),
    [
        ("é", b"text/html; charset=utf-8", b"\xc3\xa9"),
        (b"\xff", b"application/octet-stream", b"\xff"),
        (bytearray(b"ab"), b"application/octet-stream", b"ab"),
        (memoryview(b"ab"), b"application/octet-stream", b"ab"),
        (Response("é"), b"text/html; charset=utf-8", b"\xc3\xa9"),
        (Response(b"ab"), b"application/octet-stream", b"ab"),
        (Response("ab", content_type="text/plain"), b"text/plain", b"ab"),
        (Response("ab", headers={"content-type": "text/plain"}), b"text/plain", b"ab"),
        (Response.json({"a": "é"}), b"application/json", b'{"a": "\xc3\xa9"}'),
    ],
)
@pytest.mark.parametrize("connection", [KEEP, KEEP_1_0, CLOSE])
def test_content(message, content_type, body, connection):
    line, fields, sent = parse(encode_response(message, connection))
    assert line == b"HTTP/1.1 200 OK"
    assert sent == body
    assert {name.lower(): value for name, value in fields.items()}[b"content-type"] == content_type
    assert fields[b"Content-Length"] == b"%d" % len(body)
    assert fields.get(b"Connection", b"") == connection.removeprefix(b"Connection: ").strip()
    head = encode_response(message, connection, head_only=True)
    assert head + body == encode_response(message, connection)


def test_json_that_utf_8_cannot_say_is_ascii():
    assert Response.json({"é": "\ud800"}).body == b'{"\\u00e9": "\\ud800"}'


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": -float("inf")}])
def test_what_json_has_not(value):
    with pytest.raises(ValueError, match="JSON has no NaN"):
        Response.json(value)


def test_empty_body_has_no_type():
    assert encode_response(Response(), KEEP) == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "length", "body"),
    [
        (200, b"2", b"ab"),
        (404, b"2", b"ab"),
        (204, None, b""),
        (304, b"2", b""),
        (205, b"0", b""),
        (299, b"2", b"ab"),
    ],
)
def test_status_decides_about_content(status, length, body):
    line, fields, sent = parse(encode_response(Response("ab", status), KEEP))
    assert line.split(b" ")[1] == b"%d" % status
    assert fields.get(b"Content-Length") == length
    assert sent == body


def test_a_reason_phrase_of_the_applications_own():
    data = encode_response(Response("x", 299, reason="Très bien"), KEEP)
    assert data.startswith(b"HTTP/1.1 299 Tr\xe8s bien\r\n")
    assert encode_response(Response(reason=""), KEEP).startswith(b"HTTP/1.1 200 \r\n")
    changed = Response()
    changed.reason = "a\r\nb: c"
    with pytest.raises(ValueError, match="reason phrase"):
        encode_response(changed, KEEP)


@pytest.mark.parametrize("reason", ["a\r\nb: c", "\n", "\0", "\x7f", "\u0100", "a\x1b"])
def test_no_reason_phrase_ends_its_line(reason):
    with pytest.raises(ValueError, match="reason phrase"):
        Response(reason=reason)


def test_a_reason_phrase_is_text():
    with pytest.raises(TypeError, match="not bytes"):
        Response(reason=b"x")


@pytest.mark.parametrize("status", [0, 99, 600, 1000, -1])
def test_impossible_status(status):
    with pytest.raises(ValueError, match="100 to 599"):
        encode_response(Response(status=status), KEEP)


@pytest.mark.parametrize(
    "name", ["Content-Length", "content-length", "Transfer-Encoding", "Connection"]
)
def test_framing_fields_of_the_handler_are_ours(name):
    data = encode_response(Response("ab", headers={name: "7"}), KEEP)
    assert b"7" not in data
    assert b"Content-Length: 2" in data


def test_length_of_content_that_is_not_sent():
    given = {"Content-Length": "1234"}
    assert b"Content-Length: 1234\r\n" in encode_response(
        Response(headers=given), KEEP, head_only=True
    )
    assert b"Content-Length: 1234\r\n" in encode_response(Response(status=304, headers=given), KEEP)
    assert b"Content-Length" not in encode_response(Response(status=304), KEEP)
    assert b"Content-Length: 2\r\n" in encode_response(
        Response("ab", headers=given), KEEP, head_only=True
    )
    assert b"Content-Length: 0\r\n" in encode_response(
        Response(headers={"Content-Length": "x"}), KEEP, head_only=True
    )


def test_repeated_fields():
    response = Response("", headers=[("X", "1"), ("x", "2")])
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    data = encode_response(response, KEEP)
    assert b"X: 1\r\nX: 2\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2; Path=/\r\n" in data


@pytest.mark.parametrize("message", [None, 1, ("a", 200), {1}])
def test_wrong_type_is_named(message):
    with pytest.raises(
        TypeError, match=f"http protocol sends Response, str.*not {type(message).__name__}"
    ):
        encode_response(message, KEEP)


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (200, "OK"),
        (408, "Request Timeout"),
        (413, "Content Too Large"),
        (414, "URI Too Long"),
        (416, "Range Not Satisfiable"),
        (421, "Misdirected Request"),
        (422, "Unprocessable Content"),
        (505, "HTTP Version Not Supported"),
    ],
)
def test_reason_phrases_are_those_of_rfc_9110(status, phrase):
    assert status_line(status) == f"HTTP/1.1 {status} {phrase}\r\n".encode()


def test_dict_and_list_are_json():
    data = encode_response({"a": ["é", None]}, KEEP)
    assert data.startswith(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 19\r\n"
    )
    assert data.endswith('\r\n\r\n{"a": ["é", null]}'.encode())
    assert encode_response([], KEEP).endswith(b"\r\n\r\n[]")
    assert encode_response([1], KEEP, head_only=True).endswith(b"Content-Length: 3\r\n\r\n")


def test_body_replaced_by_something_else():
    response = Response("a")
    response.body = 5  # type: ignore[assignment]
    with pytest.raises(TypeError):
        encode_response(response, KEEP)


def test_refusal_is_ascii_whatever_it_quotes():
    error = RefusedRequest("é")
    assert error.reply.endswith(b"400 Bad Request: \\xe9\n")
