"""Connections that were held up: something always goes on with them, and a retirement, a deadline
or a timeout knows."""

from __future__ import annotations

import _socket
import json
import socket as plain
import struct
import zlib

import gevent
from gevent import get_hub
from gevent.event import Event
from one_loop import another_service, declared, row, run, service, until

from gworker.app.limits import Limits
from gworker.connection.connection import Connection
from gworker.handover.receiver import HandoverReceiver
from gworker.handover.sender import HandoverSender
from gworker.protocols import get
from gworker.protocols.websocket.frames import masked_frame

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
REPLY = "y" * 30_000

peers = []


class Peer:
    """A connection of ours, its other end, and what our callbacks were told."""

    def __init__(self, protocol, handler=None, limits=None, **callbacks):
        owner = (
            service if limits is None else another_service(declared, limits, row, get_hub().loop)
        )
        near, self.far = plain.socketpair()
        near.setblocking(False)
        self.far.setblocking(False)
        self.told = []
        peers.append(self)
        ours = _socket.socket(fileno=near.detach())
        ours.setblocking(False)
        self.ours = Connection(owner, ours, ("127.0.0.1", 1), get(protocol))
        self.ours.set_callback("on_close", lambda c: self.told.append("close"))
        self.ours.set_callback("on_error", lambda *_: None)
        self.ours.set_callback("on_message", self.answer)
        for name, callback in callbacks.items():
            self.ours.set_callback(name, callback)
        get_hub().loop.run_callback(self.ours.open, handler)
        if protocol == "websocket":
            self.far.send(HANDSHAKE + (DEFLATE if handler else b"") + b"\r\n")
            until(self.read)

    def answer(self, connection, message):
        self.told.append(message)
        connection.send(REPLY)

    def read(self):
        try:
            return len(self.far.recv(65536))
        except BlockingIOError:
            return 0

    def take_until(self, condition):
        until(lambda: condition() or (self.read(), condition())[1])

    def fill(self, messages):
        """Answers fill the send buffer, until reading is held up behind them; then a part of them
        is taken."""
        self.far.send(messages)
        until(lambda: self.ours.parser_paused)
        self.take_until(lambda: self.ours.send_queue < self.ours.max_send_buffer_size)
        assert self.ours.parser_paused
        assert self.ours.send_queue


def with_peers(test):
    """The peers that a scenario has made go with it."""
    try:
        test()
    finally:
        while peers:
            peer = peers.pop()
            peer.far.close()
            until(lambda: "close" in peer.told)


def test_half_a_message_behind_answers_that_wait():
    peer = Peer("text")
    peer.fill(b"m\n" * 64)
    peer.far.send(b"la")
    gevent.sleep(0.02)
    peer.take_until(lambda: not peer.ours.send_queue)
    peer.far.send(b"st\n")
    until(lambda: peer.told[-1] == "last")
    peer.far.close()
    until(lambda: peer.told[-1] == "close")


def test_half_a_request_behind_an_answer_that_waits_is_under_its_deadline():
    peer = Peer(
        "http",
        limits=Limits(header_timeout=0.3),
        on_message=lambda c, request: (peer.told.append(request.path), c.send(b"x" * 3_000_000)),
    )
    peer.fill(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    peer.far.send(b"GET /second HTTP/1.1\r\nHo")
    gevent.sleep(0.02)
    peer.take_until(lambda: peer.told[-1] == "close")
    assert peer.told == ["/", "close"]
    assert not peer.ours.server_context.registry.connections
    peer.far.close()
    until(lambda: not peer.ours.server_context.lingerer.sockets)


def test_half_a_message_for_a_connection_handler():
    told = []

    def handler(connection):
        for message in connection:
            told.append(message)
            connection.send(REPLY)

    peer = Peer("text", handler)
    peer.fill(b"m\n" * 64)
    peer.far.send(b"la")
    gevent.sleep(0.02)
    peer.take_until(lambda: not peer.ours.send_queue)
    peer.far.send(b"st\n")
    until(lambda: told[-1] == "last")


def test_a_websocket_that_is_open_is_under_no_deadline():
    peer = Peer("websocket", limits=Limits(header_timeout=5))
    assert peer.ours not in peer.ours.server_context.timeouts.pending


def test_the_goodbye_of_a_websocket_that_is_closing_is_heard():
    peer = Peer("websocket")
    peer.fill(masked_frame(0x82, b"m", b"1234") * 64)
    peer.ours.close()
    last = masked_frame(0x82, b"m" * 100, b"1234")
    peer.far.send(last[:50])
    gevent.sleep(0.02)
    peer.take_until(lambda: not peer.ours.send_queue)
    peer.far.send(last[50:] + masked_frame(0x88, struct.pack(">H", 1000), b"1234"))
    until(lambda: peer.told[-1] == "close", 2)
    assert peer.ours.close_code == 1000


def test_a_send_buffer_that_was_made_smaller_meanwhile():
    def answer(connection, message):
        peer.told.append(message)
        if len(peer.told) == 1:
            connection.send("y" * 3_000_000)
        else:
            connection.max_send_buffer_size = 1000

    peer = Peer("text", on_message=answer)
    peer.ours.max_send_buffer_size = 10_000_000
    peer.far.send(b"m\n" * 66)
    until(lambda: peer.ours.parser_paused)
    peer.take_until(lambda: not peer.ours.send_queue)
    until(lambda: len(peer.told) == 66)


def test_drained_is_told_behind_any_number_of_errors():
    gate, told = Event(), []
    peer = Peer(
        "text",
        on_error=lambda *_: told.append("error"),
        on_buffer_drain=lambda c: told.append("drained"),
        on_message=lambda c, m: gate.wait(),
    )
    peer.far.send(b"m\n")
    until(lambda: peer.ours.event_job is not None)
    peer.ours.send("x" * 3_000_000)
    assert not any(peer.ours.send("x") for _ in range(500))
    peer.take_until(lambda: not peer.ours.send_queue)
    gate.set()
    until(lambda: "drained" in told)
    assert told.count("error") < 500


def compressed(size):
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return masked_frame(
        0xC2, (deflater.compress(b"a" * size) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4], b"1234"
    )


def inflated(handler):
    """A connection handler, and three messages of which each waits for its turn."""
    peer = Peer("websocket", handler)
    peer.far.send(compressed(400_000) * 3)
    return peer


def test_a_handler_whose_messages_wait_for_their_turn_is_not_idle():
    told, asked = [], []

    def handler(connection):
        told.extend(len(message) for message in connection)

    later = service.run_queue.add

    def spy(step):
        later(step)
        if not asked:
            service.loop.run_callback(lambda: asked.append(peer.ours.is_idle))
            asked.append("deferred")

    service.run_queue.add = spy
    try:
        peer = inflated(handler)
        until(
            lambda: (
                len(told) == 3
                or (peer.far.send(b"") is None and peer.ours.status == "closed")
                or len(asked) == 2
            )
        )
    finally:
        del service.run_queue.add
    assert asked == ["deferred", False]


def test_a_timeout_of_nothing_takes_what_is_here():
    told = []

    def handler(connection):
        told.append(len(connection.recv()))
        told.extend(len(connection.recv(0)) for _ in range(2))

    inflated(handler)
    until(lambda: told == [400_000] * 3)


def test_one_that_closes_in_a_handler_while_its_process_retires_is_not_held():
    gate = Event()

    def answer(connection, message):
        peer.told.append(message)
        gate.wait()
        connection.close()

    peer = Peer("websocket", on_message=answer)
    for payload in (b"1", b"2"):
        peer.far.send(masked_frame(0x82, payload, b"1234"))
        until(lambda: peer.told == [b"1"])
        gevent.sleep(0.01)
    near, far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    giver = HandoverSender(service, lambda: None)
    giver.give_to([near.detach()])
    far.send(json.dumps({"room": 10}).encode())
    gevent.sleep(0.02)
    service.holder = giver
    service.on_job_end = giver.offer
    gate.set()
    until(lambda: peer.ours.status == "closing")
    peer.far.send(masked_frame(0x88, struct.pack(">H", 1000), b"1234"))
    until(lambda: peer.told[-1] == "close", 2)
    assert peer.ours.close_code == 1000
    service.holder = service.on_job_end = None
    giver.close()
    far.close()


def test_a_successor_that_need_not_wait_for_more_accepts():
    owner = another_service(declared, Limits(max_connections=3), row, get_hub().loop)
    near, far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    HandoverReceiver(owner, near.detach(), 3)
    told = []
    owner.registry.on_closed.append(lambda: told.append(owner.registry.capacity_left))
    assert owner.registry.capacity_left == 0
    far.send(json.dumps({"idle": True}).encode())
    until(lambda: told)
    assert told == [3]
    far.close()
    until(lambda: not owner.receivers)


run(globals(), with_peers)
