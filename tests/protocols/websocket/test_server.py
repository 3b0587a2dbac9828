from __future__ import annotations

import pickle
import sys

import pytest
from websocket_bytes import ANSWER, KEY, frame, handshake, make, opened, text

from gworker.http import BadRequest, Response
from gworker.http.date import http_date
from gworker.protocols import EOF, NEED_DATA, PAUSED, Handshake, get
from gworker.protocols.websocket.options import origins
from gworker.protocols.websocket.server import WebSocketProtocol

# --- the opening handshake


def test_handshake_waits_for_a_decision():
    protocol = make()
    assert protocol.next_event() is NEED_DATA
    assert protocol.waiting_for() == "handshake"
    protocol.receive_data(handshake(Sec_WebSocket_Protocol="talk, chat") + text("early"))
    event = protocol.next_event()
    assert isinstance(event, Handshake)
    assert event.request.path == "/chat"
    assert protocol.waiting_for() == ""
    assert protocol.next_event() is protocol.next_event() is PAUSED
    protocol.receive_data(text("bird"))
    assert protocol.next_event() is PAUSED
    protocol.accept_handshake([("Sec-WebSocket-Protocol", "chat")])
    assert protocol.has_output
    assert protocol.data_to_send() == ANSWER[:-2] + b"Sec-WebSocket-Protocol: chat\r\n\r\n"
    assert [protocol.next_event() for _ in range(3)] == ["early", "bird", NEED_DATA]


def test_handshake_in_any_cut(drive):
    transcript = drive.every_way(make, handshake() + text("a") + text("b"))
    assert transcript.events == ["a", "b"]
    assert transcript.output == ANSWER


def test_messages_sent_before_the_answer_follow_it():
    protocol = make()
    assert protocol.encode("0") == b""
    protocol.receive_data(handshake())
    protocol.next_event()
    assert protocol.encode("1") == b""
    assert not protocol.has_output
    assert protocol.data_to_send() == b""
    protocol.accept_handshake()
    assert protocol.data_to_send() == ANSWER + b"\x81\x010\x81\x011"
    assert protocol.encode("2") == b"\x81\x012"


@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Connection": "keep-alive , UPGRADE"},
        {"Sec_WebSocket_Key": "////////////////////" + "//=="},
        {"Origin": "http://a"},
        {"Content_Length": "0"},
    ],
)
def test_accepted_handshakes(drive, changes):
    assert drive.every_way(make, handshake(**changes)).error is None


@pytest.mark.parametrize(
    ("status", "field", "request_"),
    [
        (405, b"Allow: GET", handshake("POST /chat HTTP/1.1")),
        (400, b"", handshake("GET /chat HTTP/1.0")),
        (505, b"", handshake("GET /chat HTTP/2.0")),
        (400, b"", handshake(Host=None)),
        (400, b"", handshake(Content_Length="5")),
        (400, b"", handshake(Transfer_Encoding="chunked")),
        (426, b"Upgrade: websocket", handshake(Upgrade=None)),
        (426, b"Upgrade: websocket", handshake(Upgrade="h2c")),
        (426, b"Upgrade: websocket", handshake(Upgrade="websockets")),
        (426, b"Upgrade: websocket", handshake(Connection=None)),
        (426, b"Upgrade: websocket", handshake(Connection="keep-alive")),
        (426, b"Upgrade: websocket", b"GET / HTTP/1.0\r\n\r\n"),
        (426, b"Sec-WebSocket-Version: 13", handshake(Sec_WebSocket_Version=None)),
        (426, b"Sec-WebSocket-Version: 13", handshake(Sec_WebSocket_Version="8")),
        (426, b"Sec-WebSocket-Version: 13", handshake(Sec_WebSocket_Version="13, 8")),
        (426, b"Sec-WebSocket-Version: 13", handshake(Sec_WebSocket_Version="013")),
        (400, b"", handshake(Sec_WebSocket_Key=None)),
        (400, b"", handshake(Sec_WebSocket_Key="")),
        (400, b"", handshake(Sec_WebSocket_Key=KEY[:-4])),
        (400, b"", handshake(Sec_WebSocket_Key=KEY[1:])),
        (400, b"", handshake(Sec_WebSocket_Key=KEY[:-1] + "A")),
        (400, b"", handshake(Sec_WebSocket_Key=KEY + "\r\nSec-WebSocket-Key: " + KEY)),
        (400, b"", handshake().replace(b"\r\n", b"\n")),
        (400, b"", b"\x16\x03\x01"),
        (400, b"", b"\r\n" + handshake()),
        (431, b"", handshake(Cookie="a" * 20_000)),
    ],
)
def test_refused_handshakes(drive, status, field, request_):
    transcript = drive.every_way(make, request_ + text("x"))
    lines = transcript.output.split(b"\r\n")
    assert transcript.events == []
    assert lines[0].startswith(b"HTTP/1.1 %d " % status)
    assert not field or field in lines
    assert (b"Connection: Upgrade, close" if status == 426 else b"Connection: close") in lines
    assert sum(line.startswith(b"Connection:") for line in lines) == 1


def undecided() -> WebSocketProtocol:
    protocol = make()
    protocol.receive_data(handshake() + text("x"))
    protocol.next_event()
    protocol.encode("never sent")
    return protocol


@pytest.mark.parametrize(
    ("message", "line", "body"),
    [
        (None, b"403 Forbidden", b"the server refuses this WebSocket\n"),
        (Response("who?", 401), b"401 Unauthorized", b"who?"),
    ],
)
def test_refusing(message, line, body):
    protocol = undecided()
    protocol.refuse_handshake(message)
    data = protocol.data_to_send()
    assert data.startswith(b"HTTP/1.1 " + line)
    assert b"Connection: close\r\n" in data
    assert data.endswith(b"\r\n\r\n" + body)
    assert protocol.next_event() is EOF
    with pytest.raises(RuntimeError):
        protocol.encode("x")
    assert protocol.close() == b""


def test_refusal_is_a_response():
    with pytest.raises(TypeError, match="Response"):
        undecided().refuse_handshake("no")


def test_close_before_the_answer_refuses():
    protocol = undecided()
    assert protocol.close(1001).startswith(b"HTTP/1.1 403 ")
    assert not protocol.awaits_peer_close
    assert not protocol.has_output
    assert protocol.next_event() is EOF


def test_close_before_the_request_says_nothing():
    protocol = make()
    protocol.receive_data(b"GET")
    assert protocol.close() == b""
    assert protocol.next_event() is EOF


def test_answering_no_handshake():
    protocol = make()
    for call in (protocol.accept_handshake, protocol.refuse_handshake, opened().accept_handshake):
        with pytest.raises(RuntimeError, match="no handshake to answer"):
            call()


@pytest.mark.parametrize(
    "headers", [{"Upgrade": "x"}, [("X", "a\r\nb")], [("sec-websocket-accept", "x")], [("", "x")]]
)
def test_fields_that_would_break_the_answer(headers):
    protocol = undecided()
    with pytest.raises(ValueError, match="."):
        protocol.accept_handshake(headers)
    assert not protocol.has_output
    protocol.refuse_handshake()


def test_late_handshake():
    protocol = make()
    assert protocol.timed_out() == b""
    assert protocol.next_event() is EOF
    protocol = make()
    protocol.receive_data(b"GET")
    protocol.next_event()
    assert protocol.timed_out().startswith(b"HTTP/1.1 408 ")
    assert opened().timed_out() == b""


@pytest.mark.parametrize("kind", ["websocket", "http"])
def test_a_late_peer_is_told_the_date_of_that_moment(kind, monkeypatch):
    now = 1_900_000_000.5
    monkeypatch.setattr("gworker.http.date.time", lambda: now)
    for later in (0, 3600):
        now = 1_900_000_000.5 + later
        protocol = get(kind)(1000)
        protocol.receive_data(b"GET / HT")
        protocol.next_event()
        assert f"Date: {http_date(now)}\r\n".encode() in protocol.timed_out()


def test_end_before_the_handshake(drive):
    assert drive(make(), [], end=True).events == [EOF]
    assert drive(make(), [b"GET / HT"], end=True).output.startswith(b"HTTP/1.1 400 ")


# --- memory


def test_open_connection_is_small():
    protocol = opened()
    protocol.receive_data(text("a", 0x01) + text("b" * 1000, 0x80) + frame(0x89))
    assert len(protocol.next_event()) == 1001
    assert protocol.next_event() is NEED_DATA
    protocol.data_to_send()
    assert sys.getsizeof(protocol) <= 200
    assert protocol._buffer == protocol._output == b""
    assert type(protocol._buffer) is type(protocol._output) is bytes
    assert protocol._message is protocol._request is None


def test_handshake_request_is_small():
    protocol = make()
    protocol.receive_data(handshake())
    request = protocol.next_event().request
    assert request.headers["host"] == "a"
    protocol.accept_handshake()
    assert request._cache is None
    assert sys.getsizeof(request) + sys.getsizeof(request._head) < 350 + len(request._head)


# --- the 101


def test_the_101_has_further_fields():
    protocol = make()
    protocol.receive_data(handshake())
    protocol.next_event()
    protocol.accept_handshake({"X-A": "b"})
    assert protocol.data_to_send() == ANSWER[:-2] + b"X-A: b\r\n\r\n"


@pytest.mark.parametrize("name", ["connection", "UPGRADE", "Content-Length", "Transfer-Encoding"])
def test_fields_that_the_handshake_sets(name):
    protocol = make()
    protocol.receive_data(handshake())
    protocol.next_event()
    with pytest.raises(ValueError, match="sets .* itself"):
        protocol.accept_handshake({name: "x"})


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ([], True),
        (["Origin: https://example.com"], True),
        (["Origin: https://example.org"], False),
        (["Origin: https://example.com", "Origin: https://example.com"], False),
    ],
)
def test_origins(fields, passes):
    data = handshake()[:-2] + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n"
    for allowed in (None, origins(["https://example.com"])):
        protocol = make()
        protocol.configure({"origins": allowed})
        protocol.receive_data(data)
        if passes or allowed is None:
            assert isinstance(protocol.next_event(), Handshake)
        else:
            with pytest.raises(BadRequest, match="may not open") as caught:
                protocol.next_event()
            assert caught.value.status == 403


def test_one_that_is_open_keeps_nothing_of_its_handshake() -> None:
    protocol = undecided()
    protocol.origin = ("192.0.2.1", 1)
    assert (protocol.origin, protocol.raw_head[:5]) == (("192.0.2.1", 1), b"GET /")
    protocol.accept_handshake()
    assert protocol.opening is None
    protocol.configure({"origins": ()})
    protocol.origin = ("192.0.2.1", 1)
    assert (protocol.origin, protocol.raw_head) == (None, b"")


def test_what_moves_in_a_handshake_has_neither_options_nor_the_peer() -> None:
    protocol = WebSocketProtocol(100)
    protocol.configure({"origins": lambda: None})  # pickle(3) cannot copy it
    protocol.origin = protocol.configure
    protocol.receive_data(b"GET / HT")
    assert protocol.next_event() is NEED_DATA
    copy = pickle.loads(pickle.dumps(protocol))
    assert (copy.origin, copy.take_unparsed()) == (None, b"GET / HT")
