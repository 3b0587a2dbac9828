"""What the protocols note for the access log: every request and what it was answered, whoever
answered it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from gworker.errors import ProtocolError
from gworker.http.request import Request
from gworker.http.response import Response
from gworker.logs.exchanges import HeadNotes, HttpNotes, recording
from gworker.protocols.base import NEED_DATA, PAUSED
from gworker.protocols.http.protocol import HttpProtocol
from gworker.protocols.websocket.server import WebSocketProtocol

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Own(HttpProtocol):
    """A user's protocol."""

    __slots__ = ("greeting",)

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self.greeting = "hello"

    def encode(self, message: Any) -> bytes:
        return super().encode(self.greeting if message is None else message)


@pytest.fixture
def notes() -> Any:
    return recording(HttpNotes, HttpProtocol)(1000)


def answered(notes: Any) -> list[tuple[bytes, int, int]]:
    """(first line, status, bytes of the body) of what was answered since the last call."""
    found = [(each.head.partition(b"\r\n")[0], each.status, each.size) for each in notes.answered]
    notes.answered = []
    return found


def test_it_is_made_once_and_is_what_it_was() -> None:
    made = recording(HttpNotes, Own)
    assert made is recording(HttpNotes, Own)
    assert issubclass(made, Own)
    assert made(10).name == "http"


def test_requests_in_a_row_are_answered_one_by_one(notes: Any) -> None:
    notes.receive_data(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(notes.next_event(), Request)
    assert notes.next_event() is PAUSED
    assert answered(notes) == []
    notes.encode("12345")
    assert answered(notes) == [(b"GET /1 HTTP/1.1", 200, 5)]
    assert isinstance(notes.next_event(), Request)
    notes.encode("12345")
    assert answered(notes) == [(b"HEAD /2 HTTP/1.1", 200, 0)]
    assert notes.next_event() is NEED_DATA
    assert notes.current is None


def test_an_interim_response_is_no_answer(notes: Any) -> None:
    notes.receive_data(
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    )
    assert notes.next_event() is NEED_DATA
    assert b" 100 " in notes.data_to_send()
    notes.receive_data(b"ab")
    notes.next_event()
    notes.encode(Response("", 103))
    assert answered(notes) == []
    notes.encode(Response("", 204))
    assert answered(notes) == [(b"PUT / HTTP/1.1", 204, 0)]


@pytest.mark.parametrize(
    ("data", "line", "status"),
    [
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", b"GET / HTTP/3.0", 505),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET /x HTTP/1.1", 400),
        (b"POST /y HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", b"POST /y HTTP/1.1", 413),
        (
            b"PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"PUT /c HTTP/1.1",
            400,
        ),
        (b"rubb\x01ish", b"rubb\x01ish", 400),
        (b"GET /" + b"l" * 9000, b"GET /" + b"l" * 2043, 414),
    ],
)
def test_refusals_of_the_protocol_itself(notes: Any, data: bytes, line: bytes, status: int) -> None:
    notes.receive_data(data)
    with pytest.raises(ProtocolError) as caught:
        while notes.next_event() is not NEED_DATA:
            pass
    body = caught.value.reply.partition(b"\r\n\r\n")[2]
    assert answered(notes) == [(line, status, len(body))]


def test_a_peer_that_is_too_slow(notes: Any) -> None:
    assert notes.timed_out() == b""
    assert answered(notes) == [], "it has said nothing"
    notes = recording(HttpNotes, HttpProtocol)(1000)
    notes.receive_data(GET[:10])
    notes.next_event()
    notes.timed_out()
    assert answered(notes) == [(GET[:10], 408, 56)]


def test_a_handler_that_failed(notes: Any) -> None:
    notes.receive_data(GET)
    notes.next_event()
    notes.close(1011)
    assert answered(notes) == [(b"GET / HTTP/1.1", 500, 26)]


def test_a_request_that_nobody_answered_stays_open(notes: Any) -> None:
    notes.receive_data(GET)
    notes.next_event()
    notes.close()
    assert answered(notes) == []
    assert notes.current.head == GET


def test_time_runs_from_the_first_byte(notes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [5.0]
    monkeypatch.setattr("gworker.logs.exchanges.monotonic", lambda: now[0])
    notes.receive_data(GET[:5])
    assert notes.next_event() is NEED_DATA
    now[0] = 9.0
    notes.receive_data(GET[5:] + GET)
    notes.next_event()
    assert notes.current.began == 5.0
    now[0] = 11.0
    notes.encode("")
    notes.next_event()
    assert notes.current.began == 11.0, (
        "what waited behind another one begins when that is answered"
    )


def test_a_websocket_keeps_the_head_that_was_refused() -> None:
    notes: Any = recording(HeadNotes, WebSocketProtocol)(1000)
    notes.receive_data(GET)
    with pytest.raises(ProtocolError):
        notes.next_event()
    assert notes.head == GET


def test_it_travels_to_another_process() -> None:
    notes: Any = recording(HttpNotes, Own)(1000)
    notes.greeting = "changed"
    notes.receive_data(GET[:10])
    notes.next_event()
    copy = pickle.loads(pickle.dumps(notes, pickle.HIGHEST_PROTOCOL))
    assert type(copy) is type(notes)
    assert (copy.began, copy.greeting) == (notes.began, "changed")
    copy.receive_data(GET[10:])
    assert isinstance(copy.next_event(), Request)
    copy.encode(None)
    assert answered(copy) == [(b"GET / HTTP/1.1", 200, 7)]


class Closed(HttpProtocol):
    """A protocol that says itself how it is copied."""

    def __reduce__(self) -> Any:
        return (Closed, (self.max_package_size,))


def test_who_knows_how_to_travel_is_asked() -> None:
    copy = pickle.loads(pickle.dumps(recording(HttpNotes, Closed)(7), pickle.HIGHEST_PROTOCOL))
    assert type(copy) is Closed
    assert copy.max_package_size == 7
