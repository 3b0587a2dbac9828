"""A link for commands among greenlets: those that wait may be interrupted at any moment."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import socket
import time

import gevent
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from scenario_process import run

from gworker.broker.redis.command import Command
from gworker.broker.redis.commands import CommandLink
from gworker.errors import BrokerDown


class Owner:
    def greet(self, address, ask):
        pass

    def on_link(self):
        pass

    def on_refused(self, command, link, error):
        gevent.spawn_later(0.02, link.submit, command)


class World:
    """A link, and its server, which answers as the test says."""

    def __init__(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.link = CommandLink(listener.getsockname(), self._connection, Owner())
        self.server, _ = listener.accept()
        listener.close()
        self.server.settimeout(5)
        first = self.submit(b"first")
        self.answer(1)
        assert first.get() == 1  # from now on, one that waits sends its command itself

    @staticmethod
    def _connection(address):
        return redis.Connection(
            *address, protocol=2, driver_info=None, socket_timeout=1.5, retry=Retry(NoBackoff(), 0)
        )

    def submit(self, word, timeout=None):
        return gevent.spawn(self._call, word, timeout)

    def _call(self, word, timeout):
        command = Command(0, (word,), waits=True)
        command.is_awaited = True
        with gevent.Timeout(timeout, False):
            self.link.submit(command)
            return command.wait()
        return None

    def received(self):
        return self.server.recv(1000).split(b"\r\n")[2::3]

    def answer(self, *numbers):
        assert self.received()
        self.server.sendall(b"".join(b":%d\r\n" % each for each in numbers))

    def close(self):
        self.link.close("the test has ended")
        self.link.join(5)
        self.server.close()


def test_one_that_is_interrupted_leaves_its_answer_to_the_others():
    world = World()
    for _ in range(3):
        interrupted = world.submit(b"interrupted", 0.05)
        assert world.received() == [b"interrupted"]
        other = world.submit(b"other")
        assert interrupted.get() is None
        gevent.sleep(0.05)
        world.server.sendall(b":1\r\n")
        world.answer(2)
        assert other.get() == 2
        third = world.submit(b"third")
        world.answer(3)
        assert third.get() == 3
    assert world.link.is_up
    world.close()


def test_one_that_is_interrupted_in_the_middle_of_an_answer():
    world = World()
    interrupted = world.submit(b"interrupted", 0.05)
    assert world.received() == [b"interrupted"]
    world.server.sendall(b"$6\r\nans")
    assert interrupted.get() is None
    other = world.submit(b"other")
    world.server.sendall(b"wer\r\n")
    world.answer(2)
    assert other.get() == 2
    world.close()


def test_one_that_is_refused_and_sent_again():
    world = World()
    for _ in range(2):
        one = world.submit(b"one")
        assert world.received() == [b"one"]
        world.server.sendall(b"-TRYAGAIN later\r\n")
        world.answer(1)
        assert one.get() == 1
    world.close()


def test_many_that_wait_are_one_pipeline():
    world = World()
    first = world.submit(b"first")
    assert world.received() == [b"first"]
    others = [world.submit(b"%d" % number) for number in range(5)]
    gevent.sleep(0.01)
    world.server.sendall(b":0\r\n")
    assert world.received() == [b"%d" % number for number in range(5)]
    world.server.sendall(b"".join(b":%d\r\n" % number for number in range(1, 6)))
    assert first.get() == 0
    assert [each.get() for each in others] == [1, 2, 3, 4, 5]
    world.close()


def test_a_server_that_says_nothing():
    world = World()
    begun = time.monotonic()
    one = world.submit(b"one")
    assert world.received() == [b"one"]
    try:
        one.get()
        raise AssertionError
    except BrokerDown as down:
        assert down.uncertain
    assert time.monotonic() - begun < 2
    world.close()


if __name__ == "__main__":
    run(globals())
