"""What an HTTP server has to refuse, and with which status. Each case is one request.

The status does not depend on how the request was cut, the reply is a complete response that closes,
and nothing of the request reaches a handler.
"""

from __future__ import annotations

import pickle
import re

import pytest

from gworker.errors import ProtocolError
from gworker.protocols import EOF, NEED_DATA
from gworker.protocols.http.head import (
    MAX_FIELDS,
    MAX_HEADERS,
    MAX_LINE,
    MAX_PARTIAL,
    parse_head,
)
from gworker.protocols.http.protocol import HttpProtocol
from gworker.protocols.websocket.server import WebSocketProtocol

LIMIT = 1000


def make() -> HttpProtocol:
    return HttpProtocol(LIMIT)


def get(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bool = True) -> bytes:
    return (
        b"".join(field + b"\r\n" for field in (line, *([b"Host: a"] if host else []), *fields))
        + b"\r\n"
    )


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return get(*fields, line=b"POST / HTTP/1.1") + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


REFUSALS = {
    # RFC 9112 section 3: the request line
    "two spaces": (400, get(line=b"GET  / HTTP/1.1")),
    "space before the method": (400, get(line=b" GET / HTTP/1.1")),
    "space behind the version": (400, get(line=b"GET / HTTP/1.1 ")),
    "tab for a space": (400, get(line=b"GET\t/ HTTP/1.1")),
    "space in the target": (400, get(line=b"GET /a b HTTP/1.1")),
    "no version": (400, b"GET /\r\n\r\n"),
    "no target": (400, get(line=b"GET HTTP/1.1")),
    "empty target": (400, get(line=b"GET  HTTP/1.1")),
    "lower-case version name": (400, get(line=b"GET / http/1.1")),
    "version without minor": (400, get(line=b"GET / HTTP/1")),
    "version with two digits": (400, get(line=b"GET / HTTP/1.10")),
    "version of another protocol": (400, get(line=b"GET / HTCPCP/1.0")),
    "HTTP/0.9": (505, get(line=b"GET / HTTP/0.9")),
    "HTTP/1.2": (505, get(line=b"GET / HTTP/1.2")),
    "HTTP/2.0": (505, get(line=b"GET / HTTP/2.0")),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "unknown method": (501, get(line=b"BREW / HTTP/1.1")),
    "method in lower case": (501, get(line=b"get / HTTP/1.1")),
    "method that is no token": (400, get(line=b"G(T / HTTP/1.1")),
    "CONNECT": (501, get(line=b"CONNECT a:443 HTTP/1.1")),
    "two empty lines before": (400, b"\r\n\r\n" + get()),
    "empty line of LF before": (400, b"\n" + get()),
    "fragment in the target": (400, get(line=b"GET /a#b HTTP/1.1")),
    "target without slash": (400, get(line=b"GET a HTTP/1.1")),
    "asterisk for GET": (400, get(line=b"GET * HTTP/1.1")),
    "absolute form without authority": (400, get(line=b"GET http:///a HTTP/1.1")),
    "absolute form with only a port": (400, get(line=b"GET http://:80/ HTTP/1.1")),
    "absolute form with two users": (400, get(line=b"GET http://u@v@a/ HTTP/1.1")),
    "absolute form with a user alone": (400, get(line=b"GET http://u:p@/ HTTP/1.1")),
    "absolute form with a user that is no one": (400, get(line=b"GET http://u[@a/ HTTP/1.1")),
    "absolute form with a bad port": (400, get(line=b"GET http://a:8x/ HTTP/1.1")),
    "absolute form with a bad escape": (400, get(line=b"GET http://a%2/ HTTP/1.1")),
    "absolute form, broken IPv6": (400, get(line=b"GET http://[::1/ HTTP/1.1")),
    "absolute form with a list": (400, get(line=b"GET http://a,b/ HTTP/1.1")),
    "absolute form with a long host": (400, get(line=b"GET http://" + b"a" * 301 + b"/ HTTP/1.1")),
    "absolute form of another scheme": (400, get(line=b"GET ftp://a/ HTTP/1.1")),
    "non-ASCII target": (400, get(line=b"GET /\xc3\xa9 HTTP/1.1")),
    "long target": (414, get(line=b"GET /" + b"a" * MAX_LINE + b" HTTP/1.1")),
    # section 3.2: Host
    "no Host": (400, get(host=False)),
    "two Hosts": (400, get(b"Host: a")),
    "two Hosts, spelt differently": (400, get(b"hOST: b")),
    "two Hosts in 1.0": (400, get(b"Host: a", line=b"GET / HTTP/1.0")),
    "Host with a path": (400, get(b"Host: a/b", host=False)),
    "Host with userinfo": (400, get(b"Host: u@a", host=False)),
    "Host with a space": (400, get(b"Host: a b", host=False)),
    "Host list": (400, get(b"Host: a,b", host=False)),
    "Host with a bad port": (400, get(b"Host: a:8x", host=False)),
    "Host with a bad escape": (400, get(b"Host: a%2", host=False)),
    "Host, broken IPv6": (400, get(b"Host: [::1", host=False)),
    "no Host beside the absolute form": (400, get(line=b"GET http://a/ HTTP/1.1", host=False)),
    # section 5: fields
    "space before the colon": (400, get(b"X : y")),
    "tab before the colon": (400, get(b"X\t: y")),
    "no colon": (400, get(b"X y")),
    "empty name": (400, get(b": y")),
    "name that is no token": (400, get(b"X(): y")),
    "name with a non-ASCII byte": (400, get(b"X\xe9: y")),
    "folded line": (400, get(b"X: y\r\n z")),
    "folded first line": (400, get(b" X: y", host=False)),
    "folded line with a tab": (400, get(b"X: y\r\n\tz")),
    "NUL in a value": (400, get(b"X: a\0b")),
    "control in a value": (400, get(b"X: a\x01b")),
    "DEL in a value": (400, get(b"X: a\x7fb")),
    "bare CR in a value": (400, get(b"X: a\rb")),
    "bare CR before the end": (400, get(b"X: a\r")),
    "bare LF in the request line": (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "bare LF in a field": (400, b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    "bare LF at the end": (400, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    "only LF": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "too many fields": (431, get(*[b"X: y"] * MAX_FIELDS)),
    "long field": (431, get(b"X: " + b"y" * MAX_HEADERS)),
    "long fields": (431, get(*[b"X: " + b"y" * 1000] * 17)),
    "field name without end": (431, get()[:-2] + b"x" * (MAX_HEADERS + 1)),
    # section 6: framing
    "two Content-Lengths": (400, post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd")),
    "one Content-Length twice": (
        400,
        post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"),
    ),
    "Content-Length list": (400, post(b"Content-Length: 3, 3", body=b"abc")),
    "signed Content-Length": (400, post(b"Content-Length: +3", body=b"abc")),
    "negative Content-Length": (400, post(b"Content-Length: -1")),
    "hexadecimal Content-Length": (400, post(b"Content-Length: 0x3", body=b"abc")),
    "empty Content-Length": (400, post(b"Content-Length:")),
    "Content-Length with a space": (400, post(b"Content-Length: 1 1", body=b"a")),
    "Content-Length with an underscore": (400, post(b"Content-Length: 1_0", body=b"a" * 10)),
    "Content-Length beyond the limit": (413, post(b"Content-Length: 1001")),
    "Content-Length beyond 64 bits": (
        413,
        post(b"Content-Length: 18446744073709551619", body=b"abc"),
    ),
    "Content-Length beyond Python's limit": (413, post(b"Content-Length: " + b"9" * 5000)),
    "both": (400, post(b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "both, the other way": (
        400,
        post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=b"0\r\n\r\n"),
    ),
    "unknown coding": (501, post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "identity": (501, post(b"Transfer-Encoding: identity")),
    "gzip, chunked": (501, post(b"Transfer-Encoding: gzip, chunked")),
    "chunked, identity": (501, post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n")),
    "chunked twice": (
        501,
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    ),
    "chunked with a parameter": (501, post(b"Transfer-Encoding: chunked;a=b", body=b"0\r\n\r\n")),
    "quoted chunked": (501, post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    "empty Transfer-Encoding": (501, post(b"Transfer-Encoding:", body=b"0\r\n\r\n")),
    "Transfer-Encoding with another name": (
        400,
        post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    ),
    "Transfer-Encoding in 1.0": (
        400,
        get(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0") + b"0\r\n\r\n",
    ),
    "Expect": (417, post(b"Expect: 200-ok", b"Content-Length: 3", body=b"abc")),
    "two Expects": (
        417,
        post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 3"),
    ),
    # section 7.1: chunks
    "chunk size that is no number": (400, chunked(b"x\r\n")),
    "chunk size with a prefix": (400, chunked(b"0x3\r\nabc\r\n0\r\n\r\n")),
    "signed chunk size": (400, chunked(b"+3\r\nabc\r\n0\r\n\r\n")),
    "negative chunk size": (400, chunked(b"-3\r\nabc\r\n0\r\n\r\n")),
    "empty chunk size": (400, chunked(b"\r\nabc\r\n0\r\n\r\n")),
    "space before the chunk size": (400, chunked(b" 3\r\nabc\r\n0\r\n\r\n")),
    "space behind the chunk size": (400, chunked(b"3 \r\nabc\r\n0\r\n\r\n")),
    "underscore in the chunk size": (400, chunked(b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n")),
    "chunk size of 17 digits": (400, chunked(b"00000000000000003\r\nabc\r\n0\r\n\r\n")),
    "chunk size that wraps 64 bits": (400, chunked(b"10000000000000003\r\nabc\r\n0\r\n\r\n")),
    "chunk size beyond the limit": (413, chunked(b"3e9\r\n")),
    "chunk size far beyond it": (413, chunked(b"ffffffffffffffff\r\n")),
    "chunks beyond the limit": (413, chunked(b"3e8\r\n" + b"a" * 1000 + b"\r\n1\r\n")),
    "chunk size line with LF": (400, chunked(b"3\nabc\r\n0\r\n\r\n")),
    "chunk size line with a bare CR": (400, chunked(b"3\rabc\r\n0\r\n\r\n")),
    "chunk longer than it said": (400, chunked(b"3\r\nabcd\r\n0\r\n\r\n")),
    "chunk ended by LF": (400, chunked(b"3\r\nabc\n0\r\n\r\n")),
    "chunk ended by CR": (400, chunked(b"3\r\nabc\r0\r\n\r\n")),
    "last chunk ended by LF": (400, chunked(b"0\n\r\n")),
    "body ended by LF": (400, chunked(b"0\r\n\n")),
    "extension with a newline in quotes": (400, chunked(b'3;a="\n"\r\nabc\r\n0\r\n\r\n')),
    "extension without a name": (400, chunked(b"3;=a\r\nabc\r\n0\r\n\r\n")),
    "extension with an open quote": (400, chunked(b'3;a="b\r\nabc\r\n0\r\n\r\n')),
    "long extension": (400, chunked(b"3;" + b"a" * 300 + b"\r\nabc\r\n0\r\n\r\n")),
    "many extensions": (
        400,
        chunked(b"".join(b"1;%b\r\na\r\n" % (b"x" * 200) for _ in range(100))),
    ),
    "trailer without colon": (400, chunked(b"0\r\nabc\r\n\r\n")),
    "trailer with a space before the colon": (400, chunked(b"0\r\nA : b\r\n\r\n")),
    "folded trailer": (400, chunked(b"0\r\nA: b\r\n c\r\n\r\n")),
    "trailer with NUL": (400, chunked(b"0\r\nA: \0\r\n\r\n")),
    "long trailer": (431, chunked(b"0\r\nA: " + b"b" * 20000)),
    "long trailers": (431, chunked(b"0\r\n" + b"A: bcd\r\n" * 3000)),
    # not HTTP at all
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "NUL": (400, b"\0"),
    "binary behind a method": (400, b"GET \xff\xfe\0"),
    "a line of text": (400, b"hello\r\n"),
    "a method without end": (400, b"A" * 40),
    "JSON": (400, b'{"a": 1}'),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(drive, case):
    status, request = REFUSALS[case]
    transcript = drive.every_way(make, request)
    assert transcript.events == []
    assert_reply(transcript.output, status)


def assert_reply(output: bytes, status: int) -> None:
    head, _, body = output.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert re.fullmatch(rb"HTTP/1\.1 %d [A-Z][A-Za-z' -]+" % status, lines[0])
    assert b"Connection: close" in lines
    assert b"Content-Length: %d" % len(body) in lines
    assert b"Content-Type: text/plain; charset=utf-8" in lines
    assert body.startswith(b"%d " % status)
    assert len(body) < 200
    assert body.isascii()


def test_a_refused_request_refuses_what_follows(drive):
    transcript = drive.every_way(make, get() + get(host=False) + get())
    assert transcript.events == [("GET", "/", b"")]
    assert transcript.output.endswith(b"no Host fields\n")


def test_vertical_tab_is_no_white_space(drive):
    """Which of its two faults is found first depends on the cut; neither is 200."""
    request = post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")
    for cut in ([request], [request[:60], request[60:]]):
        transcript = drive(make(), cut)
        assert transcript.events == []
        assert transcript.error is not None


@pytest.mark.parametrize("body", [b"3\ra", b"0\r\nA\rb", b"1\r\naX", b"1\r\na\rX"])
def test_hopeless_chunks_are_refused_while_they_are_incomplete(drive, body):
    assert_reply(drive.every_way(make, chunked(body)).output, 400)


def test_padded_chunk_sizes_are_no_way_around_the_limits(drive):
    transcript = drive.every_way(
        lambda: HttpProtocol(10_000), chunked(b"%016x\r\na\r\n" % 1 * 3000)
    )
    assert_reply(transcript.output, 400)


@pytest.mark.parametrize(
    "case", ["only LF", "TLS", "a line of text", "folded first line", "HTTP/2.0", "two spaces"]
)
def test_hopeless_heads_are_refused_while_they_are_incomplete(case):
    request = REFUSALS[case][1]
    protocol = make()
    with pytest.raises(ProtocolError, match="."):
        for byte in request.removesuffix(b"\r\n\r\n") + b"\r\n":
            protocol.receive_data(bytes([byte]))
            protocol.next_event()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET",
        b"GET / HTTP/1.1\r\nHost",
        get()[:-1],
        post(b"Content-Length: 3", body=b"ab"),
        chunked(b"3\r\nab"),
        b"\r",
    ],
)
def test_end_within_a_request(drive, request_):
    transcript = drive.every_way(make, request_, end=True)
    assert transcript.events == []
    assert_reply(transcript.output, 400)


HOSTILE = {
    "request line": (b"GET /", b"a" * 997),
    "header fields": (get()[:-2], b"X: " + b"y" * 900 + b"\r\n"),
    "one field": (get()[:-2] + b"X: ", b"y" * 1000),
    "chunk extension": (chunked(b""), b"1;" + b"a" * 1000),
    "chunks": (chunked(b""), b"64\r\n" + b"a" * 100 + b"\r\n"),
    "trailers": (chunked(b"0\r\n"), b"A: " + b"b" * 900 + b"\r\n"),
    "empty lines": (b"\r\n", b"\r\n"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_memory_is_bounded(case):
    """Up to 100 MB in pieces: an error comes, and before it never more is held than the limits and
    one read."""
    start, piece = HOSTILE[case]
    protocol = make()
    protocol.receive_data(start)
    with pytest.raises(ProtocolError):
        for _ in range(100_000_000 // len(piece)):
            assert protocol.next_event() is NEED_DATA
            held = len(protocol._buffer) + (len(protocol._reader.body) if protocol._reader else 0)
            assert held <= MAX_LINE + MAX_HEADERS + LIMIT + len(piece)
            protocol.receive_data(piece)
    protocol.receive_data(piece)
    assert protocol.next_event() is EOF
    assert protocol.take_unparsed() == b""


def test_one_connection_does_not_spoil_the_shared_parser_for_the_next(drive):
    for request in [
        get(b"Proxy-Connection: close"),
        get(b"Connection: close"),
        get(b"Connection: upgrade", b"Upgrade: h2c"),
        get(b"X : y"),
        post(b"Content-Length: 3", body=b"abc"),
        get(line=b"GET / HTTP/1.0"),
    ]:
        drive(make(), [request])
        assert drive(make(), [get()]).error is None


@pytest.mark.parametrize("framing", [b"Content-Length: 1", b"Transfer-Encoding: chunked"])
def test_the_body_of_a_refused_request_takes_nothing_of_the_next_head(framing):
    with pytest.raises(ProtocolError, match="invalid Host"):
        parse_head(get(b"Host: a b", framing, line=b"POST / HTTP/1.1", host=False))
    with pytest.raises(ProtocolError, match="unknown method"):
        parse_head(get(line=b"AGET / HTTP/1.1"))


# --- cutting off the head

PROTOCOLS = [HttpProtocol, WebSocketProtocol]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_of_what_is_refused_the_beginning_is_kept(protocol):
    one = protocol(100)
    one.receive_data(b"GET / HTTP/1.1\n" + b"x" * 5000)
    with pytest.raises(ProtocolError):
        one.next_event()
    assert one.raw_head == b"GET / HTTP/1.1\n" + b"x" * (MAX_PARTIAL - 15)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("data", [b"GET /", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_an_end_within_the_head(protocol, data):
    one = protocol(100)
    one.receive_data(data)
    one.next_event()
    one.receive_data(b"")
    with pytest.raises(ProtocolError, match="within its head"):
        one.next_event()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_options_do_not_move(protocol):
    one = protocol(100)
    one.configure({"compression": None, "stream_above": 5, "function": lambda: None})
    one.receive_data(b"GET /")
    copy = pickle.loads(pickle.dumps(one))
    copy.receive_data(b" HTTP/1.1\r\nHost")
    copy.next_event()
    assert copy.is_partial
