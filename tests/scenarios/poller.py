"""Sockets of one epoll set: none is forgotten, none keeps the process busy, all have their turn."""

from __future__ import annotations

import _socket
import errno
import gc
import os
import socket as plain
import struct
import time

import gevent
from one_loop import run, service, story, until, wrong
from scenario_process import raises

from gworker.connection.connection import Connection
from gworker.protocols import get

RESET = struct.pack("ii", 1, 0)

peers = []


class Peer:
    """A connection of ours, its other end, and what our callbacks were told."""

    def __init__(self, answer=None, protocol="text", unix=False):
        self.answer = answer
        self.told = []
        if unix:
            near, self.far = plain.socketpair()
        else:
            with plain.create_server(("127.0.0.1", 0)) as listener:
                self.far = plain.create_connection(listener.getsockname())
                near, _ = listener.accept()
        self.far.setblocking(False)
        near.setblocking(False)
        ours = _socket.socket(near.family, near.type, fileno=near.detach())
        remote = None if unix else ("127.0.0.1", 1)
        self.ours = Connection(service, ours, remote, get(protocol))
        self.ours.set_callback("on_message", self.on_message)
        self.ours.set_callback("on_close", lambda _: self.told.append("close"))
        self.ours.set_callback("on_error", lambda *_: None)
        self.ours.open()
        peers.append(self)
        gevent.sleep(0.01)

    def on_message(self, connection, message):
        self.told.append(message)
        if self.answer is not None:
            self.answer(self)

    def reset(self):
        self.far.setsockopt(plain.SOL_SOCKET, plain.SO_LINGER, RESET)
        self.far.close()


def with_peers(test):
    try:
        test()
    finally:
        service.batch, service.holder = 32, None
        while peers:
            peer = peers.pop()
            peer.far.close()
            peer.ours.destroy()


def cost(seconds=0.3):
    """The part of so many seconds in which this process was busy."""
    began = time.process_time()
    gevent.sleep(seconds)
    return (time.process_time() - began) / seconds


def test_a_reset_is_heard_when_it_is_read_again():
    peer = Peer()
    peer.ours.pause_recv()
    peer.reset()
    assert cost() < 0.1
    peer.ours.resume_recv()
    until(lambda: peer.told == ["close"])


def test_a_reset_behind_the_end_of_what_is_read():
    goes_on = gevent.event.Event()
    peer = Peer(lambda _: goes_on.wait())
    peer.far.send(b"a\n")
    peer.far.shutdown(plain.SHUT_WR)
    until(lambda: peer.ours.peer_closed)
    peer.ours.send("x")
    peer.reset()
    assert cost() < 0.1
    goes_on.set()
    until(lambda: peer.told == ["a", "close"])


def test_the_end_of_a_unix_socket_that_is_not_read():
    peer = Peer(unix=True)
    peer.ours.pause_recv()
    peer.far.close()
    assert cost() < 0.1


def test_a_read_that_ends_behind_urgent_data():
    peer = Peer()
    peer.far.send(b"a\n")
    peer.far.send(b"!", plain.MSG_OOB)
    peer.far.send(b"b\n")
    until(lambda: peer.told == ["a", "b"])
    peer.far.send(b"!", plain.MSG_OOB)
    assert cost() < 0.1


def test_a_read_that_ends_behind_descriptors():
    peer = Peer(unix=True)
    plain.send_fds(peer.far, [b"a\n"], [0])
    peer.far.send(b"b\n")
    until(lambda: peer.told == ["a", "b"])


def test_datagrams_behind_an_error():
    with plain.socket(plain.AF_INET, plain.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        connection, told = story(f"udp://127.0.0.1:{server.getsockname()[1]}")
        until(lambda: told == ["connect"])
        gevent.sleep(0.01)
        connection.send("x")
        _, address = server.recvfrom(1)
        server.sendto(b"answer", address)
    connection.send("nothing listens there any more")
    until(lambda: b"answer" in told)


def test_a_set_that_is_full():
    class Full:
        def watch(self, *_):
            raise OSError(errno.ENOSPC, "full")

        forget = service.poller.forget

    poller, service.poller = service.poller, Full()
    try:
        with raises(OSError, "full"):
            Peer()
    finally:
        service.poller = poller
    assert not service.registry.connections


def test_others_have_their_turn_while_there_is_too_much_to_do():
    def busy(peer):
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass
        if not is_over:
            peer.far.send(b"a\n")

    is_over = False
    for _ in range(8):
        Peer(busy).far.send(b"a\n")
    gevent.sleep(1)
    began = time.monotonic()
    service.run_queue.wait()
    seconds = time.monotonic() - began
    is_over = True
    assert seconds < 0.3, seconds


def test_a_copy_of_the_process_that_waits():
    ended = []

    def fork(peer):
        if (pid := os.fork()) == 0:
            try:
                service.poller.let_go()
                gevent.sleep(0.01)
            finally:
                os._exit(bool(wrong))
        ended.append(os.waitpid(pid, 0)[1])

    first, second = Peer(fork), Peer()
    first.far.send(b"a\n")
    second.far.send(b"b\n")
    until(lambda: second.told)
    assert ended == [0]


def test_messages_that_are_taken_at_once_are_counted():
    class Holder:
        def hold(self, connection):
            peer.told.append("hold")

    service.batch, service.holder = 1, Holder()
    peer = Peer()
    peer.far.send(b"a\nb\n")
    until(lambda: len(peer.told) == 4)
    assert peer.told == ["hold", "a", "hold", "b"]


class Sleeps:
    """Is collected as garbage, and blocks then."""

    def __init__(self):
        self.itself = self

    def __del__(self):
        gevent.sleep(0.01)


def leave_garbage(peer):
    Sleeps()
    peer.told += [[] for _ in range(200)]  # the next list is new memory
    gc.set_threshold(1)
    gc.enable()


def read_while_garbage_is_collected(data):
    # The three are read in this order, by one leader, unless that blocks.
    gc.collect()
    gc.disable()
    first, second, third = Peer(leave_garbage), Peer(), Peer()
    try:
        first.far.send(b"a\n")
        second.far.send(data)
        third.far.send(b"of another\n" * 3)
        until(lambda: len(third.told) == 3)
        until(lambda: second.told)
    finally:
        gc.set_threshold(700)
    assert third.told == ["of another"] * 3
    return second.told


def test_a_leader_that_blocks_while_it_reads():
    assert read_while_garbage_is_collected(b"a\nb\nc\n") == ["a", "b", "c"]
    assert read_while_garbage_is_collected(b"\xff\n") == ["close"]
    assert read_while_garbage_is_collected("\ufffd\n".encode()) == ["\ufffd"]


run(globals(), with_peers)
