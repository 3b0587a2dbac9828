"""What is written to the access log: every request and what it was answered, whatever answered
it."""

from __future__ import annotations

import _socket
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.config.trusted_proxies import Trust
from gworker.connection.access_recorder import MAX_PENDING, Observer
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.errors import ProtocolError
from gworker.http.forwarded import Origin
from gworker.http.request import Request
from gworker.http.response import Response
from gworker.ipc.scoreboard import Scoreboard
from gworker.logs.access_log import Entry
from gworker.protocols.base import NEED_DATA, PAUSED, Handshake, Switch
from gworker.protocols.http.protocol import HttpProtocol
from gworker.protocols.http.streaming import RequestStarted
from gworker.protocols.tcp import TcpProtocol
from gworker.protocols.websocket.server import WebSocketProtocol

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OPENING = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Scene:
    """A protocol that is driven as a connection drives it, with an observer."""

    remote_ip = "192.0.2.1"
    remote_address = "192.0.2.1:1"
    peer_closed = False
    origin: Any = None

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.entries: list[Entry] = []
        access: Any = SimpleNamespace(add=self.entries.append, wants_answer=False)
        self.recorder = Observer(access, machine)
        self.bytes_read = self.bytes_written = self.send_queue = 0

    @property
    def protocol(self) -> str:
        return str(self.machine.name)

    def receive(self, data: bytes) -> Any:
        """The last event."""
        self.bytes_read += len(data)
        self.recorder.received()
        self.machine.receive_data(data)
        return self.ask()

    def ask(self) -> Any:
        last: Any = None
        try:
            while (event := self.machine.next_event()) not in (NEED_DATA, PAUSED):
                last = event
                if isinstance(event, Switch):
                    self.machine = event.protocol
                    self.recorder.switched(self.machine)
        except ProtocolError as error:
            self.recorder.parsed()
            self.write(error.reply)
            return error
        self.recorder.parsed()
        if self.machine.has_output:
            self.write(self.machine.data_to_send())
        return last

    def write(self, data: bytes, body: bytes = b"", waits: bool = False) -> None:
        self.recorder.sending(data, len(body))
        if waits:
            self.send_queue += len(data) + len(body)
        else:
            self.bytes_written += len(data) + len(body)
        self.recorder.sent(self)

    def upgrade(self, event: RequestStarted) -> None:
        self.machine = self.machine.upgrade(event.request, ())
        self.recorder.switched(self.machine)
        self.write(self.machine.data_to_send())

    def answered(self) -> list[tuple[bytes, int, int]]:
        """(first line, status, bytes of the body) of each line since the last call."""
        found = [(each.head.partition(b"\r\n")[0], each.status, each.sent) for each in self.entries]
        self.entries.clear()
        return found

    def take(self, size: int) -> None:
        """The peer takes so many bytes that wait."""
        self.send_queue -= size
        self.bytes_written += size
        self.recorder.progressed(self)


class Own(HttpProtocol):
    """A user's protocol."""

    __slots__ = ("greeting",)

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self.greeting = "hello"

    def encode(self, message: Any) -> bytes:
        return super().encode(self.greeting if message is None else message)


@pytest.fixture
def scene() -> Scene:
    return Scene(HttpProtocol(1000))


def test_a_protocol_of_a_user_is_recorded_as_what_it_is() -> None:
    scene = Scene(Own(1000))
    scene.receive(GET)
    scene.write(scene.machine.encode(None))
    assert scene.answered() == [(b"GET / HTTP/1.1", 200, 5)]
    assert type(scene.machine) is Own


def test_requests_in_a_row_are_answered_one_by_one(scene: Scene) -> None:
    both = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: a\r\n\r\n"
    assert isinstance(scene.receive(both), Request)
    assert scene.answered() == []
    scene.write(scene.machine.encode("12345"))
    assert scene.answered() == [(b"GET /1 HTTP/1.1", 200, 5)]
    assert isinstance(scene.ask(), Request)
    scene.write(scene.machine.encode("12345"))
    assert scene.answered() == [(b"HEAD /2 HTTP/1.1", 200, 0)]
    scene.recorder.closed(scene)
    assert scene.answered() == []


def test_an_interim_response_is_no_answer(scene: Scene) -> None:
    scene.receive(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert b" 100 " not in scene.machine.raw_head
    assert scene.bytes_written > 0, "100 (Continue)"
    scene.receive(b"ab")
    scene.write(scene.machine.encode(Response("", 103)))
    assert scene.answered() == []
    scene.write(scene.machine.encode(Response("", 204)))
    assert scene.answered() == [(b"PUT / HTTP/1.1", 204, 0)]


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
def test_refusals_of_the_protocol_itself(
    scene: Scene, data: bytes, line: bytes, status: int
) -> None:
    error = scene.receive(data)
    assert isinstance(error, ProtocolError)
    assert scene.answered() == [(line, status, len(error.reply.partition(b"\r\n\r\n")[2]))]


def test_a_peer_that_is_too_slow(scene: Scene) -> None:
    assert scene.machine.timed_out() == b""
    scene.recorder.closed(scene)
    assert scene.answered() == [], "it has said nothing"
    scene = Scene(HttpProtocol(1000))
    scene.receive(GET[:10])
    scene.write(scene.machine.timed_out())
    assert scene.answered() == [(GET[:10], 408, 56)]


def test_a_handler_that_failed(scene: Scene) -> None:
    scene.receive(GET)
    scene.write(scene.machine.close(1011))
    assert scene.answered() == [(b"GET / HTTP/1.1", 500, 26)]


@pytest.mark.parametrize(("peer_closed", "status"), [(False, 444), (True, 499)])
def test_a_request_without_an_answer_is_told_at_the_end(
    scene: Scene, peer_closed: bool, status: int
) -> None:
    scene.receive(GET)
    scene.machine.close()
    assert scene.answered() == []
    scene.peer_closed = peer_closed
    scene.recorder.closed(scene)
    assert scene.entries[0].aborted
    assert scene.answered() == [(b"GET / HTTP/1.1", status, 0)]


def test_time_runs_from_the_first_byte(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [5.0]
    monkeypatch.setattr("gworker.connection.access_recorder.monotonic", lambda: now[0])
    scene.receive(GET[:5])
    now[0] = 9.0
    scene.receive(GET[5:] + GET)
    now[0] = 11.0
    scene.write(scene.machine.encode(""))
    scene.ask()
    now[0] = 12.0
    scene.write(scene.machine.encode(""))
    first, second = (each.seconds for each in scene.entries)
    assert first == 6.0
    assert second == 1.0, "what waited behind another one begins when that is answered"


def test_the_size_of_an_answer_in_two_pieces_is_that_of_both(scene: Scene) -> None:
    scene.receive(GET)
    body = b"x" * 100_000
    pieces = scene.machine.split(Response(body, 404))
    scene.write(*pieces)
    assert scene.answered() == [(b"GET / HTTP/1.1", 404, len(body))]


def test_an_answer_past_the_protocol_ends_with_the_connection(scene: Scene) -> None:
    scene.receive(GET)
    scene.write(b"HTTP/1.1 202 Accepted\r\n\r\n12")
    scene.write(b"345")
    assert scene.answered() == []
    scene.recorder.closed(scene)
    assert not scene.entries[0].aborted
    assert scene.answered() == [(b"GET / HTTP/1.1", 202, 5)]


def test_what_waits_for_its_reader_is_told_when_it_is_sent(scene: Scene) -> None:
    scene.receive(GET)
    answer = scene.machine.encode("12345")
    scene.write(answer, waits=True)
    scene.take(len(answer) - 1)
    assert scene.answered() == []
    scene.take(1)
    assert scene.answered() == [(b"GET / HTTP/1.1", 200, 5)]
    scene.ask()
    scene.receive(GET)
    scene.write(scene.machine.encode("12345"), waits=True)
    scene.take(len(answer) - 2)
    scene.recorder.closed(scene)
    assert scene.entries[0].aborted
    assert scene.answered() == [(b"GET / HTTP/1.1", 200, 3)]


def test_a_reader_that_takes_nothing_makes_few_answers_wait(scene: Scene) -> None:
    for _ in range(MAX_PENDING):
        assert scene.recorder.has_room
        scene.receive(GET)
        scene.write(scene.machine.encode(""), waits=True)
    assert not scene.recorder.has_room


def test_an_answer_to_a_connection_that_was_gone(scene: Scene) -> None:
    scene.receive(GET)
    scene.recorder.sending(scene.machine.encode("12345"))
    scene.recorder.closed(scene)
    scene.recorder.sent(scene)
    assert scene.entries[0].aborted
    assert scene.answered() == [(b"GET / HTTP/1.1", 200, 0)]


def test_what_was_upgraded_has_its_line_at_the_end(scene: Scene) -> None:
    event = scene.receive(OPENING)
    assert isinstance(event, RequestStarted)
    scene.upgrade(event)
    scene.write(scene.machine.encode("hello"))
    assert scene.answered() == []
    scene.recorder.closed(scene)
    assert (scene.entries[0].received, scene.entries[0].protocol) == (len(OPENING), "websocket")
    assert scene.answered() == [(b"GET /chat HTTP/1.1", 101, scene.bytes_written)]


def test_a_websocket_keeps_the_head_that_was_refused() -> None:
    scene = Scene(WebSocketProtocol(1000))
    assert isinstance(scene.receive(GET), ProtocolError)
    scene.recorder.closed(scene)
    assert scene.answered() == [(b"GET / HTTP/1.1", 426, scene.bytes_written)]


@pytest.mark.parametrize("data", [b"GET /a", OPENING])
def test_a_handshake_without_an_answer(data: bytes) -> None:
    scene = Scene(WebSocketProtocol(1000))
    scene.receive(data)
    scene.machine.timed_out()
    scene.recorder.closed(scene)
    assert scene.answered() == [(data.partition(b"\r\n")[0], 499, 0)]


def test_bytes_have_a_line_without_a_status() -> None:
    scene = Scene(TcpProtocol(1000))
    scene.receive(b"ping")
    scene.write(b"HTTP/1.1 200 OK\r\n\r\n")
    scene.recorder.closed(scene)
    (entry,) = scene.entries
    assert (entry.head, entry.status, entry.sent, entry.received) == (b"", 0, 19, 4)


def moved(scene: Scene) -> Scene:
    """The same in another process."""
    state = pickle.dumps((scene.recorder.state(), scene.machine), pickle.HIGHEST_PROTOCOL)
    state, machine = pickle.loads(state)
    there = Scene(machine)
    there.recorder.restore(state)
    return there


def test_it_moves_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [5.0]
    monkeypatch.setattr("gworker.connection.access_recorder.monotonic", lambda: now[0])
    scene = Scene(Own(1000))
    scene.machine.greeting = "changed"
    scene.receive(GET[:10])
    there = moved(scene)
    now[0] = 7.0
    assert isinstance(there.receive(GET[10:]), Request)
    there.write(there.machine.encode(None))
    assert there.entries[0].seconds == 2.0
    assert there.answered() == [(b"GET / HTTP/1.1", 200, 7)]


def test_a_websocket_moves_with_the_head_of_its_handshake() -> None:
    scene = Scene(WebSocketProtocol(1000))
    assert isinstance(scene.receive(OPENING), Handshake)
    scene.machine.accept_handshake()
    scene.write(scene.machine.data_to_send())
    there = moved(scene)
    there.recorder.closed(there)
    assert there.answered() == [(b"GET /chat HTTP/1.1", 101, 0)]


def test_what_was_upgraded_moves_as_what_it_is(scene: Scene) -> None:
    scene.upgrade(scene.receive(OPENING))
    there = moved(scene)
    there.recorder.closed(there)
    assert there.answered() == [(b"GET /chat HTTP/1.1", 101, 0)]


def test_a_connection_that_has_switched_to_http_has_one_line_wherever_it_goes_on() -> None:
    scene = Scene(TcpProtocol(1000))
    scene.receive(b"ping")
    scene.machine = HttpProtocol(1000)
    scene.recorder.switched(scene.machine)
    for there in (moved(scene), scene):
        assert isinstance(there.receive(GET), Request)
        there.write(there.machine.encode("yes"))
        assert there.answered() == []
        there.recorder.closed(there)
        assert [status for _, status, _ in there.answered()] == [200]


def test_what_was_answered_before_a_switch_has_the_client_that_a_proxy_names(scene: Scene) -> None:
    proxied = GET[:-2] + b"X-Forwarded-For: 198.51.100.7\r\n\r\n"
    scene.origin = Origin(("192.0.2.1", 1), Trust("*"), "http")
    assert isinstance(scene.receive(proxied), Request)
    scene.write(scene.machine.encode("yes"), waits=True)
    scene.machine = WebSocketProtocol(1000)
    scene.recorder.switched(scene.machine)
    scene.take(scene.send_queue)
    assert [each.ip for each in scene.entries] == ["198.51.100.7"]


@pytest.mark.parametrize("protocol", [HttpProtocol, WebSocketProtocol, TcpProtocol])
def test_a_connection_is_no_other_one_with_an_access_log(protocol: Any) -> None:
    board = Scoreboard(1)
    context = ServerContext(Worker(name="w"), Limits(), board.row(board.take()), get_hub().loop)
    made = []
    for context.access in (None, SimpleNamespace(add=lambda entry: None, wants_answer=False)):  # type: ignore[assignment]
        near, far = _socket.socketpair()
        near.setblocking(False)
        connection = Connection(context, near, None, protocol)
        connection.observe()
        made.append(connection)
        far.close()
    plain, recorded = made
    assert type(plain) is type(recorded) is Connection
    assert (plain.observer is None, recorded.observer is None) == (True, False)
    assert not hasattr(recorded, "__dict__")
    assert not hasattr(recorded.observer, "__dict__")
    for connection in made:
        connection.destroy()
