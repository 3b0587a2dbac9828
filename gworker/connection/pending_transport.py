"""The transport of a connection that is not open yet.

It keeps what is sent, in order, up to a bound, and stands in the place of a `Transport` until the
connection is open. While the handshake of the protocol runs, `inner` is the transport of the
socket: what the protocol itself sends goes there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from gevent.event import Event

from gworker.connection.dispatcher import AnyConnection
from gworker.connection.payload import check_payload, raw_bytes
from gworker.connection.state import PauseReason
from gworker.connection.transport import Transport
from gworker.protocols.base import Protocol

NO_SOCKET = SimpleNamespace(
    remote=None,
    local=None,
    tls=None,
    is_tls=False,
    peer_credentials=None,
    eof_received=False,
    bytes_read=0,
    bytes_written=0,
    fileno=lambda: -1,
    pause_reasons=0,
)

ENTRY = 64  # bytes that one entry takes besides what it holds: a tuple, and its place in the list


class PendingTransport:
    """What is sent before the connection is open.

    stop: called when the connection ends before it is open. kind: as of a Transport. joins:
    encoded messages may be joined, as the peer sees a stream. buffered: bytes of the messages that
    are kept. held: bytes of memory that they keep alive. was_full: `buffer_full` was called.
    """

    __slots__ = (
        "_end",
        "_joins",
        "_messages",
        "_owner",
        "_reasons",
        "_stop",
        "buffered",
        "held",
        "inner",
        "kind",
        "max_send_buffer_size",
        "was_full",
    )

    write_buffer = None
    acknowledged = None
    unacknowledged = 0

    def __init__(
        self,
        owner: Any,
        stop: Callable[[], None],
        kind: str,
        joins: bool,
        max_send_buffer_size: int,
    ) -> None:
        self._owner: Any = owner  # None: it is over
        self._stop = stop
        self._joins = joins
        self._messages: list[tuple[Any, bool]] = []
        self._end = Event()
        self._reasons = 0
        self.kind = kind
        self.inner: Transport | None = None
        self.max_send_buffer_size = max_send_buffer_size
        self.buffered = self.held = 0
        self.was_full = False

    def __getattr__(self, name: str) -> Any:
        # What it is, as far as there is a socket.
        return getattr(self.inner or NO_SOCKET, name)

    # ---- reading: pause_recv() means messages, and there are none before it is open

    @property
    def pause_reasons(self) -> int:
        return self._reasons | (self.inner or NO_SOCKET).pause_reasons

    def pause(self, reason: int) -> None:
        if reason & PauseReason.ON_PURPOSE:
            self._reasons |= reason
        elif self.inner is not None and reason != PauseReason.WRITE_BLOCKED:
            self.inner.pause(reason)

    def resume(self, reason: int) -> None:
        self._reasons &= ~reason
        if self.inner is not None:
            self.inner.resume(reason)

    # ---- sending

    def write(self, data: bytes) -> bool:
        # What the protocol itself owes to the peer.
        return self.inner is not None and self.inner.write(data)

    def keep(self, machine: Protocol, data: Any, raw: bool) -> bool:
        """Keep a message, or with `raw` bytes, until it is open. False: too much is kept.

        Raises TypeError or ValueError for what cannot be sent.
        """
        if self.is_full:
            return False
        if raw:
            self._add(raw_bytes(data), True)
        elif machine.waiting_for() != "handshake":
            self._add(check_payload(machine, machine.encode(data)), True)
        else:
            # How it is encoded may depend on what is agreed. A copy: a bytearray is its owner's.
            if isinstance(data, str):
                data.encode()  # ValueError: no UTF-8, and the caller is to know
            self._add(data if isinstance(data, str | bytes) else bytes(memoryview(data)), False)
        if self.held >= self.max_send_buffer_size and not self.was_full:
            self.was_full = True
            self._owner.buffer_full()
        return True

    def _add(self, message: Any, raw: bool) -> None:
        messages = self._messages
        self.buffered += len(message)
        if raw and self._joins and messages and messages[-1][1]:
            messages[-1][0].extend(message)
            self.held += len(message)
            return
        self.held += sys.getsizeof(message) + ENTRY if messages else len(message)
        messages.append((bytearray(message) if raw and self._joins else message, raw))

    @property
    def is_full(self) -> bool:
        return 0 < self.held >= self.max_send_buffer_size

    def take(self, machine: Protocol) -> list[bytes]:
        """All that was kept, encoded by `machine`, in the pieces in which it is to be written."""
        messages, self._messages = self._messages, []
        self.buffered = self.held = 0
        pieces = [
            message if raw else check_payload(machine, machine.encode(message))
            for message, raw in messages
        ]
        return [b"".join(pieces)] if self._joins and pieces else pieces

    # ---- the end

    def wait(self, timeout: float | None) -> bool:
        """Block this greenlet until it is open or closed. False: `timeout` seconds passed first."""
        return self._end.wait(timeout)

    @property
    def is_over(self) -> bool:
        return self._owner is None

    def end(self) -> None:
        """It is open or closed: wake what waits for that, and keep nothing."""
        self._messages = []
        self.buffered = self.held = 0
        self._owner = None
        self._end.set()

    def abort(self, reset: bool = False) -> None:
        self._stop()
        if self.inner is not None:
            self.inner.abort(reset)
        self.end()

    close = abort

    def forget(self) -> None:
        self._stop()
        if self.inner is not None:
            self.inner.forget()
        self.end()


def pending(connection: AnyConnection) -> PendingTransport | None:
    """What stands in the place of its transport; None: it is open, or was."""
    io: object = connection.io
    return io if isinstance(io, PendingTransport) else None


def drain(connection: AnyConnection, timeout: float | None) -> bool:
    """Wait until `connection` is open, perhaps after further attempts, and everything is sent.

    False in a callback of a connection that is not open yet: it opens after that.
    """
    end = None if timeout is None else time.monotonic() + timeout
    while (io := pending(connection)) is not None:
        job = connection.event_job
        if io.is_over or (job is not None and job.is_current):
            return False
        if not io.wait(None if end is None else max(0.0, end - time.monotonic())):
            return False
    return connection.io.drain(None if end is None else max(0.0, end - time.monotonic()))
