"""Dialled connections in one event loop with their servers: every order of events, and what is left
behind."""

from __future__ import annotations

import _socket
import os
import select
import socket as plain

import gevent
from gevent import get_hub
from one_loop import (
    Server,
    accept_websocket,
    black_hole,
    descriptors,
    heard,
    refused_url,
    row,
    run,
    service,
    story,
    until,
    wrong,
)
from scenario_process import raises

from gworker import ErrorCode, connect
from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.client.connection import close_all
from gworker.client.connector import backoff
from gworker.connection.connection import Connection
from gworker.connection.transport import LARGE_READ_SIZE
from gworker.ipc.scoreboard import Column
from gworker.protocols import get


def test_nothing_happens_before_the_caller_waits():
    server = Server()
    connection, told = story(server.url)
    assert connection.status == "connecting"
    assert connection.local_address == ""
    assert connection.bytes_read == 0
    assert connection.peer_credentials is None
    assert connection.tls is None
    assert not connection.accepts_unsolicited
    assert connection.transport == "tcp"
    assert connection.protocol == "text"
    assert connection.remote_address == server.url[7:]
    connection.on_connect = lambda c: told.append("assigned later")
    until(lambda: told)
    assert told == ["assigned later"]
    assert connection.accepts_unsolicited
    assert connection.id in service.registry.dialled
    assert not service.registry.connections
    assert row[Column.CONNECTIONS] == 0


def test_a_thread_is_no_place_to_dial_from():
    with raises(RuntimeError, "thread of the event loop"):
        get_hub().threadpool.apply(connect, (Server().url,))
    wrong.clear()  # the pool tells the hub of it, too


def test_without_descriptors_it_fails_in_words():
    import resource

    server, limits = Server(), resource.getrlimit(resource.RLIMIT_NOFILE)
    story(server.url)  # the resolver has what it needs
    server.accept()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    _connection, told = story(server.url)
    try:
        until(lambda: "close" in told)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert told[0][0] == ErrorCode.CONNECT_FAIL and "Too many open files" in told[0][1], told


def test_drain_waits_until_it_is_open_and_sent():
    server = Server()
    connection, _told = story(server.url)
    connection.send("x" * 100)
    drained = gevent.spawn(connection.drain)
    gevent.sleep(0)
    assert not drained.ready()
    peer = server.accept()
    assert heard(peer, 101) == b"x" * 100 + b"\n"
    until(drained.ready)
    assert drained.value is True
    assert connection.bytes_written == 101


def test_drain_ends_with_the_connection():
    hole = black_hole()
    before = descriptors()
    connection, told = story(hole.url)
    drained = gevent.spawn(connection.drain)
    until(lambda: len(descriptors()) == len(before) + 1)
    assert connection.drain(0.01) is False
    connection.destroy()
    until(drained.ready)
    until(lambda: descriptors() == before, 0.5)
    assert drained.value is False
    assert told == ["close"]


def test_full_before_it_is_open_and_drained_after():
    server = Server()
    connection, told = story(server.url, max_send_buffer_size=100)
    assert connection.send("a" * 60)
    assert connection.send("b" * 60)
    assert not connection.send("c")
    assert connection.send_queue == 122
    peer = server.accept()
    assert heard(peer, 122) == b"a" * 60 + b"\n" + b"b" * 60 + b"\n"
    until(lambda: "connect" in told)
    assert told == ["full", (2, "send buffer full and drop package"), "drained", "connect"], told
    assert connection.send("d")
    assert connection.send_queue == 0


def test_full_with_more_than_the_kernel_takes():
    server = Server()
    connection, told = story(server.url, max_send_buffer_size=1 << 24)
    for _ in range(16):
        assert connection.send("x" * (1 << 20))
    peer = server.accept()
    until(lambda: "connect" in told)
    assert told == ["full", "connect"], told
    assert connection.send_queue > 0
    heard(peer, 16 * ((1 << 20) + 1))
    until(lambda: "drained" in told)


def test_what_it_cannot_carry_is_refused_at_once():
    for url in (Server().url, Server().url.replace("text", "ws")):
        connection, _told = story(url)
        for bad in (5, ("x",), None):
            with raises(TypeError):
                connection.send(bad)
        connection.destroy()


def test_a_bytearray_is_its_owners():
    server = Server()
    connection, _told = story(server.url.replace("text", "tcp"))
    data = bytearray(b"before")
    connection.send(data)
    data[:] = b"after!"
    assert heard(server.accept(), 6) == b"before"


def test_a_failure_without_a_callback_is_logged():
    import logging

    heard_of = []
    handler = logging.Handler()
    handler.emit = lambda record: heard_of.append(record.getMessage())
    logging.getLogger("gworker").addHandler(handler)
    logging.getLogger("gworker").setLevel("INFO")
    _holder, url = refused_url()
    _connection, told = story(url, on_error=None)
    until(lambda: told == ["close"])
    logging.getLogger("gworker").removeHandler(handler)
    assert heard_of == [f"cannot connect to {url}: {url[7:]}: Connection refused"], heard_of


def test_reconnect_in_both_callbacks_dials_once():
    _holder, url = refused_url()
    dialled = []
    connection, _told = story(url)

    def again(c, *_):
        dialled.append(c.status)
        c.reconnect(3600)

    connection.on_error = connection.on_close = again
    until(lambda: len(dialled) == 2)
    assert dialled[0] == "closed"
    assert connection.status == "connecting"
    gevent.sleep(0.01)
    connection.close()
    gevent.sleep(0.01)
    assert len(dialled) == 2 and connection.status == "closed", (
        "what only waits has no end of its own"
    )
    assert connection.id not in service.registry.dialled


def test_reconnect_again_replaces_the_wait():
    server = Server()
    connection, told = story(server.url)
    first = server.accept()
    first.close()
    until(lambda: "close" in told)
    connection.reconnect(3600)
    connection.reconnect(0)
    _second = server.accept()
    until(lambda: told == ["connect", "close", "connect"])


def test_what_was_left_over_is_not_of_the_new_connection():
    """The handler still runs while the connection is closed and dialled again."""
    server = Server()
    connection, told = story(server.url)
    go = gevent.event.Event()

    def slow(c, message):
        told.append(message)
        go.wait()

    connection.on_message = slow
    peer = server.accept()
    peer.send(b"one\ntwo\n")
    until(lambda: "one" in told)
    connection.destroy()
    connection.reconnect()
    connection.send("kept")
    again = server.accept()
    again.send(b"three\n")
    gevent.sleep(0.02)
    assert told == ["connect", "one"], told
    go.set()
    until(lambda: "three" in told)
    assert told == ["connect", "one", "close", "connect", "three"], told
    assert heard(again, 5) == b"kept\n"


def test_a_lost_connection_of_before_does_not_close_the_new_one():
    server = Server()
    connection, told = story(server.url)
    go = gevent.event.Event()
    connection.on_message = lambda c, m: (told.append(m), go.wait())
    peer = server.accept()
    peer.send(b"one\n")
    until(lambda: "one" in told)
    peer.setsockopt(plain.SOL_SOCKET, plain.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    gevent.sleep(0.02)
    connection.destroy()
    connection.reconnect()
    go.set()
    _again = server.accept()
    until(lambda: told.count("connect") == 2)
    assert told == ["connect", "one", "close", "connect"] and connection.status == "established", (
        told
    )


def test_a_socket_that_comes_too_late_is_closed():
    """Two attempts end while the handler runs: the first was given up."""
    server = Server()
    connection, told = story(server.url)
    go = gevent.event.Event()
    connection.on_message = lambda c, m: (told.append(m), go.wait())
    first = server.accept()
    first.send(b"one\n")
    until(lambda: "one" in told)
    peers = []
    for _ in range(2):
        connection.destroy()
        connection.reconnect()
        peers.append(server.accept())
        gevent.sleep(0.02)
    go.set()
    until(lambda: told.count("connect") == 2)
    peers[1].send(b"two\n")
    until(lambda: "two" in told)
    assert peers[0].recv(10) == b""
    assert told == ["connect", "one", "close", "close", "connect", "two"], told


def test_a_socket_that_waits_for_its_turn_when_it_is_given_up_is_closed():
    """destroy and reconnect while what was dialled waits in the job already."""
    from gworker.client.connector import Dialled

    server = Server()
    connection, told = story(server.url)
    kind, given_up = type(connection), []
    deliver = kind.post

    def give_up(self, event):
        deliver(self, event)
        if isinstance(event, Dialled) and not given_up:
            given_up.append(True)
            connection.destroy()
            connection.reconnect(3600)

    kind.post = give_up
    try:
        peer = server.accept()
        until(lambda: given_up)
        gevent.sleep(0.02)
    finally:
        del kind.post
    assert told == ["close"] and connection.status == "connecting", told
    assert peer.recv(10) == b""
    connection.reconnect(0)
    again = server.accept()
    until(lambda: told == ["close", "connect"])
    again.send(b"hi\n")
    until(lambda: told == ["close", "connect", "hi"])


def test_what_cannot_be_encoded_is_refused_at_once_and_drain_ends():
    server = Server()
    connection, _told = story(server.url.replace("text", "ws"), compression=False)
    with raises(ValueError):
        connection.send("\udc80")

    def cannot(message):
        raise RuntimeError("cannot encode")

    connection.send("kept")
    drained = gevent.spawn(connection.drain)
    gevent.sleep(0)
    machine = type(connection.protocol_machine)
    connection.protocol_machine.__class__ = type(
        "Broken", (machine,), {"__slots__": (), "encode": staticmethod(cannot)}
    )
    accept_websocket(server)
    until(drained.ready, 2)


def test_a_peer_that_resets_right_after_connecting_is_a_failure_in_words():
    from gworker.client import dialer as dialling

    whole = dialling.dial_host

    def dial_and_be_reset(*arguments):
        made = whole(*arguments)
        peer = server.accept()
        peer.setsockopt(plain.SOL_SOCKET, plain.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        until(lambda: select.select([made], [], [], 0)[0])
        return made

    server = Server()
    dialling.dial_host = dial_and_be_reset
    try:
        _connection, told = story(server.url)
        until(lambda: len(told) == 2)
    finally:
        dialling.dial_host = whole
    assert told[0][0] == ErrorCode.CONNECT_FAIL
    assert told[1] == "close"
    assert told[0][1].startswith(
        f"cannot connect to {server.url}: the peer has closed the connection at once: "
    ), told


def test_socks_tries_the_next_address_if_the_proxy_does_not_reach_the_first():
    from gworker.client import dialer as dialling

    found = [(10, ("2001:db8::1", 5, 0, 0)), (2, ("192.0.2.1", 5)), (2, ("192.0.2.2", 5))]
    whole, dialling.resolve = dialling.resolve, lambda *_: found
    proxy = Server()

    def answer(peer, reply):
        assert heard(peer, 3) == b"\5\1\0"
        peer.send(b"\5\0")
        asked = heard(peer, 10)
        peer.send(bytes([5, reply, 0, 1]) + bytes(6))
        return asked

    try:
        _connection, told = story("text://h.test:5", proxy=f"socks5://127.0.0.1:{proxy.port}")
        assert answer(proxy.accept(), 3)[:4] == b"\5\1\0\4"
        third = proxy.accept()
        assert answer(third, 0) == b"\5\1\0\1\xc0\0\2\1\0\5"
        until(lambda: told == ["connect"])
        _connection, told = story("text://h.test:5", proxy=f"socks5://127.0.0.1:{proxy.port}")
        answer(proxy.accept(), 4)
        answer(proxy.accept(), 2)
        until(lambda: len(told) == 2)
        assert "[2001:db8::1]:5" in told[0][1] and told[0][1].endswith(
            "not allowed by its rules"
        ), told
    finally:
        dialling.resolve = whole


def test_a_websocket_that_is_paused_shakes_hands():
    """What comes with the answer to the handshake is read, and waits like everything else."""
    server = Server()
    connection, told = story(server.url.replace("text", "ws"), compression=False)
    connection.pause_recv()
    peer = accept_websocket(server)
    until(lambda: told == ["connect"])
    assert connection.response.status == 101
    peer.send(b"\x81\2hi")
    gevent.sleep(0.05)
    assert told == ["connect"]
    connection.resume_recv()
    until(lambda: told == ["connect", "hi"])


def test_dialled_sockets_are_tuned_as_accepted_ones():
    server = Server()
    connection, told = story(server.url)
    until(lambda: told == ["connect"])
    socket = plain.socket(fileno=os.dup(connection.fileno()))
    assert socket.getsockopt(plain.IPPROTO_TCP, plain.TCP_NODELAY) == 1
    assert socket.getsockopt(plain.SOL_SOCKET, plain.SO_KEEPALIVE) == 1
    assert socket.getsockopt(plain.IPPROTO_TCP, plain.TCP_KEEPIDLE) == 55
    socket.close()


def test_dialled_websockets_are_pinged():
    """One that does not answer is given up; one that was dialled anew meanwhile is not meant."""
    from gworker.connection.ping import PingTimer

    now = [0.0]
    limits = Limits(ping_interval=0.1, ping_timeout=5)
    pings = PingTimer(
        service.loop, limits, service.registry.all, service.isolate_errors, lambda: now[0]
    )

    def ask():
        for _ in range(pings.polls):
            pings.poll()

    server = Server()
    connection, told = story(server.url.replace("text", "ws"), compression=False)
    ask()
    peer = accept_websocket(server)
    until(lambda: told == ["connect"])
    ask()
    assert heard(peer, 6)[:2] == b"\x89\x80"
    now[0] = 4.0
    connection.destroy()
    connection.reconnect()
    again = accept_websocket(server)
    until(lambda: told == ["connect", "close", "connect"])
    ask()
    assert heard(again, 6)[:2] == b"\x89\x80"
    now[0] = 6.0
    pings.poll()
    assert connection.status == "established"
    now[0] = 10.0
    pings.poll()
    assert connection.status != "established"


def test_paused_before_it_is_open():
    server = Server()
    connection, told = story(server.url)
    connection.pause_recv()
    peer = server.accept()
    peer.send(b"held\n")
    until(lambda: told == ["connect"])
    gevent.sleep(0.02)
    assert told == ["connect"]
    connection.resume_recv()
    until(lambda: told == ["connect", "held"])


def test_closing_in_on_connect():
    server = Server()
    connection, told = story(server.url)
    connection.on_connect = lambda c: c.close("bye")
    peer = server.accept()
    assert heard(peer, 4) == b"bye\n"
    until(lambda: told == ["close"])


def test_an_exception_in_on_connect_costs_the_connection():
    server = Server()
    before = row[Column.EXCEPTIONS]
    _connection, told = story(server.url, on_connect=lambda c: 1 / 0)
    until(lambda: told == ["close"])
    assert row[Column.EXCEPTIONS] == before + 1


def test_the_deadline_is_for_opening_only():
    server = Server()
    connection, told = story(server.url, timeout=0.1)
    until(lambda: told == ["connect"])
    gevent.sleep(0.3)
    assert connection.status == "established"


def test_a_deadline_while_it_is_being_dialled_again():
    hole = black_hole()
    connection, told = story(hole.url, timeout=0.05)
    until(lambda: "close" in told)
    connection.reconnect()
    until(lambda: told.count("close") == 2)
    assert [each if each == "close" else each[0] for each in told] == [1, "close", 1, "close"]


def test_a_pipe_to_what_is_being_dialled_holds_the_source():
    """Bounded while it is dialled; everything arrives when it is open; the source is closed when it
    is not."""
    hole = black_hole()
    ours, theirs = _socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    source = Connection(service, ours, None, get("tcp"))
    source.open()
    upstream, _told = story(hole.url.replace("text", "tcp"), max_send_buffer_size=100_000)
    source.pipe(upstream)
    sent, idle = 0, 0
    while idle < 20:
        try:
            sent += theirs.send(b"x" * 65536)
            idle = 0
        except BlockingIOError:
            idle += 1
            gevent.sleep(0.005)
    kernel = theirs.getsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF)
    assert 100_000 <= upstream.send_queue <= 100_000 + LARGE_READ_SIZE, upstream.send_queue
    assert sent < 100_000 + 262144 + 2 * LARGE_READ_SIZE + 2 * kernel, sent
    upstream.destroy()
    until(lambda: source.status == "closed")
    assert not service.registry.connections


def test_a_protocol_that_encodes_to_no_bytes_is_named():
    class Words(get("tcp")):
        def encode(self, message):
            return message.upper()

    ours, theirs = _socket.socketpair()
    ours.setblocking(False)
    connection = Connection(service, ours, None, Words)
    connection.open()
    try:
        connection.send("hello")
    except TypeError as error:
        assert str(error).endswith("Words.encode() must return bytes, not str"), error
    else:
        raise AssertionError("nothing was raised")
    assert connection.send(b"hello")
    assert theirs.recv(10) == b"HELLO"
    connection.destroy()


def test_a_pipe_loses_nothing_by_another_source():
    server = Server()
    upstream, told = story(server.url.replace("text", "tcp"), max_send_buffer_size=50_000)
    ends = []
    for _ in range(3):
        ours, theirs = _socket.socketpair()
        ours.setblocking(False)
        source = Connection(service, ours, None, get("tcp"))
        source.open()
        source.pipe(upstream)
        ends.append(theirs)
    size = 2_000_000
    pool = gevent.get_hub().threadpool
    _writers = [
        pool.spawn(end.sendall, bytes([65 + number]) * size) for number, end in enumerate(ends)
    ]
    peer = server.accept()
    gevent.sleep(0.1)
    data = heard(peer, 3 * size)
    assert [data.count(bytes([65 + number])) for number in range(3)] == [size] * 3
    assert not any(isinstance(each, tuple) for each in told), told


def test_datagrams_have_a_protocol_each():
    """What is cut short in one is not continued by the next; an empty one is a message; each send
    is one."""
    server = plain.socket(type=plain.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.setblocking(False)
    connection, told = story(f"text://127.0.0.1:{server.getsockname()[1]}", transport="udp")
    connection.send("early")
    connection.send("too")
    until(lambda: told == ["connect"])
    connection.send("late")
    until(lambda: connection.bytes_written == 15)
    received = [server.recvfrom(100) for _ in range(3)]
    assert [data for data, _ in received] == [b"early\n", b"too\n", b"late\n"]
    back = received[0][1]
    for data in (b"a\nb\ncut", b"", b"c\n", b"\xff\n", b"d\n" * 100):
        server.sendto(data, back)
    until(lambda: told.count("d") == 100)
    assert told[:5] == ["connect", "a", "b", b"", "c"] and len(told) == 105, told
    server.close()
    assert connection.send("x")
    until(lambda: told[-1] == (2, "Connection refused"))
    assert connection.status == "established"
    connection.close("bye")
    until(lambda: told[-1] == "close")


def test_lockstep_loses_nothing_of_a_datagram():
    """Dialled, and accepted."""
    from types import SimpleNamespace

    from gworker.protocols.lockstep import lockstep
    from gworker.server.udp import Datagram

    server = plain.socket(type=plain.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.setblocking(False)
    connection, told = story(
        f"text://127.0.0.1:{server.getsockname()[1]}", transport="udp", lockstep=True
    )
    connection.send("hello")
    until(lambda: connection.bytes_written)
    server.sendto(b"a\nb\nc\n", server.recvfrom(100)[1])
    until(lambda: len(told) == 4)
    assert told == ["connect", "a", "b", "c"], told
    server.close()
    got = []
    other = Worker(name="other", on_message=lambda c, m: got.append(m))
    row_and_id = SimpleNamespace(
        row=row,
        worker=other,
        limits=Limits(),
        requests=0,
        registry=SimpleNamespace(next_id=lambda: 1),
        intercepted=lambda _name, callback, *arguments: callback(*arguments),
    )
    listener = SimpleNamespace(server=row_and_id, finished=lambda: got.append("finished"))
    Datagram(lockstep(get("text")), listener, b"a\nb\nc\n", ("127.0.0.1", 1), None).run(None)
    assert got == ["a", "b", "c", "finished"], got


def test_switching():
    server = Server()
    connection, told = story(server.url, lockstep=True)

    def receive(c, message):
        told.append(message)
        if message == "FRAMES":
            c.switch("frame")
            c.send("go")

    connection.on_message = receive
    with raises(ValueError, "server's end"):
        connection.switch("http")
    peer = server.accept()
    peer.send(b"one\nFRAMES\n\0\0\0\7two\0\0\0\4")
    until(lambda: told == ["connect", "one", "FRAMES", b"two", b""])
    assert heard(peer, 6) == b"\0\0\0\6go"


def test_backoff():
    assert [backoff(1, 2, 10, 0, failures) for failures in range(7)] == [1, 1, 2, 4, 8, 10, 10]
    assert backoff(1, 2, 60, 0, 10**6) == 60
    assert backoff(5, 1, 60, 0, 99) == 5
    found = [backoff(10, 1, 60, 0.2, 0) for _ in range(500)]
    assert min(found) >= 8
    assert max(found) <= 12
    assert max(found) - min(found) > 3
    connection, _told = story(Server().url)
    connection.destroy()
    for bad in (
        {"after": -1},
        {"factor": 0.5},
        {"jitter": 2},
        {"most": -1},
        {"after": float("nan")},
    ):
        with raises(ValueError):
            connection.reconnect(**bad)


def test_z_the_end_of_the_process():
    """Open ones are closed politely, those under way are given up, and nothing is dialled any
    more."""
    server, hole = Server(), black_hole()
    connection, told = story(server.url)
    _pending, of_pending = story(hole.url)
    waiting, of_waiting = story(server.url)
    first, second = server.accept(), server.accept()
    until(lambda: told and of_waiting)
    waiting.destroy()
    waiting.reconnect(3600)
    connection.on_close = lambda c: (told.append("close"), c.reconnect())
    connection.send("last")
    done = gevent.spawn(close_all, service, 1.0)
    until(
        lambda: any(
            select.select([peer], [], [], 0)[0] and peer.recv(5, plain.MSG_PEEK)
            for peer in (first, second)
        )
    )
    first.close()
    second.close()
    until(done.ready)
    assert (
        told == ["connect", "close"] and of_pending == ["close"] and not service.registry.dialled
    ), (
        told,
        of_pending,
    )
    with raises(RuntimeError):
        connect(server.url)
    service.dialling_over = False


run(globals())
