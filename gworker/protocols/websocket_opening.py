"""The opening handshake of a WebSocket (RFC 6455 section 4.2), and the phases of its life.

HANDSHAKE ── request ──► DECIDING ── accept ──► OPEN
    │                       │ refuse              │
    │ EOF, error            ▼                     ▼
    └───────────────────► OVER              websocket.py
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from gworker.http.headers import HeaderSource
from gworker.http.request import Request
from gworker.http.response import Response
from gworker.protocols.base import EOF, NEED_DATA, Handshake
from gworker.protocols.buffered import wrong_type
from gworker.protocols.http_head import parse_head
from gworker.protocols.http_reader import HeadProtocol
from gworker.protocols.http_response import CLOSE as CONNECTION_CLOSE
from gworker.protocols.http_response import PLAIN, encode_response, refusal
from gworker.protocols.websocket_handshake import check_request, switching_protocols


class Phase(Enum):
    HANDSHAKE = "handshake"
    DECIDING = "deciding"
    OPEN = "open"
    CLOSING = "closing"
    ENDED = "ended"
    OVER = "over"


_HANDSHAKE, _DECIDING, _OPEN, _CLOSING, _ENDED, _OVER = Phase


class OpeningProtocol(HeadProtocol):
    """The half of `WebSocketProtocol` that reads a request and answers it."""

    __slots__ = ("_output", "_phase", "_request")

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self._phase = _HANDSHAKE
        self._request: Request | None = None  # while its handshake is not decided
        self._output: bytes | bytearray = b""

    def _read_handshake(self) -> Any:
        raw = self._next_head()
        if raw is None:
            return EOF if self._ended else NEED_DATA
        request = Request(raw)
        check_request(parse_head(raw, self.max_package_size), request)
        self._request = request
        self._phase = _DECIDING
        return Handshake(request)

    @property
    def is_answering(self) -> bool:
        return self._phase is _DECIDING

    def accept_handshake(self, headers: HeaderSource = ()) -> None:
        """Answer with 101 and `headers`; what was encoded before follows it."""
        request = self._undecided()
        answer = switching_protocols(request, headers)
        request.forget()
        self._request = None
        self._phase = _OPEN
        self._output = answer + bytes(self._output)
        self.has_output = True

    def refuse_handshake(self, message: Response | None = None) -> None:
        """Answer with `message`, or a plain 403, and end."""
        self._undecided()
        if message is None:
            message = Response("the server refuses this WebSocket\n", 403, content_type=PLAIN)
        if not isinstance(message, Response):
            raise wrong_type(message, "websocket", "a Response as refusal")
        self._output = encode_response(message, CONNECTION_CLOSE)
        self.has_output = True
        self._end()

    def _undecided(self) -> Request:
        if self._request is None:
            raise RuntimeError("there is no handshake to answer: none has come, or it was answered already")
        return self._request

    def _end(self) -> None:
        """The end of reading. What is owed is kept."""
        self._phase = _ENDED if self._phase is _OPEN else _OVER
        self._request = None
        self._buffer = b""
        self._pos = 0
        self._ended = True

    def data_to_send(self) -> bytes:
        if not self.has_output:
            return b""
        data = bytes(self._output)
        self._output = b""
        self.has_output = False
        return data

    def waiting_for(self) -> Literal["", "handshake", "header", "body"]:
        return "handshake" if self._phase is _HANDSHAKE else ""

    def timed_out(self) -> bytes:
        if self._phase is not _HANDSHAKE:
            return b""
        has_begun = bool(self._buffer)
        self._end()
        return refusal(408, "the handshake did not arrive in time").reply if has_begun else b""
