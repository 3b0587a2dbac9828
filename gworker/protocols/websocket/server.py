"""websocket: the server's end of RFC 6455.

A frame that is whole in the buffer takes the short way through `next_event`; anything else goes
frame by frame (`machine`).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, SupportsIndex

from gworker.core import apply_mask, register_framing
from gworker.core.status import CLOSE
from gworker.errors import ProtocolError
from gworker.http.errors import BadRequest, RefusedRequest
from gworker.http.headers import Headers, HeaderSource
from gworker.http.request import Request
from gworker.http.response import Response
from gworker.http.upgrade import (
    EXTENSIONS,
    SUBPROTOCOL,
    accept_of,
    check_upgrade,
    offered_subprotocols,
)
from gworker.protocols.base import EOF, INTERNAL_ERROR, NEED_DATA, Handshake
from gworker.protocols.buffered import wrong_type
from gworker.protocols.http.head import parse_head
from gworker.protocols.http.response import FAILED, PLAIN, encode_response
from gworker.protocols.websocket.deflate import Deflate
from gworker.protocols.websocket.extensions import answer_offers
from gworker.protocols.websocket.frames import BINARY, FIN, TEXT, frame, header
from gworker.protocols.websocket.machine import Phase, WebSocketMachine
from gworker.protocols.websocket.message import not_utf8
from gworker.protocols.websocket.opening import of_opening
from gworker.protocols.websocket.options import DEFAULT_COMPRESSION, Origins

_HANDSHAKE, _DECIDING, _OPEN, _CLOSING, _ENDED, _OVER = Phase
_FINAL_TEXT, _FINAL_BINARY = FIN | TEXT, FIN | BINARY
_FINAL_DATA = (_FINAL_TEXT, _FINAL_BINARY)
# The fields of the 101 that are not the application's.
_OURS = frozenset(
    {"connection", "upgrade", "sec-websocket-accept", "content-length", "transfer-encoding"}
)


class WebSocketProtocol(WebSocketMachine):
    __slots__ = ()

    reconnects_at_once = True
    peer_masks = True
    _frame = staticmethod(frame)
    _request: Any = of_opening("_request", None)

    def __reduce_ex__(self, version: SupportsIndex) -> Any:
        # What pickle(3) copies. Thousands of idle WebSockets move at once, so their copies are
        # small.
        if self._phase is _OPEN and not self._buffer and self._message is None and not self._output:
            return WebSocketProtocol._opened, (
                self.max_package_size,
                self.closing,
                self.subprotocol,
                self._deflate,
            )
        return super().__reduce_ex__(version)

    @classmethod
    def _opened(
        cls, max_package_size: int, closing: bool, subprotocol: str, deflate: Deflate | None
    ) -> WebSocketProtocol:
        # One that is open, as it was in another process.
        protocol = cls(max_package_size)
        protocol.closing = closing
        protocol.subprotocol = subprotocol
        protocol._deflate = deflate
        protocol._begin()
        return protocol

    has_pending: Any = WebSocketMachine.has_pending  # the property, whatever mypy takes it for

    def next_event(self) -> object:
        buffer = self._buffer
        if (
            not buffer
            and not self._ended
            and self._message is None
            and self._phase is not _DECIDING
        ):
            return NEED_DATA
        pos = self._pos
        size = len(buffer) - pos
        # The short way: a final data frame, masked, all here, and no message is under way.
        if (
            size >= 6
            and self._phase is _OPEN
            and self._message is None
            and (first := buffer[pos]) in _FINAL_DATA
        ):
            length = buffer[pos + 1] - 0x80
            if length > 125:
                payload = self._take_large(pos)
            elif 0 <= length <= size - 6 and length <= self.max_package_size:
                stop = pos + 6 + length
                payload = apply_mask(buffer[pos + 6 : stop], buffer[pos + 2 : pos + 6])
                if length + 6 == size:
                    self._buffer = b""
                    self._pos = 0
                else:
                    self._consume(stop)
            else:
                payload = None
            if payload is not None:
                if first == _FINAL_BINARY:
                    return payload
                try:
                    return payload.decode()
                except UnicodeDecodeError as error:
                    raise self._refuse(not_utf8(error)) from error
        return WebSocketMachine.next_event(self)

    def _take_large(self, pos: int) -> bytes | None:
        # The payload of a frame of more than 125 bytes; None if it is not all here, or anything is
        # wrong with it.
        buffer = self._buffer
        size_of_length, smallest = (2, 126) if buffer[pos + 1] == 0xFE else (8, 0x10000)
        start = pos + 2 + size_of_length + 4
        length = int.from_bytes(buffer[pos + 2 : start - 4])
        stop = start + length
        if not smallest <= length <= self.max_package_size or stop > len(buffer):
            return None
        payload = apply_mask(memoryview(buffer)[start:stop], buffer[start - 4 : start])
        self._consume(stop)
        return payload

    def encode(self, message: object) -> bytes:
        # The short way: text, and nothing to compress it with.
        if message.__class__ is str and self._phase is _OPEN and self._deflate is None:
            return frame(_FINAL_TEXT, message.encode())
        return WebSocketMachine.encode(self, message)

    def split(self, message: object) -> tuple[bytes, bytes] | None:
        if type(message) is not bytes or self._phase is not _OPEN or self._deflate is not None:
            return None
        return header(_FINAL_BINARY, len(message), masked=False), message

    # --- the opening handshake

    def _read_opening(self) -> object:
        raw = self._next_head()
        if raw is None:
            return EOF if self._ended else NEED_DATA
        self.raw_head = raw
        request = Request(raw, origin=self.origin)
        parse_head(raw, self.max_package_size)
        check_upgrade(request.method, request.version, request.headers)
        _check_origin(request, self._options.get("origins"))
        self._request = request
        self._phase = _DECIDING
        return Handshake(request)

    def accept_handshake(self, headers: HeaderSource = ()) -> None:
        """Answer with 101 and `headers`; what was encoded before follows it."""
        request = self._undecided()
        fields = Headers(headers)
        subprotocol = self._agree_on_subprotocol(request, fields)
        if EXTENSIONS in fields:
            raise ValueError(
                f"the handshake sets {EXTENSIONS} itself: see the option compression of a Worker"
            )
        wanted = self._options.get("compression", DEFAULT_COMPRESSION)
        offers = request.headers.get(EXTENSIONS)
        deflate = None
        if wanted is not None and offers:
            deflate, extensions = answer_offers(offers, wanted)
            if extensions:
                fields[EXTENSIONS] = extensions
        answer = _switching_protocols(request, fields)
        request.forget()
        self.subprotocol = subprotocol
        self._deflate = deflate
        self._begin()  # what it forgets `connection.request` has
        self._output = answer + bytes(self._output)
        self.has_output = True

    def choose_subprotocol(self, name: str) -> None:
        """Agree to this one of those that the client offers. ValueError if it is none; only before
        the answer."""
        offered = offered_subprotocols(self._undecided().headers)
        if name and name not in offered:
            raise ValueError(
                f"the client does not offer the subprotocol {name!r}, but "
                f"{', '.join(offered) or 'none'}"
            )
        self.subprotocol = name

    def _agree_on_subprotocol(self, request: Request, fields: Headers) -> str:
        # The one to be used; `fields` then says so. The application's word counts before the
        # Worker's list.
        given = fields.get_all(SUBPROTOCOL)
        if len(given) > 1:
            raise ValueError(f"the answer to a handshake has one {SUBPROTOCOL}, not {len(given)}")
        if given or self.subprotocol:
            self.choose_subprotocol(given[0] if given else self.subprotocol)
            chosen = self.subprotocol
        else:
            offered = offered_subprotocols(request.headers)
            chosen = next(
                (name for name in self._options.get("subprotocols", ()) if name in offered), ""
            )
        if chosen:
            fields[SUBPROTOCOL] = chosen
        return chosen

    def refuse_handshake(self, message: Response | None = None) -> None:
        """Answer with `message`, or a plain 403, and end."""
        self._undecided()
        if message is None:
            message = Response("the server refuses this WebSocket\n", 403, content_type=PLAIN)
        if not isinstance(message, Response):
            raise wrong_type(message, "websocket", "a Response as refusal")
        self._output = encode_response(message, CLOSE)
        self.has_output = True
        self._end()

    def refuse(self, error: ProtocolError) -> bytes | None:
        # The request that opens it is HTTP; no message is.
        if self._phase is not _DECIDING:
            return None
        self._end()
        return error.reply

    def _undecided(self) -> Request:
        request: Request | None = self._request
        if self._phase is not _DECIDING or request is None:
            raise RuntimeError(
                "there is no handshake to answer: none has come, or it was answered already"
            )
        return request

    def timed_out(self) -> bytes:
        if self._phase is not _HANDSHAKE:
            return b""
        has_begun = bool(self._buffer)
        self._end()
        late = RefusedRequest("the handshake did not arrive in time", 408)
        return late.reply if has_begun else b""

    @property
    def encoding(self) -> Hashable:
        deflate = self._deflate
        if self._phase is not _OPEN or (deflate is not None and not deflate.agreement.forgets):
            return None
        return WebSocketProtocol if deflate is None else deflate.agreement[:4]  # our side of it

    def close(self, code: int = 1000, reason: str = "") -> bytes:
        # Return our Close frame; while the handshake is not decided, the refusal.
        if self._phase is not _DECIDING:
            return super().close(code, reason)
        self.check_close(code, reason)
        failed = Response(FAILED, 500, content_type=PLAIN)
        self.refuse_handshake(failed if code == INTERNAL_ERROR else None)
        return self.data_to_send()


def _check_origin(request: Request, allowed: Origins | None) -> None:
    # Whether a page of this origin may open a WebSocket here (RFC 6455 section 10.2). A request
    # without Origin does not come from a page: a client that can leave it out can write anything
    # into it.
    origins = request.headers.get_all("Origin")
    if allowed is not None and origins and (len(origins) > 1 or not allowed.allow(origins[0])):
        raise BadRequest(
            f"the origin {', '.join(origins)[:200]} may not open a WebSocket here", 403
        )


def _switching_protocols(request: Request, fields: Headers) -> bytes:
    taken = _OURS.intersection(name.lower() for name in fields)
    if taken:
        raise ValueError(f"the handshake sets {', '.join(sorted(taken))} itself")
    accept = accept_of(request.headers["Sec-WebSocket-Key"].encode())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, fields.encode())
    )


register_framing("websocket", WebSocketProtocol, is_open=_OPEN)
