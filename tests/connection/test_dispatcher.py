"""What a user's protocol lets escape costs its connection only, whenever it is asked; what is held
back is not late."""

from __future__ import annotations

import _socket
import gc
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import get_hub
from place import Place
from websocket_bytes import frame, handshake

from gworker.connection.connection import Connection
from gworker.errors import ProtocolError
from gworker.http import BadRequest
from gworker.logs.access_log import AccessLog
from gworker.protocols import EOF, NEED_DATA, Protocol
from gworker.protocols.websocket.options import Compression
from gworker.protocols.websocket.server import WebSocketProtocol


class Plain(Protocol):
    """Every read is a message."""

    name = "plain"
    data = b""
    ended = False
    waits: Any = ""

    def receive_data(self, data: bytes) -> None:
        self.data = data
        self.ended = self.ended or not data

    def next_event(self) -> Any:
        data, self.data = self.data, b""
        if data == b"bad":
            raise ProtocolError("bad", "a str")  # type: ignore[arg-type]
        return data or (EOF if self.ended else NEED_DATA)

    def waiting_for(self) -> Any:
        return self.waits


class Unready(Plain):
    def configure(self, options: Any) -> None:
        raise RuntimeError("configure")


class Unwilling(Plain):
    def waiting_for(self) -> Any:
        raise RuntimeError("waiting_for")


class Rude(Plain):
    def close(self, code: int = 1000, reason: str = "") -> bytes:
        raise RuntimeError("close")


class Wordy(Plain):
    waits = "header"

    def close(self, code: int = 1000, reason: str = "") -> Any:
        return "a str"

    def timed_out(self) -> Any:
        return "a str"


class Tired(Plain):
    def ping(self) -> bytes:
        raise RuntimeError("ping")


@pytest.fixture
def make() -> Iterator[Callable[..., Place]]:
    places: list[Place] = []

    def place(**limits: Any) -> Place:
        places.append(Place(**limits))
        return places[-1]

    yield place
    for each in places:
        for connection in list(each.service.registry.connections.values()):
            connection.destroy()
        for far in each.fars:
            far.close()
    gevent.sleep(0.01)


# --- what escapes


def test_configure(make):
    place = make()
    with pytest.raises(RuntimeError, match="configure"):
        place.connected(Unready)
    gc.collect()
    gevent.sleep(0.01)
    assert place.is_empty


@pytest.mark.parametrize("kind", ["on_message", "handler"])
def test_waiting_for_at_the_beginning(make, kind):
    place = make()

    def handle(connection: Any) -> None:
        place.told.append("handled")

    connection = place.connected(Unwilling, handle if kind == "handler" else None)
    assert connection.status == "closed"
    assert place.received() == b""
    place.until(lambda: len(place.told) == 2)
    assert place.told == ["connect", "close"]
    assert place.is_empty
    assert place.exceptions == 1


@pytest.mark.parametrize("protocol", [Rude, Wordy])
def test_close_at_half_close(make, protocol):
    place = make()
    connection = place.connected(protocol)
    place.fars[0].shutdown(_socket.SHUT_WR)
    place.until(lambda: place.told == ["connect", "close"])
    assert connection.status == "closed"
    assert place.received() == b""
    assert place.is_empty
    assert place.exceptions == 1


def test_an_error_whose_reply_is_no_bytes(make):
    place = make()
    place.connected(Plain)
    place.fars[0].send(b"bad")
    place.until(lambda: place.told == ["connect", "close"], 1)
    assert place.is_empty
    assert place.exceptions == 1
    with pytest.raises(TypeError, match="reply of a ProtocolError is bytes, not str"):
        ProtocolError("bad", "a str")  # type: ignore[arg-type]


def test_timed_out(make):
    place = make(header_timeout=0.05)
    one, two = place.connected(Wordy), place.connected(Wordy)
    place.until(lambda: place.is_empty, 2)
    assert one.status == two.status == "closed"
    assert place.exceptions == 2


def test_a_ping_that_raises_costs_no_other_its_ping(make):
    place = make(ping_interval=1)
    tired, other = place.connected(Tired), place.connected(Plain)
    pings = place.service.timeouts.pings
    for _ in range(3 * pings.polls):
        pings.poll()
    assert (tired.status, other.status) == ("closed", "established")
    assert place.exceptions == 1


def test_a_close_that_raises_costs_no_other_its_close(make):
    place = make(idle_timeout=0.2)
    place.service.timeouts.idle.start(keeps_alive=False)
    for protocol in (Rude, Plain, Rude, Plain):
        place.connected(protocol)
    place.until(lambda: place.is_empty, 3)
    assert place.exceptions == 2


# --- what is the peer's fault, and how it hears of it


def raising(error: Exception) -> Callable[..., Any]:
    def callback(*_: Any) -> None:
        raise error

    return callback


def bad() -> BadRequest:
    return BadRequest("wrong", 422)


def test_a_bad_request_in_a_websocket_is_no_http(make):
    place = make()
    place.worker.on_message = raising(bad())
    place.connected(WebSocketProtocol)
    place.fars[0].send(handshake())
    place.until(place.received)
    place.fars[0].send(frame(0x81, b"a"))
    answer = []
    place.until(lambda: answer.append(place.received()) or answer[-1])
    assert answer[-1] == b"\x88\x02" + (1011).to_bytes(2)
    assert place.exceptions == 1


def test_a_bad_request_before_a_websocket_is_open_is_http(make):
    place = make()
    place.worker.on_websocket_connect = raising(bad())
    place.connected(WebSocketProtocol)
    place.fars[0].send(handshake())
    answer = []
    place.until(lambda: answer.append(place.received()) or answer[-1])
    assert answer[-1].startswith(b"HTTP/1.1 422 ")
    assert place.exceptions == 0


def test_a_bad_request_where_there_are_no_requests(make):
    place = make()
    place.worker.on_message = raising(bad())
    place.connected(Plain)
    place.fars[0].send(b"x")
    place.until(lambda: "close" in place.told)
    assert place.received() == b""
    assert place.exceptions == 1


def test_a_violation_while_we_wait_for_the_goodbye_ends_the_wait(make):
    place = make(close_timeout=60)
    place.worker.on_message = lambda connection, message: connection.close()
    connection = place.connected(WebSocketProtocol)
    place.fars[0].send(handshake())
    place.until(place.received)
    place.fars[0].send(frame(0x81, b"a"))
    place.until(place.received)
    assert connection.status == "closing"
    place.fars[0].send(b"\xff" * 7)
    place.until(lambda: "close" in place.told, 2)


# --- what is held back by us


def test_a_header_is_not_late_while_its_connection_is_paused(make):
    place = make(header_timeout=0.3)
    place.worker.on_connect = lambda connection: connection.pause_recv()
    waiting = type("Waiting", (Plain,), {"waits": "header"})
    connection = place.connected(waiting)
    gevent.sleep(0.9)
    assert connection.status == "established"
    connection.resume_recv()
    gevent.sleep(0.2)
    assert connection.status == "established"
    place.until(lambda: connection.status == "closed", 2)


def test_the_time_for_which_it_was_paused_is_given_back(make):
    place = make(header_timeout=0.8)
    connection = place.connected(type("Waiting", (Plain,), {"waits": "header"}))
    connection.pause_recv()
    gevent.sleep(0.6)
    connection.resume_recv()
    left = place.service.timeouts.deadlines.save(connection)
    assert left is not None
    assert left > 0.7


def test_one_that_is_paused_is_not_idle(make):
    place = make(idle_timeout=0.3)
    place.service.timeouts.idle.start(keeps_alive=False)
    paused, silent = place.connected(Plain), place.connected(Plain)
    paused.pause_recv()
    place.until(lambda: silent.status == "closed", 3)
    gevent.sleep(0.3)
    assert paused.status == "established"
    paused.resume_recv()
    place.until(lambda: paused.status == "closed", 3)


def test_a_deadline_that_passes_while_it_is_leaving_holds_when_it_stays(make):
    place = make(header_timeout=0.1)
    connection = place.connected(type("Waiting", (Plain,), {"waits": "header"}))
    connection.suspend()
    gevent.sleep(0.6)
    assert not place.service.timeouts.deadlines.due
    connection.resume()
    place.until(lambda: connection.status == "closed", 2)


# --- messages that become large


def compressing(limit: int) -> WebSocketProtocol:
    protocol = WebSocketProtocol(limit)
    protocol.configure({"compression": Compression()})
    return protocol


def bombs(count: int, size: int) -> bytes:
    compressor = zlib.compressobj(9, wbits=-15)
    return (
        frame(0xC2, (compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4])
        * count
    )


def bytes_waiting(connection: Connection) -> int:
    job = connection.event_job
    return 0 if job is None else sum(len(each) for each in job.events if isinstance(each, bytes))


@pytest.mark.parametrize("kind", ["on_message", "handler"])
def test_one_large_message_is_inflated_ahead_and_in_a_turn(make, kind):
    place = make()
    size, waiting = 1_000_000, []
    turns: list[int] = []

    def on_message(connection: Connection, message: Any) -> None:
        place.told.append(len(message))
        turns.append(turn[0])
        waiting.append(bytes_waiting(connection))
        if len(place.told) == 1:
            gevent.sleep(0.1)
            waiting.append(bytes_waiting(connection))

    def handler(connection: Any) -> None:
        for message in connection:
            on_message(connection, message)

    turn = [0]
    ticker = get_hub().loop.prepare()
    ticker.start(lambda: turn.__setitem__(0, turn[0] + 1))
    place.worker.on_connect = None
    place.worker.on_message = on_message
    connection = place.connected(compressing, handler if kind == "handler" else None)
    place.fars[0].send(handshake(Sec_WebSocket_Extensions="permessage-deflate"))
    place.until(place.received)
    block = bombs(20, size)
    place.fars[0].send(block[:-5])
    gevent.sleep(0.05)
    place.fars[0].send(block[-5:])
    place.until(lambda: len(place.told) == 20)
    ticker.stop()
    ticker.close()
    assert place.told == [size] * 20
    assert max(waiting) <= size
    assert len(set(turns)) > 15
    place.fars[0].send(frame(0x82, b"x"))
    place.until(lambda: place.told[-1] == 1)
    assert connection.status == "established"


def test_the_goodbye_behind_large_messages_is_heard(make):
    place = make(close_timeout=60)
    place.worker.on_message = lambda connection, message: connection.close()
    place.connected(compressing)
    place.fars[0].send(handshake(Sec_WebSocket_Extensions="permessage-deflate"))
    place.until(place.received)
    place.fars[0].send(bombs(3, 1_000_000) + frame(0x88, b""))
    place.until(lambda: "close" in place.told, 3)


class Farewelled(Plain):
    """Has a name of its own where the access log looks for what a WebSocket has said."""

    farewell = b"bye"


def test_on_close_is_called_whatever_the_access_log_finds_in_a_protocol(
    make: Callable[..., Place], tmp_path: Path
) -> None:
    scene = make()
    descriptor = os.open(tmp_path / "access.log", os.O_WRONLY | os.O_CREAT)
    scene.service.access = AccessLog(descriptor, get_hub().loop, "w", "text")
    connection = scene.connected(Farewelled)
    get_hub().loop.run_callback(connection.destroy)
    scene.until(lambda: "close" in scene.told)
    assert scene.told.count("close") == 1
    assert scene.exceptions == 1
    assert scene.is_empty
    scene.service.access.close()
