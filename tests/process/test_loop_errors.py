"""What escapes in the event loop is logged and counted, and its object goes on if it can."""

from __future__ import annotations

import _socket
import errno
import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import places
import pytest
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.greenlet_pool import GreenletPool
from gworker.handover.link import Link
from gworker.ipc.scoreboard import Column, Row, Scoreboard
from gworker.logs import setup
from gworker.process.loop_errors import LoopErrors
from gworker.protocols import get
from gworker.server.acceptor import Acceptor
from gworker.server.udp import DatagramListener


@pytest.fixture
def row() -> Iterator[Row]:
    """The row in which exceptions are counted, while they are contained."""
    board, hub = Scoreboard(2), get_hub()
    row = board.row(board.take())
    LoopErrors(hub, row, lambda: False)
    yield row
    del hub.handle_error, hub.print_exception


def until(condition: Callable[[], object]) -> None:
    with gevent.Timeout(10):
        while not condition():
            gevent.sleep(0.001)


class Reader:
    """Reads a pipe, and fails at each `bad` byte."""

    def __init__(self, descriptor: int, goes_on: bool) -> None:
        self.descriptor = descriptor
        self.read: list[bytes] = []
        self.watcher: Any = get_hub().loop.io(descriptor, 1)
        self.watcher.start(self.on_readable)
        if goes_on:
            self.callback_failed = lambda: self.watcher.start(self.on_readable)

    def on_readable(self) -> None:
        self.read.append(os.read(self.descriptor, 1))
        if self.read[-1] == b"x":
            raise RuntimeError("a bad byte")


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_watcher_goes_on_if_its_object_says_so(
    row: Row, caplog: pytest.LogCaptureFixture, goes_on: bool
) -> None:
    reader, writer = os.pipe()
    one = Reader(reader, goes_on)
    os.write(writer, b"axbx")
    until(lambda: len(one.read) == (4 if goes_on else 2))
    gevent.sleep(0.01)
    assert one.read == ([b"a", b"x", b"b", b"x"] if goes_on else [b"a", b"x"])
    assert row[Column.EXCEPTIONS] == (2 if goes_on else 1)
    assert "RuntimeError: a bad byte" in caplog.text
    assert "on_readable" in caplog.text
    one.watcher.close()
    os.close(reader)
    os.close(writer)


def test_what_a_greenlet_lets_escape_is_in_the_log(
    row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    gevent.spawn(int, "no number").join()
    assert "invalid literal for int()" in caplog.text
    assert row[Column.EXCEPTIONS] == 1
    gevent.spawn(gevent.sleep, 100).kill()
    assert row[Column.EXCEPTIONS] == 1, "to be killed is no error"


class BrokenHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("the log server is down")


def test_a_log_that_raises_is_written_past(row: Row) -> None:
    log, (reader, writer) = logging.getLogger("gworker"), os.pipe()
    before, broken = list(log.handlers), BrokenHandler()
    log.handlers[:] = [broken, setup.DescriptorHandler(writer)]
    try:
        gevent.spawn(int, "no number").join()
    finally:
        log.handlers[:] = before
    text = os.read(reader, 65536).decode()
    assert "invalid literal for int()" in text
    assert "the log server is down" not in text
    os.close(reader)
    os.close(writer)


class Job:
    def run(self, me: Any) -> None:
        raise RuntimeError("a job")


def test_a_job_that_raises_leaves_the_pool_as_it_was(
    row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    pool = GreenletPool()
    for number in range(1, 4):
        pool.start_soon(Job())
        until(lambda number=number: row[Column.EXCEPTIONS] == number)
        assert (pool.active, pool.created) == (0, 1)
    assert "RuntimeError: a job" in caplog.text


class Faulty(_socket.socket):
    """A listener with an error that no peer and no shortage explains."""

    faults = 2

    def _accept(self) -> Any:
        if self.faults:
            self.faults -= 1
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return super()._accept()  # type: ignore[misc]


def test_accept_is_tried_again_whatever_it_raises(
    row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Faulty()
    listener.bind(("127.0.0.1", 0))
    listener.listen(5)
    listener.setblocking(False)
    taken: list[_socket.socket] = []
    service = ServerContext(Worker(name="w"), Limits(), row, get_hub().loop)
    acceptor = Acceptor(service, listener, lambda socket, _: taken.append(socket))
    acceptor.start()
    peer = _socket.socket()
    peer.connect(listener.getsockname())
    until(lambda: taken)
    assert row[Column.EXCEPTIONS] == 2
    assert caplog.text.count("Invalid argument") >= 2
    acceptor.close()
    for socket in (peer, *taken):
        socket.close()


def test_a_link_of_a_handover_goes_on(row: Row) -> None:
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    heard: list[Any] = []

    def hear(link: Link, message: Any, descriptors: list[int]) -> None:
        heard.append(message)
        if message == {"n": 1}:
            raise RuntimeError("a message")

    link = Link(get_hub().loop, ours.detach(), hear)
    theirs.send(b'{"n": 1}')
    theirs.send(b'{"n": 2}')
    until(lambda: len(heard) == 2)
    assert row[Column.EXCEPTIONS] == 1
    link.close()
    theirs.close()


class FaultySocket(_socket.socket):
    """Its first read is a fault of ours, as a bug below would be."""

    faults = 1

    def _fail_once(self) -> None:
        if self.faults:
            self.faults -= 1
            raise RuntimeError("a read")

    def recvfrom(self, *arguments: Any) -> Any:
        self._fail_once()
        return super().recvfrom(*arguments)

    def recv(self, *arguments: Any) -> Any:
        self._fail_once()
        return super().recv(*arguments)


class Done:
    def __init__(self, listener: DatagramListener) -> None:
        self._listener = listener

    def run(self, me: Any) -> None:
        self._listener.finished()


def test_datagrams_are_read_on(row: Row) -> None:
    socket = FaultySocket(_socket.AF_INET, _socket.SOCK_DGRAM)
    socket.bind(("127.0.0.1", 0))
    socket.setblocking(False)
    heard: list[bytes] = []

    def make_job(listener: DatagramListener, data: bytes, *_: Any) -> Done:
        heard.append(data)
        return Done(listener)

    service = ServerContext(Worker(name="w"), Limits(), row, get_hub().loop)
    listener = DatagramListener(service, socket, make_job)
    listener.start()
    peer = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    peer.sendto(b"one", socket.getsockname())
    until(lambda: heard == [b"one"])
    assert row[Column.EXCEPTIONS] == 1
    listener.close()
    peer.close()
    socket.close()


def test_a_connection_that_cannot_be_read_is_closed(row: Row) -> None:
    ours, theirs = _socket.socketpair()
    socket = FaultySocket(fileno=ours.detach())
    socket.setblocking(False)
    told: list[str] = []
    worker = Worker(
        "text://127.0.0.1:0", name="w", on_close=lambda connection: told.append("close")
    )
    service = ServerContext(worker, Limits(), row, get_hub().loop)
    Connection(service, socket, None, get("text")).open()
    assert row[Column.CONNECTIONS] == 1
    theirs.send(b"hello\n")
    until(lambda: told == ["close"])
    assert (row[Column.EXCEPTIONS], row[Column.CONNECTIONS]) == (1, 0)
    with pytest.raises(ConnectionResetError):
        theirs.recv(10)
    theirs.close()


PATCHED = places.program("writes_line_in_hub")


def test_a_line_can_be_written_in_the_hub_wherever_it_goes() -> None:
    done = subprocess.run(PATCHED, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[5]\n", "")
