"""--max-requests in one process: when it asks, when it takes nothing more, and when it serves on
all the same."""

from __future__ import annotations

import _socket
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import get_hub

from gworker import connect
from gworker.app import worker
from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.http import Response
from gworker.ipc.scoreboard import Scoreboard
from gworker.process import request_limit
from gworker.process.graceful_shutdown import GracefulShutdown
from gworker.process.request_limit import RequestLimit
from gworker.protocols import get

MOST = 100


class FakeListeners:
    """The listeners of a process that has none."""

    def __init__(self) -> None:
        self.is_open = True

    def pause(self) -> None:
        self.is_open = False

    def start(self) -> None:
        self.is_open = True


ON_MESSAGE, HANDLER = "on_message", "handler"
"""How messages are handled."""


class House:
    """A process with a limit. `handled`: how many messages."""

    def __init__(self, kind: str = ON_MESSAGE, **options: Any) -> None:
        self.handled = 0
        self.seconds = 0.0
        """What a handler takes."""
        declared = Worker("text://127.0.0.1:1", name="house", **options)
        if kind == HANDLER:
            declared.handler = self._serve
        else:
            declared.on_message = self._answer
        board = Scoreboard(1)
        self.service = ServerContext(declared, Limits(), board.row(board.take()), get_hub().loop)
        self.listeners = FakeListeners()
        self.asked: list[str] = []
        self.can_ask = True
        self.limit = RequestLimit(self.service, self.listeners, MOST, 0, self._ask)  # type: ignore[arg-type]
        self.limit.start()
        self.peers: list[socket.socket] = []

    def _ask(self, why: str) -> bool:
        if self.can_ask:
            self.asked.append(why)
        return self.can_ask

    def _answer(self, connection: Any, line: str) -> None:
        self.handled += 1
        if self.seconds:
            gevent.sleep(self.seconds)
        connection.send(line)

    def _serve(self, connection: Any) -> None:
        for line in connection:
            self._answer(connection, line)

    def enter(self) -> socket.socket:
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        self.peers.append(far)
        near_end = _socket.socket(fileno=near.detach())
        Connection(self.service, near_end, ("127.0.0.1", 1), get("text")).open(
            self.service.worker.connection_handler
        )
        return far

    def ask_for(self, peer: socket.socket, count: int) -> None:
        """`peer` asks once at a time."""
        for number in range(count):
            peer.send(b"%d\n" % number)
            assert heard(peer) == b"%d\n" % number

    def retire(self) -> None:
        """As Process does."""
        is_strict = self.service.takes_no_more
        self.limit.end()
        shutdown = GracefulShutdown(self.service, 1012, lambda: None, strict=is_strict)

        def begin() -> None:
            shutdown.begin(30, None)
            shutdown.poll()

        self.service.loop.run_callback(begin)

    def end(self) -> None:
        self.limit.end()
        for connection in self.service.registry.connections.values():
            connection.destroy()
        for peer in self.peers:
            peer.close()
        gevent.sleep(0.01)


def until(condition: Callable[[], object]) -> None:
    with gevent.Timeout(10):
        while not condition():
            gevent.sleep(0.001)


def heard(peer: socket.socket, seconds: float = 10) -> bytes:
    """What comes next; b"" at the end. TimeoutError: nothing."""
    with gevent.Timeout(seconds, TimeoutError):
        while True:
            with suppress(BlockingIOError):
                return peer.recv(65536)
            gevent.sleep(0.001)


@pytest.fixture
def make() -> Iterator[Callable[..., House]]:
    made: list[House] = []

    def one(*arguments: Any, **options: Any) -> House:
        made.append(House(*arguments, **options))
        return made[-1]

    yield one
    for house in made:
        house.end()


kinds = pytest.mark.parametrize("kind", [ON_MESSAGE, HANDLER])


@kinds
def test_it_asks_at_the_limit_and_takes_nothing_beyond_a_tenth_more(
    make: Callable[..., House], kind: str
) -> None:
    house = make(kind)
    peer = house.enter()
    house.ask_for(peer, MOST - 1)
    gevent.sleep(0.01)
    assert house.asked == []
    house.ask_for(peer, 1)
    until(lambda: house.asked)
    assert house.asked == [f"{MOST} requests, {MOST} were allowed"]
    with pytest.raises(TimeoutError):
        for _ in range(MOST):
            peer.send(b"more\n")
            heard(peer, 0.1)
    assert MOST < house.handled <= MOST + MOST // 10
    assert not house.listeners.is_open
    assert len(house.asked) == 1


@pytest.mark.parametrize(
    ("kind", "messages", "clients"),
    [
        (ON_MESSAGE, 1, 1),
        (ON_MESSAGE, 1, 40),
        (ON_MESSAGE, 300, 1),
        (ON_MESSAGE, 300, 40),
        (HANDLER, 1, 1),
        (HANDLER, 1, 5),
    ],
)
def test_however_many_ask_however_much_at_once(
    make: Callable[..., House], kind: str, messages: int, clients: int
) -> None:
    house = make(kind)
    peers = [house.enter() for _ in range(clients)]
    for _ in range(200):
        if not house.service.takes_no_more:
            for peer in peers:
                peer.send(b"x\n" * messages)
            gevent.sleep(0.001)
    gevent.sleep(0.02)
    assert MOST - MOST // 10 <= house.handled <= MOST + MOST // 10
    assert house.service.takes_no_more


def test_what_could_not_be_asked_is_asked_again(make: Callable[..., House]) -> None:
    """The arbiter has not read for a long time."""
    house = make()
    house.can_ask = False
    peer = house.enter()
    house.ask_for(peer, MOST)
    house.can_ask = True
    until(lambda: house.asked)
    house.ask_for(peer, 1)
    assert len(house.asked) == 1


def test_the_jitter_is_drawn_once(
    make: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[tuple[int, int]] = []
    monkeypatch.setattr(request_limit.random, "randint", lambda *bounds: draws.append(bounds) or 7)
    house = make()
    limit = RequestLimit(house.service, house.listeners, MOST, 50, house._ask)  # type: ignore[arg-type]
    house.service.requests = MOST + 6
    limit.poll()
    assert house.asked == []
    house.service.requests = MOST + 7
    limit.poll()
    assert house.asked == ["107 requests, 107 were allowed"]
    assert draws == [(0, 0), (0, 50)]
    limit.end()


def hold(house: House, peers: int = 3, messages: int = 1) -> list[socket.socket]:
    """The house takes nothing more, and each peer has sent something that waits."""
    found = [house.enter() for _ in range(peers)]
    house.ask_for(found[0], MOST)
    house.service.requests = 2 * MOST
    until(lambda: house.service.takes_no_more)
    for peer in found:
        peer.send(b"late\n" * messages)
    gevent.sleep(0.02)
    assert house.handled == MOST
    return found


@kinds
def test_without_a_successor_it_serves_on(
    make: Callable[..., House], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = make(kind)
    peers = hold(house)
    house.limit.serve_on()
    assert [heard(peer) for peer in peers] == [b"late\n"] * 3
    assert house.listeners.is_open
    house.ask_for(peers[0], MOST)
    house.ask_for(house.enter(), 1)
    house.limit.serve_on()  # the arbiter says so each time that a successor has failed
    assert caplog.text.count("no successor is ready") == 1


def test_who_is_told_before_it_has_come_so_far_serves_on_too(make: Callable[..., House]) -> None:
    house = make()
    peer = house.enter()
    house.ask_for(peer, MOST)
    house.limit.serve_on()
    house.ask_for(peer, MOST)


@kinds
def test_what_was_read_ahead_is_gone_on_with(make: Callable[..., House], kind: str) -> None:
    """Many messages came at once, and only some of them were decoded."""
    house = make(kind)
    peer = house.enter()
    peer.send(b"x\n" * 500)
    until(lambda: house.service.takes_no_more)
    gevent.sleep(0.02)
    assert house.handled <= MOST + MOST // 10
    house.limit.serve_on()
    until(lambda: house.handled == 500)


def test_a_successor_that_boots_for_too_long_is_not_waited_for(
    make: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_limit, "HOLD_SECONDS", 0.1)
    house = make()
    (peer,) = hold(house, peers=1)
    assert heard(peer) == b"late\n"
    assert house.listeners.is_open


@kinds
def test_who_cannot_move_is_answered_once_more(make: Callable[..., House], kind: str) -> None:
    """Then the connection ends, also if the peer asks without a pause."""
    house = make(kind)
    peers = hold(house)
    house.seconds = 0.02
    house.retire()
    until(lambda: house.handled == MOST + 3)
    for peer in peers:
        peer.send(b"again\n")
    gevent.sleep(0.01)
    assert [heard(peer) for peer in peers] == [b"late\n"] * 3
    assert [heard(peer) for peer in peers] == [b""] * 3
    assert house.handled == MOST + 3
    assert not house.service.registry.connections


@kinds
def test_in_a_reload_a_client_that_asks_without_a_pause_is_answered(
    make: Callable[..., House], kind: str
) -> None:
    """And ends between two messages, as soon as there is nothing to read."""
    house = make(kind)
    peer = house.enter()
    house.ask_for(peer, 1)
    house.seconds = 0.02
    peer.send(b"first\n")
    until(lambda: house.handled == 2)
    house.retire()
    peer.send(b"second\n")
    assert heard(peer) == b"first\n"
    assert heard(peer) == b"second\n"
    assert heard(peer) == b""


def test_connections_that_the_process_has_dialled_go_on(make: Callable[..., House]) -> None:
    """They are no clients, and no process takes them over."""
    house = make()
    hold(house)
    heard_there: list[str] = []
    worker.running.append((house.service.worker, SimpleNamespace(service=house.service)))  # type: ignore[arg-type]
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"text://127.0.0.1:{listener.getsockname()[1]}"
            upstream = connect(url, on_message=lambda _, line: heard_there.append(line))
            listener.setblocking(False)
            until(lambda: upstream.status == "established")
            with listener.accept()[0] as peer:
                for _ in range(3):
                    peer.send(b"x\n" * 100)
                    gevent.sleep(0.01)
                until(lambda: len(heard_there) == 300)
                upstream.destroy()
    finally:
        worker.running.pop()
    assert house.service.takes_no_more


def enter_web(house: House, handler: Callable[..., object]) -> socket.socket:
    """A peer of an HTTP Worker in the house."""
    web = Worker("http://127.0.0.1:1", name="web", stream_above=1)
    web.on_message = handler
    house.service.worker = web
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    house.peers.append(far)
    Connection(
        house.service, _socket.socket(fileno=near.detach()), ("127.0.0.1", 1), get("http")
    ).open()
    return far


def take_no_more(house: House) -> None:
    house.service.requests = 2 * MOST
    until(lambda: house.service.takes_no_more)


def test_a_body_that_a_handler_waits_for_comes_in(make: Callable[..., House]) -> None:
    house = make()
    peer = enter_web(house, lambda connection, request: connection.send(request.stream.read()))
    peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf ")
    until(lambda: house.service.requests == 1)
    take_no_more(house)
    peer.send(b"whole")
    assert heard(peer).endswith(b"half whole")


def test_a_stream_that_answers_what_was_taken_before_is_sent(make: Callable[..., House]) -> None:
    house = make()

    def answer(connection: Any, request: Any) -> Response:
        until(lambda: house.service.takes_no_more)
        return Response.stream(iter([b"the stream"]))

    peer = enter_web(house, answer)
    peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    until(lambda: house.service.requests == 1)
    take_no_more(house)
    received = b""
    while not received.endswith(b"0\r\n\r\n"):
        received += heard(peer)
    assert b"the stream" in received
    assert house.service.takes_no_more, (
        "it was not sent because no process waits for a successor any more"
    )


@pytest.mark.parametrize("returns", ["before", "after"])
def test_a_client_that_leaves_while_its_answer_is_due_is_noticed(
    make: Callable[..., House], returns: str
) -> None:
    """Its handler has returned without an answer, before or after the process takes nothing
    more."""
    house = make()
    kept = []

    def keep(connection: Any, request: Any) -> None:
        if returns == "after":
            until(lambda: house.service.takes_no_more)
        kept.append(connection)

    peer = enter_web(house, keep)
    peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    until(lambda: house.service.requests == 1)
    take_no_more(house)
    until(lambda: kept)
    peer.close()
    until(lambda: not house.service.registry.connections)
    assert house.service.takes_no_more, "nothing is waited for any more"
    assert kept[0].send("too late") is False


def test_one_that_is_answered_late_reads_no_further(make: Callable[..., House]) -> None:
    house = make()
    kept = []
    peer = enter_web(house, lambda connection, request: kept.append(connection))
    for _ in range(2):
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    until(lambda: kept)
    take_no_more(house)
    kept[0].send("late")
    assert heard(peer).endswith(b"late")
    with pytest.raises(TimeoutError):
        heard(peer, 0.05)
    assert len(kept) == 1
    house.limit.serve_on()
    until(lambda: len(kept) == 2)
