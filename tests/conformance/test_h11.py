"""Against h11, a parser written by others from the same RFCs: what both accept, both read the same.

h11 is more lenient by design. What it takes and we refuse is named in LENIENT, with the reason why:
a request that one of the two refuses for any other reason, in these tests, is a finding.
"""

from __future__ import annotations

from typing import Any

import h11
import pytest
from http_cases import INVALID, VALID, chunked, get, post
from hypothesis import given, settings
from hypothesis import strategies as st

from gworker.errors import ProtocolError
from gworker.http import Request
from gworker.protocols.http.protocol import HttpProtocol
from gworker.protocols.http.streaming import RequestStarted

LENIENT = {
    "9112 2.2: bare LF behind the request line": "h11 takes LF for a line end within a head",
    "9112 2.2: bare LF behind a field": "as above",
    "9112 2.2: bare LF at the end of the head": "as above",
    "9112 7.1.2: bare LF behind a trailer": "as above",
    "9112 3.1: an unknown method": "h11 knows no list of methods",
    "9110 9.1: a known method in lower case": "as above",
    "9112 3.2: a fragment": "h11 does not look into targets",
    "9112 3.2: a relative target": "as above",
    "9112 3.2.3: authority form": "as above",
    "9110 4.2.4: a user in the target": "as above",
    "9110 4.2.4: a user and password in the target": "as above",
    "9110 9.3.6: CONNECT": "h11 leaves it to its user to refuse",
    "9110 9.3.6: CONNECT in origin form": "as above",
    "9110 9.3.6: CONNECT in absolute form": "as above",
    "9110 9.3.6: CONNECT with content": "as above",
    "9110 9.3.6: CONNECT in 1.0": "as above",
    "9112 3.2.4: asterisk form with GET": "as above",
    "9112 2.3: HTTP/2": "h11 reads any version as 1.1, and leaves it to its user to look",
    "9112 2.3: a higher minor version": "as above",
    "9110 4.1: too long a request line": "h11 has one limit for the whole head",
    "9110 5.4: too long fields": "as above",
    "9112 5.2: a folded line": "h11 unfolds; the RFC allows to refuse",
    "9112 5.2: a folded Host": "as above",
    "9110 5.5: DEL in a value": "h11 lets it pass",
    "9110 5.4: too many fields": "h11 limits the whole head",
    "9110 7.2: Host that is a list": "h11 does not look into Host",
    "9110 7.2: Host with a path": "as above",
    "9110 7.2: Host with a user": "as above",
    "9110 7.2: Host with a space": "as above",
    "9110 10.1.1: an unknown expectation": "h11 ignores it; the RFC allows 417",
    "9110 8.6: two that are equal": "the RFC allows both",
    "9110 8.6: a list": "as above",
    "9112 6.1: with Content-Length": "h11 lets Transfer-Encoding win; the RFC allows to refuse",
    "9112 6.1: with Content-Length before it": "as above",
    "9112 6.1: in 1.0": "h11 reads it as in 1.1; RFC 9112 calls its framing faulty",
    "9112 7.1: a space behind the size": "h11 takes bad whitespace (7.1.1)",
    "9112 7.1.1: an extension without a name": "h11 takes any bytes for an extension",
    "9112 7.1.1: an open quote": "as above",
    "9112 7.1.1: an endless extension": "h11 has a limit of its own",
}
OURS_ALONE = {
    "9110 5.6.1.2: an empty element before the coding": "a recipient MUST ignore it; h11 refuses",
    "9110 5.6.1.2: empty elements around the coding": "as above",
    "9112 2.2: one empty line before the request line": "a server SHOULD skip one; h11 refuses",
    "9112 7.1.2: a trailer that would frame": "we check trailers and drop them; h11 refuses "
    "those that would frame",
}


def ours(data: bytes) -> Any:
    """(method, target, fields, body) of the first request; None if it is refused or not
    complete."""
    protocol = HttpProtocol(100_000)
    protocol.receive_data(data)
    try:
        event = protocol.next_event()
    except ProtocolError:
        return None
    if isinstance(event, RequestStarted):
        event = event.request
    if not isinstance(event, Request):
        return None
    fields = [(name.lower(), value) for name, value in event.headers.pairs()]
    fields = [
        (name, value.lower() if name == "transfer-encoding" else value) for name, value in fields
    ]  # as h11 does
    return event.method, event.target, sorted(fields), event.body


def theirs(data: bytes) -> Any:
    """The same, as h11 reads it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
    try:
        connection.receive_data(data)
        request, body = connection.next_event(), b""
        while isinstance(request, h11.Request):
            event = connection.next_event()
            if isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                fields = [
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in request.headers
                ]
                return (
                    request.method.decode(),
                    request.target.decode("latin-1"),
                    sorted(fields),
                    body,
                )
            else:
                return None
    except h11.RemoteProtocolError:
        pass
    return None


def named(case: Any) -> str:
    return f"{case.section}: {case.name}"


@pytest.mark.parametrize("case", VALID, ids=named)
def test_the_valid_are_read_the_same(case):
    mine = ours(case.raw)
    assert mine is not None
    assert theirs(case.raw) == (mine if named(case) not in OURS_ALONE else None)


def test_where_h11_is_more_lenient():
    """Each of the invalid that it takes is in the list, and nothing that it refuses."""
    assert {named(case) for case in INVALID if theirs(case.raw) is not None} == set(LENIENT)


TOKENS = st.sampled_from(
    [b"GET", b"POST", b" ", b"/", b"/a", b"*", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r"]
)
FIELDS = st.sampled_from(
    [
        b"Host: a\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 0\r\n",
        b"Content-Length: 3, 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"transfer-encoding:chunked \r\n",
        b"Connection: close\r\n",
        b"X: y\r\n",
        b" folded\r\n",
        b"X : y\r\n",
        b"X: \t y \t\r\n",
    ]
)
BODIES = st.sampled_from(
    [
        b"",
        b"abc",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"3;x=y\r\nabc\r\n00\r\nT: t\r\n\r\n",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.just(b"GET / HTTP/1.1\r\n"),
        st.just(b"POST /a HTTP/1.0\r\n"),
        st.lists(TOKENS, max_size=6).map(b"".join),
    ),
    st.lists(FIELDS, max_size=5).map(b"".join),
    BODIES,
)
def test_what_both_accept_is_the_same(line, fields, body):
    data = line + fields + b"\r\n" + body
    mine, other = ours(data), theirs(data)
    if mine is not None and other is not None:
        assert mine == other


GOOD = [get("X: y"), post("Content-Length: 3", body=b"abc"), chunked(b"3\r\nabc\r\n0\r\n\r\n")]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(GOOD),
    st.integers(0, 200),
    st.sampled_from([b"", b"\0", b"\n", b"\r", b" ", b"\t", b":", b"0", b"\xff"]),
    st.booleans(),
)
def test_one_byte_off(raw, at, byte, insert):
    """A good request with one byte changed, added or removed."""
    at %= len(raw)
    data = raw[:at] + byte + raw[at + (not insert) :]
    mine, other = ours(data), theirs(data)
    if mine is not None and other is not None:
        assert mine == other
    if mine is not None and other is None:
        assert b"\xff" in data or b"\t" in data, data
