"""A link for commands, against a server that answers as the test says."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
import scenarios
from redis.backoff import NoBackoff
from redis.retry import Retry

from gworker.broker.redis.command import Command
from gworker.broker.redis.commands import CommandLink
from gworker.errors import BrokerDown

test_among_greenlets = scenarios.of("command_link")


class Owner:
    def __init__(self) -> None:
        self.refused: list[str] = []
        self.changed = threading.Event()

    def greet(self, address: object, ask: Callable[..., list[Any]]) -> None:
        pass

    def on_link(self) -> None:
        self.changed.set()

    def on_refused(self, command: Command, link: CommandLink, error: Exception) -> None:
        self.refused.append(type(error).__name__)
        command.fail(error)


@pytest.fixture
def listener() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield listener


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def link(listener: socket.socket, owner: Owner) -> Any:
    def connect(address: Any) -> redis.Connection:
        return redis.Connection(
            *address, protocol=2, driver_info=None, socket_timeout=1, retry=Retry(NoBackoff(), 0)
        )

    link = CommandLink(listener.getsockname(), connect, owner)
    yield link
    link.close("the test has ended")
    link.join(5)


def submit(link: CommandLink, *words: bytes) -> Command:
    command = Command(0, words, waits=True)
    link.submit(command)
    return command


def test_what_has_gathered_is_one_pipeline(listener: socket.socket, link: CommandLink) -> None:
    first = submit(link, b"A")
    server, _ = listener.accept()
    with server:
        assert server.recv(100) == b"*1\r\n$1\r\nA\r\n"
        others = [submit(link, b"%d" % number) for number in range(3)]
        server.sendall(b":1\r\n")
        assert first.wait() == 1
        assert server.recv(100) == b"".join(b"*1\r\n$1\r\n%d\r\n" % n for n in range(3))
        server.sendall(b":10\r\n:11\r\n:12\r\n")
        assert [each.wait() for each in others] == [10, 11, 12]


def test_a_refusal_goes_to_the_owner_and_the_rest_is_answered(
    listener: socket.socket, link: CommandLink, owner: Owner
) -> None:
    server, _ = listener.accept()
    with server:
        refused, answered = submit(link, b"A"), submit(link, b"B")
        server.sendall(b"-MOVED 1 127.0.0.1:1\r\n:2\r\n")
        assert answered.wait() == 2
        with pytest.raises(redis.ResponseError):
            refused.wait()
        assert owner.refused == ["MovedError"]


def test_what_was_sent_before_a_break_is_uncertain(
    listener: socket.socket, link: CommandLink
) -> None:
    server, _ = listener.accept()
    sent = submit(link, b"A")
    server.recv(100)
    waiting = submit(link, b"B")
    server.close()
    with pytest.raises(BrokerDown) as down:
        sent.wait()
    assert down.value.uncertain
    again, _ = listener.accept()
    with again:
        assert again.recv(100) == b"*1\r\n$1\r\nB\r\n", "it had not been sent"
        again.sendall(b":2\r\n")
        assert waiting.wait() == 2


def test_an_idle_connection_that_was_closed_loses_nothing(
    listener: socket.socket, link: CommandLink, owner: Owner
) -> None:
    server, _ = listener.accept()
    owner.changed.wait(5)
    time.sleep(0.6)
    server.close()
    command = submit(link, b"A")
    again, _ = listener.accept()
    with again:
        assert again.recv(100) == b"*1\r\n$1\r\nA\r\n"
        again.sendall(b":1\r\n")
        assert command.wait() == 1


def test_what_is_given_up_is_not_sent(listener: socket.socket, link: CommandLink) -> None:
    server, _ = listener.accept()
    with server:
        first = submit(link, b"A")
        server.recv(100)
        hurried = Command(0, (b"B",), waits=True)
        hurried.deadline = time.monotonic()
        link.submit(hurried)
        with pytest.raises(BrokerDown) as down:
            hurried.wait()
        assert not down.value.uncertain
        last = submit(link, b"C")
        server.sendall(b":1\r\n")
        assert first.wait() == 1
        assert server.recv(100) == b"*1\r\n$1\r\nC\r\n"
        server.sendall(b":3\r\n")
        assert last.wait() == 3


def test_no_more_waits_than_the_process_can_hold(
    listener: socket.socket, link: CommandLink
) -> None:
    """A server that takes nothing. What is refused is told, and all else is sent in the end."""
    server, _ = listener.accept()
    with server:
        first = submit(link, b"A")
        server.recv(100)
        body = bytes(1 << 20)
        waiting = []
        with pytest.raises(BrokerDown, match="wait for it") as down:
            while len(waiting) < 100:
                waiting.append(submit(link, body))
        assert not down.value.uncertain
        assert len(waiting) == 15
        server.sendall(b":1\r\n")
        assert first.wait() == 1
        server.settimeout(5)
        for command in waiting:
            left = len(command.data)
            while left:
                left -= len(server.recv(min(left, 1 << 16)))
            server.sendall(b":2\r\n")
            assert command.wait() == 2
        submit(link, body)
