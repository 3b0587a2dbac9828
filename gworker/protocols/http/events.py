"""Exchanges of HTTP that are more than one message for another: what they need, and the events that
tell of them.

A body that is read in pieces, an answer that is sent in pieces, a switch to WebSocket. The driver
of the protocol acts on the events (`gworker.connection.http_exchange`); a plain request and its
answer know nothing of this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gworker.http.request import Callbacks, Request
from gworker.protocols.base import HttpEvent

if TYPE_CHECKING:
    from gworker.http.streaming import StreamedBody
    from gworker.protocols.base import Protocol

# Bytes of a body that nobody has read which are read after the answer; with more to come the
# connection ends.
MAX_DRAIN = 65536


class RequestStarted(HttpEvent):
    """A request whose body is still to be read, from the protocol's `take_body`; or with files, or
    that may upgrade."""

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


class HttpExchange:
    """What a long exchange has to remember."""

    __slots__ = (
        "begun",
        "ended",
        "event",
        "expects",
        "keep",
        "left",
        "offer",
        "outgoing",
        "seen",
        "socket",
        "waiter",
    )

    def __init__(self) -> None:
        self.begun = b""  # of the body, which has come before it was known to be long
        self.expects = False  # the client waits for 100 (Continue)
        self.offer: Request | None = None  # in progress, and may be upgraded
        self.outgoing: StreamedBody | None = None
        self.event: HttpEvent | None = None  # not told yet
        self.keep = False  # the connection stays after the answer
        self.left: int | None = None  # of an answer whose length was told; None: chunked
        self.seen = 0  # bytes that the peer had taken, when the connection was to close
        self.socket: Protocol | None = None  # what it was upgraded to
        self.waiter: Callable[[], None] | None = None  # told when anything happens
        self.ended: Callable[[], None] | None = None  # told when the exchange is over
