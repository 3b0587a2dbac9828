"""One connection of a command at the control socket: a request in, a bounded queue of replies out.

What it may cost is bounded: the size of its request, and the replies that it has not read. A
connection that exceeds a bound is closed. It never blocks the arbiter.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from gworker.ipc import fd_socket

log = logging.getLogger("gworker")

MAX_REQUEST = 64 * 1024
MAX_QUEUED = 4 * 1024 * 1024  # bytes of replies that a client has not read yet
MAX_QUEUED_FDS = 64

# A client sends its request within that time after it has connected, also on a busy machine.
REQUEST_SECONDS = 1.0


class Call:
    """One request. `send` any number of replies, then `finish`; neither ever blocks or raises.

    Once the client has left (`gone`) both do nothing, so only handlers with much to do need to
    look.
    """

    def __init__(self, client: ControlConnection, command: str, arguments: dict[str, Any]) -> None:
        self.command = command
        self.arguments = arguments
        self._client = client
        self._finished = False

    def fileno(self) -> int | None:
        """The connection's descriptor, to keep over an exec; None if that is not possible."""
        return self._client.fileno()

    @property
    def gone(self) -> bool:
        return self._client.closed

    def send(self, reply: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one reply. The descriptors stay the caller's, and may be closed right after."""
        if not self._finished:
            self._client.queue({**reply, "fds": len(fds)} if fds else reply, fds)

    def finish(self, exit_code: int, **extra: Any) -> None:
        """Send the last reply; the connection closes once it is through."""
        self.send({"exit": exit_code, **extra})
        self._finished = True
        self._client.finish()


class ControlConnection:
    def __init__(
        self,
        sock: socket.socket,
        selector: selectors.BaseSelector,
        on_call: Callable[[Call], None],
        on_close: Callable[[ControlConnection], None],
    ) -> None:
        self.closed = False
        self.call: Call | None = None
        self._sock = sock
        self._selector = selector
        self._on_call = on_call
        self._on_close = on_close
        self._request = b""
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self._queued = 0
        self._finished = False
        self._accepted = time.monotonic()
        self._events = selectors.EVENT_READ
        selector.register(sock, self._events, self._on_event)

    def fileno(self) -> int | None:
        """The descriptor; None once the client is gone, or while it has not read what it was
        sent."""
        return None if self.closed or self._queue else self._sock.fileno()

    @property
    def idle(self) -> bool:
        return self.call is None or self._finished

    def is_lost_in_upgrade(self, ready: set[Any]) -> bool:
        """True if an exec would lose a request of this client. ready: the sockets that can be read
        or written."""
        if self.call is None:
            return self._sock in ready or time.monotonic() - self._accepted < REQUEST_SECONDS
        return bool(self._queue) or (not self._finished and self.call.command != "upgrade")

    def _on_event(self, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush()
            if mask & selectors.EVENT_READ and not self.closed:
                self._read()
        except OSError:
            self.close()

    def _read(self) -> None:
        try:
            data = self._sock.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        if not data or self.call is not None:
            self.close()  # it left, or sends more than its one request
            return
        self._request += data
        line, newline, rest = self._request.partition(b"\n")
        if len(line) > MAX_REQUEST or rest:
            self._refuse("one request of at most 64 KiB per connection")
        elif newline:
            self._dispatch(line)

    def _dispatch(self, line: bytes) -> None:
        try:
            arguments = json.loads(line)
            command = arguments.pop("command")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            command = None
        if not isinstance(command, str):
            self._refuse('expected a line of JSON: {"command": NAME, ...}')
            return
        self.call = Call(self, command, arguments)
        self._on_call(self.call)

    def _refuse(self, error: str) -> None:
        self.call = Call(self, "", {})
        self.call.finish(1, error=error)

    def queue(self, reply: dict[str, Any], fds: Sequence[int]) -> None:
        """Send a reply now, or as soon as the client reads. Drops a client that reads too
        slowly."""
        if self.closed:
            return
        data = json.dumps(reply, default=str).encode() + b"\n"
        held: list[int] = []
        self._queue.append((data, held))
        self._queued += len(data)
        try:
            held.extend(map(os.dup, fds))
            self._flush()
        except OSError:
            self.close()
        if self._queued > MAX_QUEUED or sum(len(fds) for _, fds in self._queue) > MAX_QUEUED_FDS:
            log.warning("control: a client does not read its replies, dropping it")
            self.close()

    def finish(self) -> None:
        self._finished = True
        if not self.closed and not self._queue:
            self.close()

    def _flush(self) -> None:
        while self._queue:
            data, fds = self._queue[0]
            try:
                sent = fd_socket.send(self._sock, data, fds, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            self._queued -= sent
            _close_all(fds)  # they went with the first byte
            if sent < len(data):
                self._queue[0] = (data[sent:], [])
            else:
                self._queue.popleft()
        self._watch()

    def _watch(self) -> None:
        if self._finished and not self._queue:
            self.close()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._queue else 0)
        if events != self._events:
            self._events = events
            self._selector.modify(self._sock, events, self._on_event)

    def close(self) -> None:
        if self.closed:
            return
        self._selector.unregister(self._sock)
        self._on_close(self)
        self.close_in_child()

    def close_in_child(self) -> None:
        self.closed = True
        self._sock.close()
        for _, fds in self._queue:
            _close_all(fds)
        self._queue.clear()
        self._queued = 0


def _close_all(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
