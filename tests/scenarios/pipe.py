"""`pipe`: ends that have closed before, buffers of any size, and connections with a handler."""

from __future__ import annotations

import _socket
import select

import gevent
from gevent import get_hub
from one_loop import Server, another_service, heard, row, run, service, story, until
from scenario_process import raises

from gworker import connect
from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.protocols import get


def accepted(make=lambda ours: Connection(service, ours, None, get("tcp"))):
    """A connection, and the socket of its peer."""
    ours, theirs = _socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    connection = make(ours)
    connection.open(connection.worker.connection_handler)
    return connection, theirs


def dialled(server, **options):
    connection, told = story(server.url.replace("text", "tcp"), **options)
    peer = server.accept()
    until(lambda: told)
    return connection, peer


def test_an_end_that_has_closed_before_closes_the_other():
    for joined in (lambda ended, other: ended.pipe(other), lambda ended, other: other.pipe(ended)):
        ended, _theirs = accepted()
        ended.destroy()
        other, _peer = dialled(Server())
        joined(ended, other)
        until(lambda: other.status == "closed")


def test_an_end_that_is_closing_closes_the_other():
    ended, _theirs = accepted()
    while not ended.send_queue:
        ended.send(b"x" * 65536)
    ended.close()
    assert ended.status == "closing"
    other, _peer = dialled(Server())
    other.pipe(ended)
    until(lambda: other.status == "closed")
    assert ended.status == "closing"


def test_a_destination_that_may_keep_nothing():
    """It gets all, one message at a time, also what comes before it is open."""
    for early in (False, True):
        server = Server()
        source, theirs = accepted()
        if early:
            upstream, _told = story(server.url.replace("text", "tcp"))
            peer = None
        else:
            upstream, peer = dialled(server)
        upstream.max_send_buffer_size = 0
        source.pipe(upstream)
        theirs.send(b"one")
        if peer is None:
            gevent.sleep(0)
            peer = server.accept()
        assert heard(peer, 3) == b"one"
        size = 3_000_000
        _writer = get_hub().threadpool.spawn(sendall, theirs, b"x" * size)
        gevent.sleep(0.05)
        assert len(heard(peer, size)) == size


def sendall(socket, data):
    while data:
        select.select([], [socket], [])
        data = data[socket.send(data) :]


def session(handler):
    made = Worker(name="s", handler=handler)
    mine = another_service(made, Limits(), row, get_hub().loop)
    connection, theirs = accepted(lambda ours: Connection(mine, ours, None, get("tcp")))
    return connection, theirs, mine


def test_a_connection_with_a_handler_forwards_within_it():
    server, told = Server(), []
    url = server.url.replace("text", "tcp")

    def handler(connection):
        upstream = connect(url)
        upstream.pipe(connection)
        connection.pipe(upstream)
        told.append((connection.status, upstream.status))

    for how in ("source", "destination"):
        connection, theirs, mine = session(handler)
        theirs.send(b"question")
        peer = server.accept()
        assert heard(peer, 8) == b"question"
        peer.send(b"answer")
        assert heard(theirs, 6) == b"answer"
        if how == "source":
            theirs.close()
        else:
            peer.close()
        until(lambda: told and connection.status == "closed")
        until(lambda: not service.registry.dialled and not mine.lingerer.sockets, 3)
        told.clear()


def test_a_connection_with_a_handler_forwards_nowhere_else():
    go = gevent.event.Event()
    connection, theirs, mine = session(lambda connection: go.wait())
    gevent.sleep(0)
    with raises(RuntimeError, "within that handler"):
        connection.pipe(accepted()[0])
    go.set()
    until(lambda: connection.status == "closed")
    theirs.close()
    until(lambda: not mine.lingerer.sockets)


def test_raw_takes_bytes_only():
    server = Server()
    open_one, _ = accepted()
    early, _told = story(server.url)
    asking, _ = story(Server().url.replace("text", "ws"))
    for connection in (open_one, early, asking):
        for bad in (5, "x", [1, 2], None, True):
            with raises(TypeError, type(bad).__name__):
                connection.send(bad, raw=True)
        assert not connection.send_queue
        assert not connection.bytes_written
    for good in (b"1", bytearray(b"2"), memoryview(b"3")):
        assert early.send(good, raw=True)
    assert heard(server.accept(), 3) == b"123"


run(globals())
