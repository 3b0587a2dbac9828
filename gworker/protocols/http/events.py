"""HTTP exchanges that take several steps: their events and their state.

A body that is read in pieces, an answer that is sent in pieces, an upgrade to WebSocket. The driver
of the protocol acts on the events (`gworker.connection.http_exchange`). A plain request and its
answer have neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gworker.http.request import Callbacks, Request
from gworker.protocols.base import HttpEvent

if TYPE_CHECKING:
    from gworker.http.streaming import StreamedBody
    from gworker.protocols.base import Protocol

# Bytes of an unread body that are read and dropped after the answer. With more to come the
# connection ends.
MAX_DRAIN = 65536


class RequestStarted(HttpEvent):
    """A request whose body is to be read from the protocol's `take_body`, that has a form with
    files, or that may upgrade."""

    __slots__ = ("request",)

    def __init__(self, request: Request) -> None:
        super().__init__("on_message")
        self.request = request


class ResponseStarted(HttpEvent):
    """An answer whose head was encoded: its parts go through `encode_part`, then `end_answer`."""

    __slots__ = ("body",)

    def __init__(self, body: StreamedBody) -> None:
        super().__init__("the stream of an answer")
        self.body = body


class Upgraded(HttpEvent):
    """From here on the connection is a WebSocket, opened by `request`."""

    __slots__ = ("callbacks", "request")

    def __init__(self, request: Request, callbacks: Callbacks) -> None:
        super().__init__("upgrade")
        self.request = request
        self.callbacks = callbacks


@dataclass(slots=True, eq=False)
class HttpExchange:
    begun: bytes = b""  # the part of the body that came before it was known to be long
    expects: bool = False  # the client waits for 100 (Continue)
    offer: Request | None = None  # in progress, and may be upgraded
    outgoing: StreamedBody | None = None
    event: HttpEvent | None = None  # to be returned by `next_event`
    keep: bool = False  # the connection stays after the answer
    left: int | None = None  # bytes that the answer lacks; None: its length is not known
    seen: int = 0  # bytes that the peer had taken, when the connection was to close
    socket: Protocol | None = None  # what it was upgraded to
    waiter: Callable[[], None] | None = None  # called when anything happens
    ended: Callable[[], None] | None = None  # called when the exchange is over

    def abort(self) -> None:
        if self.outgoing is not None and self.event is not None:
            self.outgoing.close()  # the driver has not got it
        if self.waiter is not None:
            self.waiter()
        if self.ended is not None:
            self.ended()
