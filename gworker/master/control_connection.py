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
    """One connection of a client, and its request once that has come.

    `send` any number of replies, then `finish`; neither ever blocks or raises. Once the client has
    left (`gone`) both do nothing, so only handlers with much to do need to look.

    on_request: called when the request is there. command: of a request that came before an exec.
    """

    def __init__(
        self,
        sock: socket.socket,
        selector: selectors.BaseSelector,
        on_request: Callable[[Call], None],
        on_close: Callable[[Call], None],
        command: str = "",
    ) -> None:
        self.command = command  # "": the request is not there yet
        self.arguments: dict[str, Any] = {}
        self.gone = False
        self._sock = sock
        self._selector = selector
        self._on_request = on_request
        self._on_close = on_close
        self._received = b""
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self._finished = False
        self._accepted = time.monotonic()
        selector.register(sock, selectors.EVENT_READ, self._on_event)

    def fileno(self) -> int | None:
        """The descriptor, to keep over an exec; None once the client is gone, or while it has not
        read what it was sent."""
        return None if self.gone or self._queue else self._sock.fileno()

    @property
    def idle(self) -> bool:
        """True if the client waits for nothing."""
        return not self.command or self._finished

    def is_lost_in_upgrade(self, ready: set[Any]) -> bool:
        """True if an exec would lose a request of this client. ready: the sockets that can be read
        or written."""
        if not (self.command or self._finished):
            return self._sock in ready or time.monotonic() - self._accepted < REQUEST_SECONDS
        return bool(self._queue) or not (self._finished or self.command == "upgrade")

    def send(self, reply: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one reply now, or as soon as the client reads. Drops a client that reads too slowly.

        The descriptors stay the caller's, and may be closed right after.
        """
        if self._finished or self.gone:
            return
        self._finished = "exit" in reply
        data = json.dumps({**reply, "fds": len(fds)} if fds else reply, default=str).encode()
        held: list[int] = []
        self._queue.append((data + b"\n", held))
        try:
            held.extend(map(os.dup, fds))
            self._flush()
        except OSError:
            self.close()
        if (
            sum(len(data) for data, _ in self._queue) > MAX_QUEUED
            or sum(len(fds) for _, fds in self._queue) > MAX_QUEUED_FDS
        ):
            log.warning("control: a client does not read its replies, dropping it")
            self.close()

    def finish(self, exit_code: int, **extra: Any) -> None:
        """Send the last reply; the connection closes once it is through."""
        self.send({"exit": exit_code, **extra})

    def _on_event(self, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush()
            if mask & selectors.EVENT_READ and not self.gone:
                self._read()
        except OSError:
            self.close()

    def _read(self) -> None:
        data = self._sock.recv(MAX_REQUEST)
        if not data or self.command or self._finished:
            self.close()  # it left, or sends more than its one request
            return
        self._received += data
        line, newline, rest = self._received.partition(b"\n")
        if len(line) > MAX_REQUEST or rest:
            self.finish(1, error="one request of at most 64 KiB per connection")
        elif newline:
            self._parse(line)

    def _parse(self, line: bytes) -> None:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        match request:
            case {"command": str(command)} if command:
                self.command = request.pop("command")
                self.arguments = request
                self._on_request(self)
            case _:
                self.finish(1, error='expected a line of JSON: {"command": NAME, ...}')

    def _flush(self) -> None:
        while self._queue:
            data, fds = self._queue[0]
            try:
                sent = fd_socket.send(self._sock, data, fds, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            _close_all(fds)  # they went with the first byte
            if sent < len(data):
                self._queue[0] = (data[sent:], [])
            else:
                self._queue.popleft()
        if self._finished and not self._queue:
            self.close()
        else:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._queue else 0)
            self._selector.modify(self._sock, events, self._on_event)

    def close(self) -> None:
        if not self.gone:
            self._selector.unregister(self._sock)
            self._on_close(self)
            self.close_in_child()

    def close_in_child(self) -> None:
        self.gone = True
        self._sock.close()
        for _, fds in self._queue:
            _close_all(fds)
        self._queue.clear()


def _close_all(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
