"""Bodies in pieces, answers in pieces, and the switch to WebSocket, without any I/O."""

from __future__ import annotations

import pickle

import pytest

from gworker.errors import ProtocolError
from gworker.http import BadRequest, Request, Response
from gworker.http.errors import ClientGone
from gworker.http.streaming import IterBody
from gworker.protocols import EOF, NEED_DATA, PAUSED
from gworker.protocols.http.protocol import HttpProtocol
from gworker.protocols.http.streaming import (
    MAX_DRAIN,
    HttpExchange,
    RequestStarted,
    ResponseStarted,
)

NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


def make(above: int | None = 0) -> HttpProtocol:
    protocol = HttpProtocol(1000)
    protocol.configure({} if above is None else {"stream_above": above})
    return protocol


def post(*fields: str, line: str = "POST / HTTP/1.1") -> bytes:
    return "\r\n".join([line, "Host: a", *fields, "", ""]).encode()


def begin(protocol: HttpProtocol, data: bytes) -> Request:
    """Feed `data`, which begins a streamed request."""
    protocol.receive_data(data)
    event = protocol.next_event()
    assert isinstance(event, RequestStarted)
    assert protocol.next_event() is PAUSED
    return event.request


def fields_of(data: bytes) -> dict[str, str]:
    lines = data.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines)


# --- bodies


def test_a_body_is_taken_as_it_comes():
    protocol = make()
    request = begin(protocol, post("Content-Length: 5") + b"he")
    assert protocol.is_answering
    assert protocol.take_body() == b"he"
    assert protocol.take_body() == b""
    protocol.receive_data(b"llo" + NEXT)
    assert protocol.next_event() is PAUSED
    assert protocol.take_body() == b"llo"
    assert protocol.take_body() is protocol.take_body() is None
    assert b"Connection" not in protocol.encode("answer")
    assert protocol.next_event().target == "/next"
    assert request.method == "POST"


def test_chunks_are_taken_without_their_framing():
    protocol = make()
    begin(protocol, post("Transfer-Encoding: chunked") + b"2\r\nhe")
    assert protocol.take_body() == b"he"
    protocol.receive_data(b"\r\n3\r\nllo\r\n0\r\n")
    assert protocol.take_body() == b"llo"
    assert protocol.take_body() == b""
    protocol.receive_data(b"\r\n")
    assert protocol.take_body() is None
    assert b"Connection" not in protocol.encode("answer")
    assert protocol.next_event() is NEED_DATA


def test_a_short_body_is_not_streamed():
    protocol = make(above=4)
    protocol.receive_data(post("Content-Length: 4") + b"abcd")
    assert protocol.next_event().body == b"abcd"
    protocol.encode("")
    protocol.receive_data(post("Transfer-Encoding: chunked") + b"4\r\nabcd\r\n")
    assert protocol.next_event() is NEED_DATA
    protocol.receive_data(b"0\r\n\r\n")
    assert protocol.next_event().body == b"abcd"
    protocol.encode("")
    begin(protocol, post("Transfer-Encoding: chunked") + b"4\r\nabcd\r\n1\r\ne")
    assert protocol.take_body() == b"abcde"


def test_a_body_beyond_the_limit_is_refused_only_where_it_is_kept():
    for above, status in ((None, b"413"), (5000, b"413")):
        with pytest.raises(ProtocolError) as refused:
            protocol = make(above)
            protocol.receive_data(post("Content-Length: 2000"))
            protocol.next_event()
        assert refused.value.reply[9:12] == status
    request = begin(make(), post("Content-Length: 2000"))
    request.attach(lambda: b"x" * 10)
    with pytest.raises(BadRequest) as too_long:
        _ = request.body
    assert too_long.value.status == 413
    request = begin(make(), post("Transfer-Encoding: chunked") + b"1\r\na\r\n")
    request.attach(lambda: b"x" * 10)
    with pytest.raises(BadRequest, match="1000"):
        request.json()


def test_a_body_that_rests_is_handed_out_as_it_comes():
    protocol = HttpProtocol(1000)
    protocol.configure({"stream_above": 100, "streams_stalled": True})
    protocol.receive_data(post("Content-Length: 5") + b"he")
    assert protocol.next_event() is NEED_DATA
    assert protocol.streams_stalled
    event = protocol.stream_rest()
    assert isinstance(event, RequestStarted)
    assert not protocol.streams_stalled
    assert protocol.stream_rest() is None
    assert protocol.take_body() == b"he"
    protocol.receive_data(b"llo" + NEXT)
    assert (protocol.take_body(), protocol.take_body()) == (b"llo", None)
    protocol.encode("x")
    assert protocol.next_event().target == "/next"


def test_a_body_that_has_to_be_whole_is_not_handed_out():
    protocol = make(100)
    protocol.receive_data(post("Content-Length: 5") + b"he")
    protocol.next_event()
    assert not protocol.streams_stalled
    assert protocol.stream_rest() is None


def test_the_body_of_a_streamed_request_is_read_once():
    request = begin(
        make(), post("Transfer-Encoding: chunked", "Content-Type: application/json") + b"1\r\na\r\n"
    )
    pieces = iter([b"[1", b",2]", None])
    request.attach(lambda: next(pieces))
    assert request.json() == [1, 2]
    assert request.body == request.text.encode() == request.stream.read() == b"[1,2]"
    assert pickle.loads(pickle.dumps(request)).body == b"[1,2]"


def test_100_is_sent_when_a_handler_reads():
    protocol = make()
    begin(protocol, post("Content-Length: 2", "Expect: 100-continue"))
    assert not protocol.has_output
    assert protocol.take_body() == b""
    assert protocol.data_to_send() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert protocol.take_body() == b""
    assert not protocol.has_output


@pytest.mark.parametrize("framing", ["Content-Length: 2", "Transfer-Encoding: chunked"])
def test_who_waits_for_100_may_be_refused_however_short_the_body(framing):
    protocol = make(above=65536)
    begin(protocol, post(framing, "Expect: 100-continue"))
    assert not protocol.has_output
    assert b"Connection: close" in protocol.encode("no")
    assert protocol.data_to_send() == b""
    assert protocol.next_event() is EOF


def test_a_client_that_is_refused_in_pieces_is_not_asked_for_the_body():
    protocol = make()
    begin(protocol, post("Content-Length: 50000000", "Expect: 100-continue"))
    head = protocol.encode(Response.stream([b"no"], status=403))
    assert head.startswith(b"HTTP/1.1 403 ")
    assert fields_of(head)["Connection"] == "close"
    assert protocol.take_body() == b""  # it cannot be asked for any more
    assert not protocol.has_output
    protocol.encode_part(b"no")
    protocol.end_answer()
    assert protocol.next_event() is EOF


def test_a_client_that_was_not_told_to_continue_is_not_waited_for():
    protocol = make()
    begin(protocol, post("Content-Length: 2", "Expect: 100-continue"))
    assert b"Connection: close" in protocol.encode("no")
    assert protocol.next_event() is EOF


@pytest.mark.parametrize("left", [1, MAX_DRAIN])
def test_the_rest_of_an_unread_body_is_dropped(left):
    protocol = make()
    begin(protocol, post(f"Content-Length: {left}"))
    assert b"Connection" not in protocol.encode("enough")
    assert not protocol.is_answering
    assert protocol.next_event() is NEED_DATA
    assert protocol.waiting_for() == "body"
    protocol = pickle.loads(pickle.dumps(protocol))
    protocol.receive_data(b"x" * left + NEXT)
    assert protocol.next_event().target == "/next"


def test_a_client_that_finishes_while_the_rest_is_dropped():
    protocol = make()
    begin(protocol, post("Content-Length: 10"))
    protocol.encode("enough")
    protocol.receive_data(b"")
    assert protocol.next_event() is EOF


@pytest.mark.parametrize(
    "fields", [f"Content-Length: {MAX_DRAIN + 1}", "Transfer-Encoding: chunked"]
)
def test_the_connection_ends_when_the_rest_is_long(fields):
    protocol = make()
    begin(protocol, post(fields) + b"1\r\nx")
    assert b"Connection: close" in protocol.encode("enough")
    assert protocol.next_event() is EOF
    with pytest.raises(ClientGone):
        protocol.take_body()


def test_a_malformed_chunk_is_told_to_the_reader_and_ends_the_connection():
    protocol = make()
    begin(protocol, post("Transfer-Encoding: chunked") + b"1\r\na\r\n")
    assert protocol.take_body() == b"a"
    protocol.receive_data(b"nonsense\r\n" + NEXT)
    with pytest.raises(BadRequest) as malformed:
        protocol.take_body()
    assert malformed.value.reply.startswith(b"HTTP/1.1 400 ")
    with pytest.raises(ClientGone):
        protocol.take_body()
    assert b"Connection: close" in protocol.encode("sorry")
    assert protocol.next_event() is EOF


def test_a_body_that_is_cut_short():
    protocol = make()
    begin(protocol, post("Content-Length: 5") + b"he")
    protocol.receive_data(b"")
    assert protocol.take_body() == b"he"
    with pytest.raises(ConnectionError) as gone:
        protocol.take_body()
    assert protocol.refuse(gone.value).startswith(b"HTTP/1.1 400 ")


# --- answers


def answer(protocol: HttpProtocol, response: Response) -> bytes:
    """All of an answer that is sent in pieces."""
    data = protocol.encode(response)
    event = protocol.next_event()
    if isinstance(event, ResponseStarted):
        assert protocol.is_sending
        assert protocol.next_event() is PAUSED
        data += b"".join(protocol.encode_part(part) for part in event.body.parts())
        data += protocol.end_answer()
    return data


def ask(line: str = "GET / HTTP/1.1", *fields: str) -> HttpProtocol:
    protocol = make()
    protocol.receive_data("\r\n".join([line, "Host: a", *fields, "", ""]).encode())
    protocol.next_event()
    return protocol


def test_a_stream_is_chunked():
    protocol = ask()
    head, _, body = answer(protocol, Response.stream(["a" * 10, b"b", bytearray(b"c")])).partition(
        b"\r\n\r\n"
    )
    assert b"Transfer-Encoding: chunked" in head
    assert b"Content-Length" not in head
    assert body == b"a\r\naaaaaaaaaa\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"
    protocol.receive_data(NEXT)
    assert protocol.next_event().target == "/next"


def test_a_stream_for_http_1_0_ends_with_the_connection():
    protocol = ask("GET / HTTP/1.0", "Connection: keep-alive")
    data = answer(protocol, Response.stream(["ab", "c"]))
    assert b"chunked" not in data
    assert b"Connection: close" in data
    assert data.endswith(b"\r\n\r\nabc")
    assert protocol.next_event() is EOF


def test_a_stream_of_known_length_keeps_the_connection_in_1_0_too():
    protocol = ask("GET / HTTP/1.0", "Connection: keep-alive")
    data = answer(protocol, Response.stream(["ab", "c"], length=3))
    assert fields_of(data)["Content-Length"] == "3"
    assert fields_of(data)["Connection"] == "keep-alive"
    assert protocol.next_event() is NEED_DATA


@pytest.mark.parametrize("parts", [["ab"], ["abcd"]])
def test_a_stream_of_another_length_is_an_error(parts):
    protocol = ask()
    with pytest.raises(ValueError, match=r"longer|shorter"):
        answer(protocol, Response.stream(parts, length=3))
    assert protocol.close(1011) == b""  # no other answer may follow


class Source:
    closed = False

    def __iter__(self):
        return self

    def __next__(self):
        return "x"

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("line", "status"), [("HEAD / HTTP/1.1", 200), ("GET / HTTP/1.1", 204), ("GET / HTTP/1.1", 304)]
)
def test_without_content_the_source_is_closed_at_once(line, status):
    protocol, source = ask(line), Source()
    data = protocol.encode(Response.stream(source, status))
    assert source.closed
    assert data.endswith(b"\r\n\r\n")
    assert (b"chunked" in data) == (status == 200)
    assert protocol.next_event() is NEED_DATA


def test_a_stream_that_is_never_sent_is_closed():
    protocol, source = ask(), Source()
    protocol.encode(Response.stream(source))
    protocol.close(1001)
    assert source.closed


def test_only_one_answer():
    protocol = ask()
    protocol.encode(Response.stream(["a"]))
    with pytest.raises(RuntimeError, match="still being sent"):
        protocol.encode("b")
    protocol.next_event()
    protocol.end_answer()
    with pytest.raises(RuntimeError, match="no answer"):
        protocol.encode_part(b"c")


def test_closing_in_the_middle_of_a_stream():
    protocol = ask()
    assert b"Connection" not in protocol.encode(Response.stream(["a"]))
    protocol.closing = True
    protocol.next_event()
    assert protocol.end_answer() == b"0\r\n\r\n"
    assert protocol.next_event() is EOF


def test_a_stream_is_no_str():
    with pytest.raises(TypeError, match="iterable"):
        Response.stream("abc")
    with pytest.raises(TypeError, match="int"):
        list(Response.stream([1]).body.parts())


def test_the_protocol_says_the_date():
    assert "GMT" in fields_of(ask().encode(Response("a", headers={"Date": "never"})))["Date"]
    assert b"Date" in answer(ask(), Response.stream([]))


# --- WebSocket

HANDSHAKE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
HELLO = b"\x81\x85\0\0\0\0hello"


def asked_to_upgrade(*leftover: bytes) -> tuple[HttpProtocol, Request]:
    protocol = make()
    protocol.receive_data(
        "\r\n".join(["GET /chat HTTP/1.1", "Host: a", *HANDSHAKE, "", ""]).encode()
        + b"".join(leftover)
    )
    event = protocol.next_event()
    assert isinstance(event, RequestStarted)
    return protocol, event.request


def test_it_becomes_a_websocket():
    protocol, request = asked_to_upgrade(HELLO)
    assert request.is_websocket
    socket = protocol.upgrade(request, {"X-A": "b"})
    first = socket.data_to_send()
    assert first.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-A: b\r\n" in first
    assert socket.encode("first") == b"\x81\x05first"
    assert socket.next_event() == "hello"
    assert protocol.next_event() is EOF


def test_a_client_that_has_finished_already_is_heard_out():
    protocol, request = asked_to_upgrade(HELLO)
    protocol.receive_data(b"")
    socket = protocol.upgrade(request, ())
    assert socket.next_event() == "hello"
    assert socket.next_event() is EOF


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([], 426),
        (HANDSHAKE[:3], 400),
        ([*HANDSHAKE[:2], "Sec-WebSocket-Version: 8", HANDSHAKE[3]], 426),
    ],
)
def test_what_is_no_handshake(fields, status):
    protocol = make()
    protocol.receive_data("\r\n".join(["GET / HTTP/1.1", "Host: a", *fields, "", ""]).encode())
    event = protocol.next_event()
    is_offer = isinstance(event, RequestStarted)
    request = event.request if is_offer else event
    with pytest.raises(BadRequest) as refused:
        protocol.upgrade(request, ()) if is_offer else request.upgrade()
    assert refused.value.status == status
    assert protocol.refuse(refused.value).startswith(b"HTTP/1.1 %d " % status)


def test_too_late_to_upgrade():
    protocol, request = asked_to_upgrade()
    protocol.encode("no")
    with pytest.raises(RuntimeError, match="answered already"):
        protocol.upgrade(request, ())
    with pytest.raises(RuntimeError, match="just received"):
        pickle.loads(pickle.dumps(request)).upgrade()


def test_only_the_request_in_progress_is_upgraded_not_one_with_the_same_bytes():
    data = "\r\n".join(["GET / HTTP/1.1", "Host: a", *HANDSHAKE, "", ""]).encode()
    protocol = make()
    protocol.receive_data(data + data)
    first = protocol.next_event().request
    protocol.encode("no")
    second = protocol.next_event().request
    with pytest.raises(RuntimeError, match="answered already"):
        protocol.upgrade(first, ())
    assert protocol.upgrade(second, ()).has_output


# --- the end of an exchange


def begun():
    closed = []

    def source():
        try:
            yield b"a"
        finally:
            closed.append("source")

    parts = source()
    next(parts)
    exchange = HttpExchange()
    exchange.outgoing = IterBody(parts)
    exchange.waiter = lambda: closed.append("waiter")
    exchange.ended = lambda: closed.append("ended")
    return exchange, closed


def test_an_answer_that_the_driver_has_not_got_is_closed():
    exchange, closed = begun()
    exchange.event = ResponseStarted(exchange.outgoing)
    exchange.abort()
    assert closed == ["source", "waiter", "ended"]


def test_one_that_the_driver_sends_is_the_drivers_to_close():
    exchange, closed = begun()
    exchange.abort()
    assert closed == ["waiter", "ended"]


@pytest.mark.parametrize("exchange", [HttpExchange()])
def test_nothing_to_abort(exchange):
    exchange.abort()
    assert exchange.outgoing is None
