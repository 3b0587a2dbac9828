"""Dialled connections that are closed, and dialled again, within their own callbacks."""

from __future__ import annotations

import _socket
import select
import socket as plain

import gevent
from gevent import get_hub
from one_loop import Server, accept_websocket, heard, row, run, service, story, until

from gworker import ErrorCode
from gworker.connection.connection import Connection
from gworker.ipc.scoreboard import Column
from gworker.protocols import get

RESET = b"\1\0\0\0\0\0\0\0"


def reset(peer):
    peer.setsockopt(plain.SOL_SOCKET, plain.SO_LINGER, RESET)
    peer.close()


def in_the_hub(function, *arguments):
    get_hub().loop.run_callback(function, *arguments)


def udp_server():
    server = plain.socket(type=plain.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.setblocking(False)
    return server, f"udp://127.0.0.1:{server.getsockname()[1]}"


def open_udp(**options):
    """A client that its server knows; nothing is at the port any more if the server closes."""
    server, url = udp_server()
    connection, told = story(url, **options)
    connection.send("hello")
    until(lambda: connection.bytes_written and select.select([server], [], [], 0)[0])
    return connection, told, server, server.recvfrom(100)[1]


def test_a_udp_client_that_is_closed_in_on_error_is_not_read_on():
    connection, told, server, _ = open_udp()
    connection.on_error = lambda c, code, message: (told.append(message), c.close())
    server.close()
    connection.send("x")
    until(lambda: "close" in told)
    gevent.sleep(0.02)
    assert told == ["connect", "Connection refused", "close"], told


def test_a_udp_client_that_is_dialled_again_in_on_error_begins_anew():
    connection, told, server, _ = open_udp()

    def again(c, code, message):
        told.append(message)
        c.destroy()
        c.reconnect(3600)

    connection.on_error = again
    server.close()
    connection.send("x")
    until(lambda: "close" in told)
    gevent.sleep(0.02)
    assert told == ["connect", "Connection refused", "close"], told
    assert connection.status == "connecting"


def test_a_udp_client_that_is_dialled_again_while_it_sends_what_it_has_kept():
    server, url = udp_server()
    connection, told = story(url)

    def again(c, code, message):
        told.append(message)
        c.destroy()
        c.reconnect()
        c.send("new")

    connection.on_error = again
    connection.send(b"x" * 65508)
    connection.send("old")
    until(lambda: "connect" in told)
    assert told == ["Message too long", "close", "connect"], told
    until(lambda: select.select([server], [], [], 0)[0])
    assert server.recv(100) == b"new"


def test_empty_datagrams_that_wait_for_a_handler_are_bounded():
    connection, told, server, back = open_udp()
    go = gevent.event.Event()
    connection.on_message = lambda c, m: (told.append(m), go.wait())
    for _ in range(150):
        server.sendto(b"", back)
    until(lambda: b"" in told)
    gevent.sleep(0.05)
    waiting = [] if connection.event_job is None else connection.event_job.events
    assert len(waiting) <= 64, len(waiting)
    go.set()
    until(lambda: told.count(b"") == 150)
    server.sendto(b"later", back)
    until(lambda: told[-1] == b"later")


def gone(connection, peer, told):
    """The server has reset it, and that was not read yet: the next send finds out."""
    connection.pause_recv()
    reset(peer)
    gevent.sleep(0.02)


def test_dialled_again_in_the_on_error_of_a_send_by_its_own_handler():
    server = Server()
    connection, told = story(server.url)

    def again(c, code, message):
        told.append((int(code), message, c.status))
        c.destroy()
        c.reconnect()
        c.send("kept")

    connection.on_error = again

    def answer(c, message):
        gone(c, peer, told)
        assert c.send("x") is False
        told.append("sent")

    connection.on_message = answer
    peer = server.accept()
    peer.send(b"hi\n")
    until(lambda: told.count("connect") == 2)
    assert told == ["connect", (2, "client closed", "closed"), "sent", "close", "connect"], told
    assert heard(server.accept(), 5) == b"kept\n"


def test_dialled_again_in_the_on_error_of_a_send_by_another_greenlet():
    server = Server()
    connection, told = story(server.url)

    def again(c, code, message):
        told.append((int(code), message, c.status))
        c.reconnect()

    connection.on_error = again
    peer = server.accept()
    until(lambda: told)
    gone(connection, peer, told)
    in_the_hub(connection.send, "x")
    until(lambda: told.count("connect") == 2)
    assert told == ["connect", (2, "client closed", "closed"), "close", "connect"], told


def test_a_large_message_to_a_peer_that_is_gone():
    server = Server()
    connection, told = story(server.url.replace("text", "frame"))
    connection.on_error = lambda c, code, message: (told.append(message), c.reconnect())
    peer = server.accept()
    until(lambda: told)
    gone(connection, peer, told)
    in_the_hub(connection.send, b"x" * 20_000)
    until(lambda: told.count("connect") == 2)
    assert told == ["connect", "client closed", "close", "connect"], told


def test_an_accepted_connection_whose_peer_is_gone_tells_in_order_and_once():
    """In its own handler at once, else in its turn; on_close after on_error."""
    told = []
    for by_itself in (True, False):
        ours, theirs = _socket.socketpair()
        ours.setblocking(False)
        connection = Connection(service, ours, None, get("text"))
        connection.on_error = lambda c, code, message: told.append((message, c.status))
        connection.on_close = lambda c: told.append("close")
        connection.on_message = lambda c, m: (theirs.close(), told.append(c.send("x")))
        connection.open()
        if by_itself:
            theirs.send(b"hi\n")
        else:
            theirs.close()
            connection.pause_recv()
            in_the_hub(lambda: told.append(connection.send("x")))
        until(lambda: "close" in told)
        gevent.sleep(0.01)
        error, refused = ("client closed", "closed"), False
        assert told == ([error, refused, "close"] if by_itself else [error, "close", refused]), told
        told.clear()


def test_an_on_error_that_waits_is_not_thrown_into_by_the_answer_in_pieces_that_it_is_called_in():
    from gworker.http import Response

    ours, theirs = _socket.socketpair()
    ours.setblocking(False)
    connection, told = Connection(service, ours, None, get("http")), []

    def parts():
        try:
            yield b"one"
            theirs.close()
            yield b"two"
            told.append("went on")
        finally:
            told.append("ended")

    def wait(c, code, message):
        gevent.sleep(0.02)
        told.append((message, c.status))

    connection.on_message = lambda c, request: c.send(Response.stream(parts()))
    connection.on_error = wait
    connection.on_close = lambda c: told.append("close")
    before = row[Column.EXCEPTIONS]
    connection.open()
    theirs.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: "close" in told)
    assert told == [("client closed", "closed"), "ended", "close"], told
    assert row[Column.EXCEPTIONS] == before


def test_dialled_again_when_its_goodbye_fills_the_buffer():
    server = Server()
    connection, told = story(
        server.url.replace("text", "ws"), compression=False, max_send_buffer_size=1 << 20
    )
    peer = accept_websocket(server)
    until(lambda: told)

    def again(c):
        told.append("full")
        c.destroy()
        c.reconnect(3600)

    connection.on_buffer_full = again

    def leave(c, message):
        while not c.send_queue:
            c.send("x" * 65536)
        c.max_send_buffer_size = c.send_queue + 1
        c.close()
        told.append(c.status)

    connection.on_message = leave
    peer.send(b"\x81\2hi")
    until(lambda: "close" in told)
    assert told == ["connect", "full", "connecting", "close"], told
    assert connection.id in service.registry.dialled
    assert connection.status == "connecting"


def test_a_websocket_that_is_reset_while_it_asks_has_not_connected():
    server = Server()
    connection, told = story(server.url.replace("text", "ws"))
    deliver, kind = type(connection).post, type(connection)

    def reset_first(self, event):
        if event.name == "DIALLED":
            reset(server.accept())
            gevent.sleep(0.02)
        deliver(self, event)

    kind.post = reset_first
    try:
        until(lambda: "close" in told)
    finally:
        del kind.post
    assert told[0][0] == ErrorCode.CONNECT_FAIL and told[0][1].endswith(
        "reset during the handshake"
    ), told
    assert told[1:] == ["close"] and connection.connector.failures == 1, told


def slow_to_close(server, scheme, accept):
    connection, told = story(server.url.replace("text", scheme), timeout=0.15)

    def again(c):
        told.append("close")
        if told.count("close") == 1:
            c.reconnect()
            gevent.sleep(0.3)
            told.append("slept")

    connection.on_close = again
    peer = accept(server)
    until(lambda: told)
    reset(peer)
    until(lambda: len(told) > 3)
    return told


def test_an_on_close_that_takes_longer_than_the_deadline():
    """What was dialled meanwhile waits for its turn."""
    told = slow_to_close(Server(), "text", Server.accept)
    assert told == ["connect", "close", "slept", "connect"], told


def test_the_handshake_after_such_an_on_close_has_a_deadline():
    told = slow_to_close(Server(), "ws", accept_websocket)
    assert told[:3] == ["connect", "close", "slept"], told
    assert told[3][0] == ErrorCode.CONNECT_FAIL and "the protocol's handshake" in told[3][1], told


def test_drain_does_not_wait_for_the_callback_that_it_is_called_in():
    server = Server()
    connection, told = story(server.url)

    def again(c):
        c.reconnect()
        c.send("kept")
        told.append(c.drain())

    connection.on_close = again
    peer = server.accept()
    until(lambda: told)  # a reset that comes earlier would be a failure to connect
    reset(peer)
    until(lambda: told.count("connect") == 2)
    assert told == ["connect", False, "connect"], told
    assert heard(server.accept(), 5) == b"kept\n"


def test_the_largest_message_is_of_the_connection():
    server = Server()
    connection, told = story(server.url)
    peer = server.accept()
    until(lambda: told)
    connection.max_package_size = 10
    connection.destroy()
    until(lambda: "close" in told)
    connection.reconnect()
    assert connection.max_package_size == 10
    peer = server.accept()
    peer.send(b"0123456789\n01234567890\n")
    until(lambda: told.count("close") == 2)
    assert told == ["connect", "close", "connect", "0123456789", "close"], told


def test_the_largest_message_of_a_datagram():
    server, url = udp_server()
    connection, told = story(url.replace("udp", "text"), transport="udp")
    connection.max_package_size = 3
    connection.send("hello")
    until(lambda: select.select([server], [], [], 0)[0])
    back = server.recvfrom(100)[1]
    for data in (b"1234\n", b"123\n"):
        server.sendto(data, back)
    until(lambda: told == ["connect", "123"])


run(globals())
