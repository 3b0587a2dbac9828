"""Protocols that take notes for the access log: what was asked, since when, and what it was
answered.

The protocol alone knows which bytes answer which request, and the refusals that it gives by itself.
It knows no clock, so these subclasses stand outside `protocols/`.
"""

from __future__ import annotations

import copyreg
from time import monotonic
from typing import Any

from gworker.errors import ProtocolError
from gworker.http.request import Request
from gworker.protocols.http.events import RequestStarted
from gworker.protocols.http.head_buffer import HeadProtocol
from gworker.protocols.http.protocol import HttpProtocol

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"

MAX_PARTIAL = 2048
"""Bytes of a head that did not become whole which are kept for the log."""


def recording(notes: type[HeadNotes], protocol: type[HeadProtocol]) -> type[HeadProtocol]:
    """`protocol`, which may be a user's, with `notes` before it."""
    made = _made.get((notes, protocol))
    if made is None:
        made = _made[notes, protocol] = type(protocol.__name__, (notes, protocol), {})
    return made


_made: dict[tuple[type[HeadProtocol], type[HeadProtocol]], type[HeadProtocol]] = {}


def _blank(notes: type[HeadNotes], protocol: type[HeadProtocol]) -> HeadProtocol:
    cls = recording(notes, protocol)
    return cls.__new__(cls)


class Exchange:
    """A request and what became of it. `end`: where its answer ends among all bytes sent."""

    __slots__ = ("began", "end", "head", "is_streamed", "size", "status")

    def __init__(self, head: bytes, began: float) -> None:
        self.head = head
        self.began = began
        self.status = 0
        self.size = 0  # of the answer's body
        self.end = 0
        self.is_streamed = False  # its answer is sent in pieces, and has not ended


class HeadNotes(HeadProtocol):
    """Keeps the head, or as much of one as there was when it was refused."""

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self.head = b""

    def __reduce_ex__(self, version: Any) -> Any:
        """Pickle by the names of both classes: the one that was made of them has none."""
        reduced = super().__reduce_ex__(version)
        if reduced[0] is copyreg.__newobj__ and reduced[1] == (type(self),):  # type: ignore[attr-defined]  # typeshed lacks it
            return (_blank, type(self).__bases__, *reduced[2:])
        return reduced

    def _next_head(self) -> bytes | None:
        head = super()._next_head()
        if head is not None:
            self.head = head
        return head

    def _end(self) -> None:
        if not self.head:
            self.head = bytes(self._buffer[self._pos : self._pos + MAX_PARTIAL])
        super()._end()


class HttpNotes(HeadNotes, HttpProtocol):
    """Notes when a request began, and the answer that it got. `answered`: those that nobody has
    taken yet."""

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self.answered: list[Exchange] = []
        self.began = 0.0
        self.current: Exchange | None = None

    def receive_data(self, data: bytes) -> None:
        if not self.began:
            self.began = monotonic()
        super().receive_data(data)

    def next_event(self) -> Any:
        try:
            event = super().next_event()
        except ProtocolError as error:
            self._refused(error.reply)
            raise
        if isinstance(event, (Request, RequestStarted)):
            self.current = Exchange(self.head, self.began or monotonic())
            self.began = 0.0
            self.head = b""
        return event

    def encode(self, message: Any) -> bytes:
        data = super().encode(message)
        if self._head is None:  # the final answer was given
            self._answer(data)
        elif self.is_sending and self.current is not None:
            self.current.is_streamed = True
            self.current.status = message.status
            self.current.size = -len(data)  # what is written is added, and this is no content
        return data

    def split(self, message: Any) -> tuple[bytes, bytes] | None:
        pieces = super().split(message)
        if (
            pieces is not None and self.answered
        ):  # `encode` has made the head, and that is all it knows
            self.answered[-1].size += len(pieces[1])
        return pieces

    def end_answer(self) -> bytes:
        data = super().end_answer()
        exchange, self.current = self.current, None
        if exchange is not None:
            exchange.size += len(data)
            exchange.is_streamed = False
            self.answered.append(exchange)
        return data

    def upgrade(self, *arguments: Any) -> None:
        super().upgrade(*arguments)
        self._answer(SWITCHING)

    def refuse(self, error: ProtocolError) -> bytes:
        reply = super().refuse(error)
        if reply:
            self._answer(reply)
        return reply

    def close(self, code: int = 1000, reason: str = "") -> bytes:
        data = super().close(code, reason)
        if data:
            self._answer(data)
        return data

    def timed_out(self) -> bytes:
        reply = super().timed_out()
        self._refused(reply)
        return reply

    def _refused(self, reply: bytes) -> None:
        if reply:
            self.current = Exchange(self.head, self.began or monotonic())
            self._answer(reply)

    def _answer(self, data: bytes) -> None:
        exchange, self.current = self.current, None
        if exchange is not None:
            exchange.status = int(data[9:12])
            exchange.size = len(data) - data.find(b"\r\n\r\n") - 4
            self.answered.append(exchange)
