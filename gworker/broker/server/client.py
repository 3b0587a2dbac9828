"""One link of a process to the broker process: what it sends, and what waits for it."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from hiredis import Reader

from gworker.broker import resp
from gworker.broker.interface import MAX_BODY

# Bytes that may wait for a client. One that does not read is cut, and comes back.
MAX_WAITING = 16 << 20

# Bytes that wait for a client whose next command is done when it has read them. So it does not get
# replies faster than it reads; what is published comes on top.
MAX_REPLIES = 4 << 20

# Bytes of one command. A client that exceeds them is cut.
MAX_COMMAND = 4 * MAX_BODY

_NOTHING = object()  # no whole command has been read yet


class Client:
    """process: its name; b"" until it has said hello. operations: what it may ask for, by their
    names in commands.

    heard: when it has said something, by the monotonic clock. channels: what it subscribes to.
    outgoing: what has to be written, of this turn. waiting: bytes of turns before. is_touched: it
    has its part in this turn. is_blocked: the kernel takes nothing. is_held: it has to read before
    its next command is done.
    """

    __slots__ = (
        "_reader", "_unsent", "channels", "heard", "is_blocked", "is_ended", "is_held",
        "is_touched", "operations", "outgoing", "process", "socket", "waiting",
    )  # fmt: skip

    def __init__(
        self, end: socket.socket, operations: Mapping[bytes, Callable[..., bytes]]
    ) -> None:
        self.socket = end
        self.operations = operations
        self.process = b""
        self.heard = time.monotonic()
        self.channels: set[bytes] = set()
        self.outgoing: list[bytes] = []
        self.waiting = 0
        self.is_touched = self.is_blocked = self.is_held = self.is_ended = False
        self._reader: Any = Reader(notEnoughData=_NOTHING)
        self._unsent: deque[bytes | memoryview] = deque()

    def read(self, buffer: bytearray) -> int:
        """Read what it has sent. 0 at its end. Raises OSError."""
        size = self.socket.recv_into(buffer)
        self.heard = time.monotonic()
        self._reader.feed(buffer, 0, size)
        return size

    def do_commands(self) -> None:
        """Do what it has asked for, until it is held. Raises ValueError and others if what it sends
        is no command, or too long."""
        answers = self.outgoing
        size = self.waiting
        for command in iter(self._reader.gets, _NOTHING):
            operation = self.operations.get(command[0])
            if operation is None:
                answer = resp.error(f"no operation: {command[0]!r}")
            else:
                answer = operation(self, *command[1:])
            answers.append(answer)
            size += len(answer)
            if size > MAX_REPLIES:
                self.is_held = True
                return
        if self._reader.len() > MAX_COMMAND:
            raise ValueError(f"more than {MAX_COMMAND} bytes")

    def write(self) -> None:
        """Write what the kernel takes. Raises OSError."""
        unsent = self._unsent
        if self.outgoing:
            data = b"".join(self.outgoing)
            self.outgoing.clear()
            unsent.append(data)
            self.waiting += len(data)
        while unsent and not self.is_blocked:
            try:
                sent = self.socket.send(unsent[0])
            except BlockingIOError:
                self.is_blocked = True
            else:
                self.waiting -= sent
                rest = memoryview(unsent.popleft())[sent:]
                if rest:
                    unsent.appendleft(rest)
