"""What the connections of a process share: errors cost one of them, counters go to the
scoreboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import get_hub

from gworker.app.limits import Limits
from gworker.app.worker import Worker
from gworker.config.trusted_proxies import Trust
from gworker.connection.context import ServerContext
from gworker.http.forwarded import Origin, resolved
from gworker.ipc.scoreboard import Column, Row, Scoreboard
from gworker.protocols.http.protocol import HttpProtocol
from gworker.protocols.text import TextProtocol

REMOTE = ("192.0.2.1", 1)


class Near:
    """A transport, as far as a protocol sees it."""

    def __init__(self, context: ServerContext, over_tls: bool = False) -> None:
        self._context = context
        self._over_tls = over_tls

    @property
    def origin(self) -> Any:
        return self._context.origin_of(REMOTE, self._over_tls)


class Peer:
    is_destroyed = False

    def destroy(self) -> None:
        self.is_destroyed = True

    def __repr__(self) -> str:
        return "<a peer>"


@pytest.fixture
def row() -> Row:
    board = Scoreboard(1)
    return board.row(board.take())


@pytest.fixture
def context(row: Row) -> Iterator[ServerContext]:
    made = ServerContext(Worker(name="w", lockstep=True), Limits(), row, get_hub().loop)
    yield made
    made.release_all()


def test_an_exception_costs_one_connection(
    context: ServerContext, row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    def step(peer: Peer, divisor: int) -> float:
        return 6 / divisor

    one, other = Peer(), Peer()
    divide = context.isolate_errors(step, "cannot be divided")
    assert divide(one, 0) is None
    assert divide(other, divisor=2) == 3
    assert (one.is_destroyed, other.is_destroyed) == (True, False)
    assert row[Column.EXCEPTIONS] == 1
    (record,) = caplog.records
    assert record.getMessage() == "<a peer>: cannot be divided"
    assert record.exc_info is not None


def test_what_ends_a_program_costs_one_connection_too(context: ServerContext, row: Row) -> None:
    def leave(peer: Peer) -> None:
        raise SystemExit

    assert context.isolate_errors(leave)(Peer()) is None
    assert row[Column.EXCEPTIONS] == 1


def test_a_protocol_gets_the_options_of_its_worker(context: ServerContext) -> None:
    class Own(TextProtocol):
        def configure(self, options: Any) -> None:
            self.options = options

    protocol = Own(100)
    context.configure_protocol(protocol, Near(context))
    assert protocol.options == {"lockstep": True}


@pytest.mark.parametrize(
    ("trusted", "over_tls", "scheme"),
    [("", False, ""), ("192.0.2.1", False, "http"), ("", True, "https"), ("*", True, "https")],
)
def test_http_gets_the_address_of_its_peer_and_what_proxies_may_say(
    context: ServerContext, trusted: str, over_tls: bool, scheme: str
) -> None:
    context.forwarders = Trust(trusted)
    protocol = HttpProtocol(100)
    context.configure_protocol(protocol, Near(context, over_tls))
    origin = resolved(protocol.origin)
    if not scheme:
        assert origin == REMOTE
    else:
        assert isinstance(origin, Origin)
        assert (origin.trust is not None, origin.scheme) == (bool(trusted), scheme)


def test_counters_are_written_before_the_loop_sleeps(context: ServerContext, row: Row) -> None:
    context.requests, context.bytes_read, context.bytes_written = 3, 40, 500
    gevent.sleep(0.01)
    columns = (Column.REQUESTS, Column.BYTES_READ, Column.BYTES_WRITTEN)
    assert [row[each] for each in columns] == [3, 40, 500]


def test_callbacks_that_run_or_wait_are_work(context: ServerContext) -> None:
    assert not context.is_at_work
    context.run_queue.add(lambda: None)
    assert context.is_at_work
    gevent.sleep(0.01)
    assert not context.is_at_work


def test_without_an_access_log_there_is_no_observer(context: ServerContext) -> None:
    assert context.observer(TextProtocol(100)) is None


def test_a_copy_of_the_process_counts_no_more(context: ServerContext, row: Row) -> None:
    context.release_all()
    context.requests = 7
    gevent.sleep(0.01)
    assert row[Column.REQUESTS] == 0
