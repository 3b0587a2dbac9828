from __future__ import annotations

import pickle
import sys
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gworker.errors import ProtocolError
from gworker.http import BadRequest, Request, Response
from gworker.http.errors import ClientGone
from gworker.protocols import EOF, NEED_DATA, PAUSED
from gworker.protocols.http import head as http_head
from gworker.protocols.http.protocol import HttpProtocol
from gworker.protocols.http.streaming import RequestStarted


def make(limit: int = 1000) -> HttpProtocol:
    return HttpProtocol(limit)


def request(line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> bytes:
    host = ["Host: a"] if line.endswith("1.1") else []
    return "\r\n".join([line, *host, *fields, "", ""]).encode() + body


CHUNKS = b'5\r\nhello\r\n6;a;b=c;d="e\\""\r\n world\r\n0\r\n\r\n'

ACCEPTED = {
    "GET": (request(), ("GET", "/", b"")),
    "1.0 without Host": (request("GET /a HTTP/1.0"), ("GET", "/a", b"")),
    "one empty line before": (b"\r\n" + request(), ("GET", "/", b"")),
    "one empty line before each": (b"\r\n" + request() + b"\r\n" + request(), ("GET", "/", b"")),
    "no space behind the colon": (request("GET / HTTP/1.1", "X:y"), ("GET", "/", b"")),
    "empty value": (request("GET / HTTP/1.1", "X:"), ("GET", "/", b"")),
    "latin-1 value": (request()[:-2] + b"X: \xe9\r\n\r\n", ("GET", "/", b"")),
    "absolute form": (request("GET http://b:8/c?d HTTP/1.1"), ("GET", "http://b:8/c?d", b"")),
    "absolute form, IPv6": (request("GET http://[::1]:8 HTTP/1.1"), ("GET", "http://[::1]:8", b"")),
    "asterisk": (request("OPTIONS * HTTP/1.1"), ("OPTIONS", "*", b"")),
    "Content-Length": (
        request("POST / HTTP/1.1", "Content-Length: 5", body=b"he\r\n\r"),
        ("POST", "/", b"he\r\n\r"),
    ),
    "no content": (request("POST / HTTP/1.1", "Content-Length: 0"), ("POST", "/", b"")),
    "leading zeros": (
        request("POST / HTTP/1.1", "Content-Length: 002", body=b"ab"),
        ("POST", "/", b"ab"),
    ),
    "content with GET": (
        request("GET / HTTP/1.1", "Content-Length: 2", body=b"ab"),
        ("GET", "/", b"ab"),
    ),
    "largest body": (
        request("PUT / HTTP/1.1", "Content-Length: 1000", body=b"a" * 1000),
        ("PUT", "/", b"a" * 1000),
    ),
    "chunked": (
        request("POST / HTTP/1.1", "Transfer-Encoding: Chunked ", body=CHUNKS),
        ("POST", "/", b"hello world"),
    ),
    "no chunks": (
        request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        ("POST", "/", b""),
    ),
    "trailers": (
        request(
            "POST / HTTP/1.1",
            "Transfer-Encoding: chunked",
            body=b"1\r\na\r\n000\r\nA: b\r\nHost: c\r\n\r\n",
        ),
        ("POST", "/", b"a"),
    ),
    "largest chunk": (
        request(
            "POST / HTTP/1.1",
            "Transfer-Encoding: chunked",
            body=b"3E8\r\n" + b"a" * 1000 + b"\r\n0\r\n\r\n",
        ),
        ("POST", "/", b"a" * 1000),
    ),
    "offer to upgrade": (
        request("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: h2c"),
        ("GET", "/", b""),
    ),
    "99 more fields": (request("GET / HTTP/1.1", *["X: y"] * 99), ("GET", "/", b"")),
    "longest line": (request("GET /" + "a" * 8178 + " HTTP/1.1"), ("GET", "/" + "a" * 8178, b"")),
    "IPv6 host": (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", ("GET", "/", b"")),
    "empty Host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", ("GET", "/", b"")),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(drive, case):
    data, expected = ACCEPTED[case]
    transcript = drive.every_way(make, data)
    assert transcript.error is None
    assert {event for event in transcript.events if event is not EOF} == {expected}


PERSISTENT = sorted(set(ACCEPTED) - {"1.0 without Host", "one empty line before each"})


@pytest.mark.parametrize("case", PERSISTENT)
def test_what_follows_is_the_next_request(drive, case):
    data, expected = ACCEPTED[case]
    transcript = drive.every_way(make, data + request("GET /next HTTP/1.1"))
    assert transcript.events == [expected, ("GET", "/next", b"")]


@settings(max_examples=50)
@given(st.lists(st.sampled_from(PERSISTENT), max_size=5), st.lists(st.integers(0)))
def test_any_cut_gives_the_same_requests(drive, cases, cuts):
    data = b"".join(ACCEPTED[case][0] for case in cases)
    transcript = drive.cut(make, data, cuts, end=True)
    assert transcript.events == [*(ACCEPTED[case][1] for case in cases), EOF]


@given(st.binary(max_size=300), st.lists(st.integers(0)))
def test_any_bytes_are_a_request_or_an_error(drive, data, cuts):
    transcript = drive.cut(make, data, cuts, end=True)
    assert (transcript.events == [EOF]) == (transcript.error is None)


@given(st.binary(max_size=300), st.lists(st.integers(0)))
def test_any_chunked_body_is_cut_independently(drive, data, cuts):
    data = request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=data)
    assert drive.cut(make, data, cuts).outcome() == drive(make(), [data]).outcome()


def test_paused_until_the_answer_is_encoded():
    protocol = make()
    protocol.receive_data(request("GET /1 HTTP/1.1") + request("GET /2 HTTP/1.1"))
    assert protocol.next_event().target == "/1"
    assert protocol.next_event() is protocol.next_event() is PAUSED
    protocol.receive_data(request("GET /3 HTTP/1.1"))
    assert protocol.next_event() is PAUSED
    protocol.encode("1")
    assert protocol.next_event().target == "/2"
    protocol.encode("2")
    assert protocol.next_event().target == "/3"
    protocol.encode("3")
    assert protocol.next_event() is NEED_DATA


def test_answering_nothing_or_twice():
    protocol = make()
    with pytest.raises(RuntimeError, match="no request to answer"):
        protocol.encode("x")
    protocol.receive_data(request() + request())
    protocol.next_event()
    protocol.encode("x")
    with pytest.raises(RuntimeError, match="no request to answer"):
        protocol.encode("x")


def test_a_bad_answer_leaves_the_request_open():
    protocol = make()
    protocol.receive_data(request())
    protocol.next_event()
    for bad, error in ((None, TypeError), (5, TypeError), (Response("", status=99), ValueError)):
        with pytest.raises(error):
            protocol.encode(bad)
    assert protocol.encode("x").endswith(b"x")


@pytest.mark.parametrize(
    ("data", "field", "ends"),
    [
        (request(), None, False),
        (request("GET / HTTP/1.1", "Connection: keep-alive"), None, False),
        (request("GET / HTTP/1.1", "Connection: close"), b"close", True),
        (request("GET / HTTP/1.1", "Connection: foo , CLOSE"), b"close", True),
        (request("GET / HTTP/1.1", "Connection: keep-alive", "Connection: close"), b"close", True),
        (request("GET / HTTP/1.0"), b"close", True),
        (request("GET / HTTP/1.0", "Connection: Keep-Alive"), b"keep-alive", False),
        (request("GET / HTTP/1.0", "Connection: keep-alive, close"), b"close", True),
    ],
)
def test_persistence(data, field, ends):
    protocol = make()
    protocol.receive_data(data + request())
    assert protocol.next_event().keep_alive is not ends
    head = protocol.encode(b"x").partition(b"\r\n\r\n")[0]
    fields = [line for line in head.split(b"\r\n") if line.startswith(b"Connection")]
    assert fields == ([b"Connection: " + field] if field else [])
    event = protocol.next_event()
    assert event is EOF if ends else isinstance(event, Request)


def test_handler_closes():
    protocol = make()
    protocol.receive_data(request() + request())
    protocol.next_event()
    data = protocol.encode(Response("x", headers={"connection": "Close"}))
    assert data.count(b"onnection") == 1
    assert b"Connection: close\r\n" in data
    assert protocol.next_event() is EOF


def test_driver_closes():
    protocol = make()
    protocol.closing = True
    assert protocol.next_event() is NEED_DATA
    protocol.receive_data(request())
    assert protocol.next_event().keep_alive
    assert b"Connection: close\r\n" in protocol.encode("x")
    assert protocol.next_event() is EOF


def test_end_of_the_peer_waits_for_the_answer():
    protocol = make()
    protocol.receive_data(request("GET /1 HTTP/1.1") + request("GET /2 HTTP/1.1"))
    protocol.receive_data(b"")
    assert protocol.next_event().target == "/1"
    assert protocol.next_event() is PAUSED
    protocol.encode("1")
    assert protocol.next_event().target == "/2"
    protocol.encode("2")
    assert protocol.next_event() is protocol.next_event() is EOF


def test_end_when_idle(drive):
    assert drive(make(), [], end=True).events == [EOF]
    assert drive.every_way(make, request() + b"\r\n", end=True).events == [("GET", "/", b""), EOF]


EXPECT = ("POST / HTTP/1.1", "Content-Length: 3", "Expect: 100-continue")


@pytest.mark.parametrize("expect", ["100-continue", ", 100-Continue", "100-continue\t,"])
def test_continue_when_the_body_is_awaited(drive, expect):
    transcript = drive(make(), [request(*EXPECT[:2], f"Expect: {expect}"), b"abc"])
    assert transcript.output.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert transcript.events == [("POST", "/", b"abc")]


@pytest.mark.parametrize(
    "data",
    [
        request(*EXPECT, body=b"a"),
        request(*EXPECT, body=b"abc"),
        request("POST / HTTP/1.0", *EXPECT[1:]),
        request("POST / HTTP/1.0", "Expect: something"),
        request("POST / HTTP/1.1", "Expect: 100-continue", "Content-Length: 0"),
        request("POST / HTTP/1.1", "Expect: 100-continue"),
    ],
)
def test_no_continue(data):
    protocol = make()
    protocol.receive_data(data)
    protocol.next_event()
    assert not protocol.has_output
    assert protocol.data_to_send() == b""


def test_continue_is_not_promised_to_a_body_that_is_too_long(drive):
    output = drive(make(2), [request(*EXPECT)]).output
    assert output.startswith(b"HTTP/1.1 413 ")


def test_interim_responses_do_not_answer():
    protocol = make()
    protocol.receive_data(request())
    protocol.next_event()
    early = protocol.encode(Response(status=103, headers={"Link": "</a>"}))
    assert early == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    assert protocol.next_event() is PAUSED
    with pytest.raises(ValueError, match="switch"):
        protocol.encode(Response(status=101))
    assert protocol.encode("x")
    protocol.receive_data(request("GET / HTTP/1.0"))
    protocol.next_event()
    assert protocol.encode(Response(status=103)) == b""


class Own(Response):
    pass


def test_kinds_of_response_of_the_users_own_are_framed_alike():
    protocol = make()
    protocol.receive_data(request() + request())
    protocol.next_event()
    assert (
        protocol.encode(Own(b"", 103, {"Link": "</a>"}))
        == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    )
    assert b"Connection: close" in protocol.encode(Own("x", headers={"Connection": "close"}))
    assert protocol.next_event() is EOF


@pytest.mark.parametrize(
    ("error", "line", "body"),
    [
        (BadRequest("no such name"), b"400 Bad Request", b"400 Bad Request: no such name\n"),
        (BadRequest("no", 404), b"404 Not Found", b"404 Not Found: no\n"),
        (BadRequest("no", 499), b"499 ", b"499: no\n"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_a_handler_complains_of_is_told(method, error, line, body):
    protocol = make()
    protocol.receive_data(request(f"{method} / HTTP/1.1"))
    protocol.next_event()
    head, _, content = protocol.refuse(error).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"HTTP/1.1 " + line
    assert content == (body if method == "GET" else b"")
    assert error.status == int(line[:3])
    assert protocol.next_event() is EOF


def test_a_client_that_has_gone_is_told_nothing():
    protocol = make()
    protocol.receive_data(request())
    protocol.next_event()
    assert protocol.refuse(ClientGone("the client has gone")) == b""


@pytest.mark.parametrize("status", [200, 399, 500])
def test_a_bad_request_blames_the_client(status):
    with pytest.raises(ValueError, match="400 to 499"):
        BadRequest("x", status)


def test_a_bad_request_survives_pickling():
    copy = pickle.loads(pickle.dumps(BadRequest("no", 404)))
    assert (str(copy), copy.status) == ("no", 404)


@pytest.mark.parametrize(
    "data",
    [
        b"HEAD / HTTP/1.1\r\n\r\n",
        b"HEAD / HTTP/2.0\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\nHost: a",
    ],
)
def test_a_refused_head_request_gets_a_head(drive, data):
    transcript = drive.every_way(make, data)
    assert transcript.error
    assert transcript.output.count(b"Connection: close") == 1
    assert transcript.output.endswith(b"\r\n\r\n")


def test_a_late_head_request_gets_a_head():
    protocol = make()
    protocol.receive_data(b"HEAD / HTTP/1.1\r\nHost")
    assert protocol.next_event() is NEED_DATA
    reply = protocol.timed_out()
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert reply.endswith(b"\r\n\r\n")


def test_deadlines():
    protocol = make()
    assert protocol.waiting_for() == "header"
    assert not protocol.is_partial
    protocol.receive_data(b"P")
    protocol.next_event()
    assert protocol.waiting_for() == "header"
    assert protocol.is_partial
    protocol.receive_data(request("POST / HTTP/1.1", "Content-Length: 3")[1:])
    protocol.next_event()
    assert protocol.waiting_for() == "body"
    assert not protocol.is_answering
    protocol.receive_data(b"abcG")
    protocol.next_event()
    assert protocol.waiting_for() == ""
    assert protocol.is_answering
    protocol.encode("x")
    assert protocol.waiting_for() == "header"
    protocol.receive_data(request()[1:])
    protocol.next_event()
    protocol.encode("x")
    assert protocol.next_event() is NEED_DATA
    assert protocol.waiting_for() == ""
    assert not protocol.is_partial


@pytest.mark.parametrize(
    "data", [b"G", request()[:-1], request("POST / HTTP/1.1", "Content-Length: 3")]
)
def test_late_request(data):
    protocol = make()
    protocol.receive_data(data)
    protocol.next_event()
    assert protocol.timed_out().startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert protocol.next_event() is EOF


def test_silent_peer_gets_no_reply():
    protocol = make()
    assert protocol.timed_out() == b""
    assert protocol.next_event() is EOF


@pytest.mark.parametrize(
    ("method", "body"), [("GET", b"500 Internal Server Error\n"), ("HEAD", b"")]
)
def test_failed_handler_answers_500(method, body):
    protocol = make()
    protocol.receive_data(request(f"{method} / HTTP/1.1"))
    protocol.next_event()
    data = protocol.close(1011)
    assert data.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"Connection: close\r\n" in data
    assert data.endswith(b"\r\n\r\n" + body)
    assert protocol.next_event() is EOF


def test_close_says_nothing():
    protocol = make()
    assert protocol.close(1011) == b""
    protocol.receive_data(request())
    assert protocol.next_event() is EOF
    protocol = make()
    protocol.receive_data(request())
    protocol.next_event()
    assert protocol.close() == b""
    with pytest.raises(RuntimeError):
        protocol.encode("x")


def test_body_in_many_reads_is_linear_and_given_away():
    protocol = make(1 << 24)
    protocol.receive_data(request("PUT / HTTP/1.1", f"Content-Length: {1 << 22}"))
    for _ in range(64):
        assert protocol.next_event() is NEED_DATA
        assert protocol._buffer == b""
        protocol.receive_data(b"x" * 65536)
    assert len(protocol.next_event().body) == 1 << 22
    assert protocol._reader is None


def test_idle_connection_is_small():
    protocol = make()
    protocol.receive_data(request())
    protocol.next_event()
    protocol.encode("x")
    assert protocol.next_event() is NEED_DATA
    assert sys.getsizeof(protocol) <= 200
    assert protocol._buffer == protocol.raw_head == b""
    assert protocol._head is None


def test_error_is_the_end():
    protocol = make()
    protocol.receive_data(b"\0")
    with pytest.raises(ProtocolError):
        protocol.next_event()
    protocol.receive_data(request())
    assert protocol.next_event() is EOF
    with pytest.raises(RuntimeError):
        protocol.encode("x")


@pytest.mark.parametrize(
    "fields", [(), ("Content-Length: 0",), ("X Y: z",), ("A: b", "A: c")], ids=str
)
def test_nothing_of_a_head_is_kept(fields):
    """Keys in fields and targets are gone with their request: also those that a parser which all
    share has seen."""
    raw = request("GET /key=k3y HTTP/1.1", "X-Api-Key: k3y", *fields)
    protocol, before = make(), sys.getrefcount(raw)
    protocol.receive_data(raw)
    with suppress(ProtocolError):
        assert protocol.next_event().query_string == ""
        protocol.encode("answer")
        assert protocol.next_event() is NEED_DATA
    del protocol
    assert sys.getrefcount(raw) == before
    assert not http_head._fields


@pytest.mark.parametrize("code", ["answered", "refused"])
def test_one_that_is_over_has_its_end_to_tell(code: str) -> None:
    """Its driver asks for no event while nothing is pending: the connection would stay open."""
    protocol = make()
    protocol.receive_data(request("GET / HTTP/1.1", "Connection: close"))
    assert isinstance(protocol.next_event(), Request)
    if code == "answered":
        protocol.encode("bye")
    else:
        protocol.refuse(BadRequest("no"))
    assert protocol.has_pending
    assert protocol.next_event() is EOF


# --- phases


def reading() -> HttpProtocol:
    return make()


def within_a_body() -> HttpProtocol:
    protocol = make()
    protocol.receive_data(request("PUT / HTTP/1.1", "Content-Length: 9", body=b"a"))
    assert protocol.next_event() is NEED_DATA
    assert protocol.waiting_for() == "body"
    assert not protocol.is_answering
    return protocol


def answering() -> HttpProtocol:
    protocol = make()
    protocol.receive_data(request())
    assert isinstance(protocol.next_event(), Request)
    assert protocol.is_answering
    return protocol


def draining() -> HttpProtocol:
    protocol = make()
    protocol.configure({"stream_above": 1})
    protocol.receive_data(request("PUT / HTTP/1.1", "Content-Length: 9", body=b"a"))
    assert isinstance(protocol.next_event(), RequestStarted)
    protocol.encode("early")
    assert protocol.waiting_for() == "body"
    assert not protocol.is_answering
    return protocol


def over() -> HttpProtocol:
    protocol = answering()
    protocol.close()
    return protocol


@pytest.mark.parametrize("phase", [reading, within_a_body, answering, draining, over])
def test_every_phase_may_end_and_nothing_follows(phase):
    protocol = phase()
    protocol.close()
    assert protocol.next_event() is EOF
    protocol.receive_data(request())
    assert protocol.next_event() is EOF
    assert not protocol.is_answering
    with pytest.raises(RuntimeError):
        protocol.encode("x")


@pytest.mark.parametrize("phase", [reading, within_a_body, answering, draining])
def test_from_every_phase_the_next_request_is_reached(phase):
    protocol = phase()
    if phase in (within_a_body, draining):
        protocol.receive_data(b"bcdefghi")
    if phase is within_a_body:
        assert protocol.next_event().body == b"abcdefghi"
    if protocol.is_answering:
        protocol.encode("answer")
    assert protocol.next_event() is NEED_DATA
    protocol.receive_data(request("GET /next HTTP/1.1"))
    assert protocol.next_event().target == "/next"
