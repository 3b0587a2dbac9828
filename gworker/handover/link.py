"""One end of the line between a process that hands connections over and one that takes them.

A SOCK_SEQPACKET pair keeps messages whole; its end-of-file tells each side of the other's death
(unix(7)).
"""

from __future__ import annotations

import _socket
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gworker.ipc import fd_socket
from gworker.ipc.fd_socket import Message
from gworker.system.epoll import READ

if TYPE_CHECKING:
    from gworker.connection.connection import Connection
    from gworker.connection.migration import Deferred
    from gworker.messages.handover.departure import Departure, Wait
    from gworker.messages.handover.moved import Moved

log = logging.getLogger("gworker")

# The version of what `freeze` makes. A receiver refuses every other one.
VERSION = 7

# Connections per message, of which the kernel lets 253 descriptors through (unix(7)). A small batch
# keeps each connection waiting for as long only as it takes to pack and unpack 64.
BATCH = 64

MAX_MESSAGE = 131072

# Characters of why a connection cannot travel; JSON makes up to six bytes of each.
MAX_REASON = 200


@dataclass(slots=True)
class Batch:
    """Connections on their way. `memory`: the file that holds `size` bytes of what was packed of
    them.

    refused: those that the receiver has not taken, and why, by their places. wait: until the
    channels of the others are marked. owed: what follows them, once they have parted.
    """

    connections: list[Connection] = field(default_factory=list)
    packed: list[bytes] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    size: int = 0
    memory: int = -1
    refused: dict[int, str] = field(default_factory=dict)
    wait: Wait | None = None
    owed: Owed | None = None
    is_parting: bool = False

    @property
    def taken(self) -> list[Connection]:
        return [each for place, each in enumerate(self.connections) if place not in self.refused]


class Owed(NamedTuple):
    """deferred: what was asked of connections while they were on their way. moved: what they are
    members of; None: there are no messages."""

    deferred: list[Deferred]
    moved: Moved | None


class Group(NamedTuple):
    """Connections that are about to go. wait: until their channels are marked."""

    connections: list[Connection]
    wait: Wait


class Link:
    """One end of the pair. Never blocks.

    on_message: called with the link, a message (None at the end) and its descriptors.
    """

    def __init__(
        self,
        loop: Any,
        descriptor: int,
        on_message: Callable[[Link, Message | None, list[int]], None],
    ) -> None:
        self._socket = _socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._on_message = on_message
        self._watcher: Any = loop.io(descriptor, READ)
        self._watcher.start(self._on_readable)
        # How many connections the receiver still takes; None: it has not said so, or is dead.
        self.room: int | None = None
        self.preparing: deque[Group] = deque()
        self.prepared: OrderedDict[int, Connection] = OrderedDict()  # by id
        self.unanswered: deque[Batch] = deque()
        self.answered: deque[Batch] = deque()  # whose connections have not parted
        self.departure: Departure | None = None  # None: there are no messages

    @property
    def is_busy(self) -> bool:
        """True while connections are about to go over it, or on their way."""
        return bool(self.preparing or self.prepared or self.unanswered or self.answered)

    @property
    def room_left(self) -> int:
        """Room for those that are not prepared yet."""
        about_to_go = sum(len(each.connections) for each in self.preparing) + len(self.prepared)
        return (self.room or 0) - about_to_go

    def send(self, message: Message, descriptors: list[int]) -> None:
        """Send one message. Raises OSError."""
        fd_socket.send_message(self._socket, message, descriptors)

    def tell(self, message: Message) -> None:
        """Send what the other side can live without."""
        try:
            self.send(message, [])
        except OSError as error:
            log.debug("handover: %s", error.strerror)

    def _on_readable(self) -> None:
        try:
            message, descriptors = fd_socket.receive_message(self._socket, MAX_MESSAGE, BATCH + 1)
        except BlockingIOError:
            return
        self._on_message(self, message, descriptors)

    def callback_failed(self) -> None:
        # See `loop_errors`: the message that could not be handled is read, and the next one may be
        # fine.
        if self._socket.fileno() >= 0:
            self._watcher.start(self._on_readable)

    def close(self) -> None:
        if self.departure is not None:
            self.departure.end()
            self.departure = None
        self._watcher.stop()
        self._watcher.close()
        self._socket.close()
