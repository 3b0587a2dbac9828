"""What a server sends."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

from hiredis import PushNotification, Reader, ReplyError

from gworker.broker import resp
from gworker.broker.interface import Reply
from gworker.broker.link.calls import Calls
from gworker.errors import BrokerError

log = logging.getLogger("gworker")

READ_SIZE = 1 << 16

_NOTHING = object()  # no whole reply has been read yet


class Readable(Protocol):
    """Waits for a socket to have something to read. `wait` may come back for nothing."""

    def wait(self) -> None: ...

    def close(self) -> None: ...


MakeReadable = Callable[[socket.socket], Readable]


class Input:
    """Replies go to `calls`, and pushes to `on_push`, in the thread that reads.

    title, confirmation, make_readable: see `link.Link`. read_at: when the server was heard last, by
    the monotonic clock. is_delivering: what was read is not done with yet.
    """

    def __init__(
        self,
        calls: Calls,
        title: str,
        on_push: Callable[[list[Reply]], None],
        confirmation: bytes,
        make_readable: MakeReadable | None,
    ) -> None:
        self._calls = calls
        self._title = title
        self._on_push = on_push
        self._confirmation = confirmation
        self._make_readable = make_readable
        self._socket: socket.socket | None = None
        self._reader: Any = Reader(notEnoughData=_NOTHING)
        self.read_at = 0.0
        self.is_delivering = False

    def attach(self, end: socket.socket) -> None:
        """Read from this one from now on."""
        self._socket = end
        self._reader = Reader(notEnoughData=_NOTHING)

    def heard(self) -> None:
        """The server has said something just now."""
        self.read_at = time.monotonic()

    def ask(self, *command: str | bytes) -> Any:
        """A call while nothing else is under way. Raises BrokerError, OSError."""
        end = cast(socket.socket, self._socket)
        end.sendall(resp.command(*command))
        while True:
            for reply in iter(self._reader.gets, _NOTHING):
                if type(reply) is PushNotification:
                    self._push(reply)
                elif isinstance(reply, ReplyError):
                    raise BrokerError(f"{self._title}: {reply}")
                else:
                    return reply
            self._feed(end.recv(READ_SIZE))

    def read(self, at_once: socket.socket | None) -> None:
        """Read for as long as there is something to come. at_once: the same connection, where a
        read never waits. Raises OSError, hiredis.ProtocolError."""
        end = cast(socket.socket, self._socket)
        readable = None
        receive = end.recv
        if self._make_readable is not None and at_once is not None:
            readable = self._make_readable(end)
            receive = at_once.recv
        self._deliver()  # what came with the answer to the greeting
        try:
            while True:
                if readable is not None:
                    readable.wait()
                try:
                    data = receive(READ_SIZE)
                except (BlockingIOError, TimeoutError):
                    continue  # another thread asks after a server that is silent
                self._feed(data)
                self._deliver()
        finally:
            if readable is not None:
                readable.close()

    def _feed(self, data: bytes) -> None:
        if not data:
            raise ConnectionResetError("it has closed the connection")
        self._reader.feed(data)

    def _deliver(self) -> None:
        """All that has been read."""
        calls, on_push, confirmation = self._calls, self._on_push, self._confirmation
        self.is_delivering = True
        for reply in iter(self._reader.gets, _NOTHING):
            if type(reply) is not PushNotification:
                calls.answer(reply)
            elif confirmation and reply[0] == confirmation:
                calls.confirm()
            else:
                try:
                    on_push(reply)
                except Exception:
                    log.exception("%s", self._title)
        self.heard()
        self.is_delivering = False

    def _push(self, push: list[Reply]) -> None:
        try:
            self._on_push(push)
        except Exception:
            log.exception("%s", self._title)
