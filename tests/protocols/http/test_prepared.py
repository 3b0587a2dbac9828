"""Answers that an application has given as lists: their heads, and what becomes of the exchange."""

from __future__ import annotations

import pytest
from served import CORES

from gworker.core import PreparedAnswer
from gworker.protocols.http.prepared import PreparedHead
from gworker.protocols.http.protocol import HttpProtocol

TEXT = [("Content-Type", "text/plain")]


def answered(
    answer: PreparedAnswer, method: str = "GET", version: str = "1.1", fields: str = ""
) -> tuple[list[str], bytes, HttpProtocol]:
    """The lines of its head, its content and the protocol, which was asked for it."""
    protocol = HttpProtocol(1000)
    protocol.configure({})
    request = f"{method} / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"
    protocol.receive_data(request.encode())
    protocol.next_event()
    head, _, content = protocol.encode(answer).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    return [line for line in lines if not line.startswith("Date: ")], content, protocol


def test_a_whole_answer_has_a_length() -> None:
    lines, content, protocol = answered(PreparedAnswer("299 Tr\xe8s bien", TEXT, b"abc"))
    assert lines == ["HTTP/1.1 299 Tr\xe8s bien", "Content-Type: text/plain", "Content-Length: 3"]
    assert content == b"abc"
    assert not protocol.is_answering


def test_nothing_is_added_to_a_status_without_a_reason() -> None:
    lines, _, _ = answered(PreparedAnswer("200", []))
    assert lines == ["HTTP/1.1 200", "Content-Length: 0"]


@pytest.mark.parametrize(
    ("length", "content", "sent", "stays"),
    [("3", b"abc", b"abc", True), ("2", b"abc", b"ab", True), ("5", b"abc", b"abc", False)],
)
def test_the_length_of_the_application_counts(
    length: str, content: bytes, sent: bytes, stays: bool
) -> None:
    answer = PreparedAnswer("200 OK", [("Content-Length", length)], content)
    lines, got, protocol = answered(answer)
    assert f"Content-Length: {length}" in lines
    assert got == sent
    assert ("Connection: close" in lines) is not stays
    protocol.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (type(protocol.next_event()).__name__ == "Request") is stays


@pytest.mark.parametrize("length", ["", "-1", "1a", "+3", "1, 1"])
def test_a_length_that_is_none(length: str) -> None:
    with pytest.raises(ValueError, match="a Content-Length is a number"):
        answered(PreparedAnswer("200 OK", [("Content-Length", length)]))


@pytest.mark.parametrize(
    ("status", "method", "fields", "content", "lengths"),
    [
        ("200 OK", "HEAD", [("Content-Length", "7")], b"", ["Content-Length: 7"]),
        ("200 OK", "HEAD", [], b"abc", ["Content-Length: 3"]),
        ("200 OK", "HEAD", [], b"", []),
        ("200 OK", "HEAD", [], None, []),
        ("204 No Content", "GET", [("Content-Length", "3")], b"abc", []),
        ("204 No Content", "GET", [], None, []),
        ("304 Not Modified", "GET", [("Content-Length", "3")], b"abc", ["Content-Length: 3"]),
        ("304 Not Modified", "GET", [], b"abc", []),
        ("205 Reset Content", "GET", [("Content-Length", "3")], b"abc", ["Content-Length: 0"]),
    ],
)
def test_answers_without_content(
    status: str,
    method: str,
    fields: list[tuple[str, str]],
    content: bytes | None,
    lengths: list[str],
) -> None:
    lines, got, protocol = answered(PreparedAnswer(status, fields, content), method)
    assert lines == [f"HTTP/1.1 {status}", *lengths]
    assert got == b""
    assert not protocol.is_answering


def test_fields_of_one_connection_are_left_out() -> None:
    given = [
        ("Transfer-Encoding", "chunked"), ("KEEP-ALIVE", "5"), ("Upgrade", "x"), ("A", "b"),
        ("Connection", "keep-alive, A"),
    ]  # fmt: skip
    told: list[str] = []

    class Told(PreparedAnswer):
        def dropped(self, names: list[str]) -> None:
            told.extend(names)

    lines, _, _ = answered(Told("200 OK", given))
    assert lines == ["HTTP/1.1 200 OK", "A: b", "Content-Length: 0"]
    assert told == ["Transfer-Encoding", "KEEP-ALIVE", "Upgrade"]


def test_an_application_may_end_the_connection() -> None:
    lines, _, _ = answered(PreparedAnswer("200 OK", [("Connection", "a, CLOSE")]))
    assert lines[-1] == "Connection: close"


def test_the_date_of_the_application_counts() -> None:
    head = PreparedHead(PreparedAnswer("200 OK", [("DATE", "x")]))
    assert head.has_date
    _, _, protocol = answered(PreparedAnswer("200 OK", TEXT))
    protocol.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    protocol.next_event()
    assert protocol.encode(PreparedAnswer("200 OK", [("DATE", "x")])).lower().count(b"date") == 1


def test_pieces() -> None:
    lines, _, protocol = answered(PreparedAnswer("200 OK", TEXT, None))
    assert lines[-1] == "Transfer-Encoding: chunked"
    assert protocol.encode_part(b"abc") == b"3\r\nabc\r\n"
    assert protocol.end_answer() == b"0\r\n\r\n"
    assert not protocol.is_answering


def test_pieces_of_a_known_length() -> None:
    answer = PreparedAnswer("200 OK", [("Content-Length", "3")], None)
    lines, _, protocol = answered(answer, version="1.0", fields="Connection: keep-alive\r\n")
    assert lines[-1] == "Connection: keep-alive"
    assert protocol.encode_part(b"ab") == b"ab"
    with pytest.raises(ValueError, match="1 bytes shorter than it said"):
        protocol.end_answer()


def test_pieces_to_an_old_client_end_with_the_connection() -> None:
    lines, _, protocol = answered(PreparedAnswer("200 OK", TEXT, None), version="1.0")
    assert lines == ["HTTP/1.1 200 OK", "Content-Type: text/plain", "Connection: close"]
    assert protocol.encode_part(b"abc") == b"abc"
    assert protocol.end_answer() == b""


@pytest.mark.parametrize("name", CORES)
def test_a_large_content_is_not_copied(name: str) -> None:
    core = CORES[name]
    protocol = core.protocol.HttpProtocol(1000)
    protocol.configure({})
    protocol.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    protocol.next_event()
    content = b"a" * 20000
    parts = protocol.split(core.core.PreparedAnswer("200 OK", [], content))
    assert parts is not None
    assert parts[1] is content
    assert parts[0].endswith(b"\r\n\r\n")
