"""websocket: RFC 6455, the server's side, without extensions.

    HANDSHAKE ── request ──► DECIDING ── accept ──► OPEN ── close() ──► CLOSING
        │                       │ refuse             │ Close frame,         │ Close frame,
        │ EOF, error            ▼                    ▼ EOF, error           ▼ EOF, error
        └───────────────────► OVER ◄── close() ── ENDED                    OVER

In CLOSING we have sent our Close frame: data from the peer is dropped, its Close frame is awaited.
In ENDED the peer is done but we are not: the answers to its last messages may still be encoded, then
`close()` returns the echo of its Close frame, so that nothing ever follows that.

A frame that is whole in the buffer takes the short way through `next_event`; anything else goes frame
by frame through `PartialMessage`.
"""

from __future__ import annotations

from typing import Any, SupportsIndex

from gworker.errors import ProtocolError
from gworker.http.response import Response
from gworker.protocols.base import EOF, NEED_DATA, PAUSED
from gworker.protocols.buffered import wrong_type
from gworker.protocols.http_response import FAILED, PLAIN
from gworker.protocols.websocket_frames import (
    ABNORMAL,
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    PROTOCOL_VIOLATION,
    TEXT,
    TOO_BIG,
    Violation,
    check_first_byte,
    close_frame,
    control_frame,
    data_frame,
    echo_frame,
    header_size,
    parse_close,
    read_length,
)
from gworker.protocols.websocket_mask import apply_mask
from gworker.protocols.websocket_message import PartialMessage, not_utf8
from gworker.protocols.websocket_opening import OpeningProtocol, Phase

OUR_FAULT = 1011

_HANDSHAKE, _DECIDING, _OPEN, _CLOSING, _ENDED, _OVER = Phase
_FINAL_BINARY = FIN | BINARY
_FINAL_DATA = (FIN | TEXT, _FINAL_BINARY)


class WebSocketProtocol(OpeningProtocol):
    """Messages are str (text) and bytes (binary); sends str as text, bytes-like objects as binary.

    close_code, close_reason: what the peer's Close frame said; 1005 if it gave no code, 1006 if the
    connection ended without one, 0 while it lives.
    """

    __slots__ = ("_message", "close_code", "close_reason")

    name = "websocket"
    comes_back = True

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self.close_code = 0
        self.close_reason = ""
        self._message: PartialMessage | None = None

    def __reduce_ex__(self, version: SupportsIndex) -> Any:
        """What pickle(3) copies. Thousands of idle WebSockets move at once, so their copies are small."""
        if self._phase is _OPEN and not self._buffer and self._message is None and not self._output:
            return _open, (self.max_package_size, self.closing)
        return super().__reduce_ex__(version)

    # --- reading

    def unfinished(self, received: int) -> int | None:
        # Frames of a message in fragments are taken out of the buffer as they come, pings between them as well.
        return super().unfinished(received) if self._message is None else -id(self._message)

    def next_event(self) -> Any:
        buffer = self._buffer
        if not buffer and not self._ended and self._phase is not _DECIDING:
            return NEED_DATA
        pos = self._pos
        size = len(buffer) - pos
        try:
            # The short way: a small final data frame, masked, all here, and no message is under way.
            if size >= 6 and self._phase is _OPEN and self._message is None:
                first = buffer[pos]
                length = buffer[pos + 1] - 0x80
                if first in _FINAL_DATA and 0 <= length < 126 and length + 6 <= size:
                    if length > self.max_package_size:
                        self._check_size(length)
                    stop = pos + 6 + length
                    payload = apply_mask(buffer[pos + 6 : stop], buffer[pos + 2 : pos + 6])
                    if length + 6 == size:
                        self._buffer = b""
                        self._pos = 0
                    else:
                        self._consume(stop)
                    return payload if first == _FINAL_BINARY else payload.decode()
            return self._advance()
        except Violation as violation:
            raise self._refuse(violation) from violation
        except UnicodeDecodeError as error:
            raise self._refuse(not_utf8(error)) from error
        except ProtocolError:  # of the handshake, with its reply
            self._end()
            raise

    def _advance(self) -> Any:
        if self._phase is _HANDSHAKE:
            return self._read_handshake()
        if self._phase is _DECIDING:
            return PAUSED
        event = None
        while event is None:
            message = self._message
            if not self._buffer:
                event = self._need()
            elif message is not None and message.left:
                event = self._read_payload(message)
            else:
                event = self._read_frame()
        return event

    def _need(self) -> Any:
        """More bytes are needed for anything to happen."""
        if self._ended and (self._phase is _OPEN or self._phase is _CLOSING):
            self.close_code = ABNORMAL
            self._end()
        return self._wait()

    def _read_frame(self) -> Any:
        """Return an event, or None to go on with what follows. An incomplete header changes nothing."""
        buffer, pos = self._buffer, self._pos
        first = buffer[pos]
        opcode = check_first_byte(first)
        self._check_order(opcode)
        length = read_length(buffer, pos)
        if length is None:
            return self._need()
        if opcode >= CLOSE:
            return self._read_control(opcode, length)
        self._check_size(length)
        start = pos + header_size(length)
        if start > len(buffer):
            return self._need()
        if self._message is None and first >= FIN and self._phase is _OPEN and start + length <= len(buffer):
            payload = self._unmasked(start, length)
            return payload if opcode == BINARY else payload.decode()
        if self._message is None:
            self._message = PartialMessage(opcode == TEXT, dropped=self._phase is _CLOSING)
        self._message.begin_frame(first >= FIN, length, bytes(buffer[start - 4 : start]))
        self._consume(start)
        return self._read_payload(self._message)

    def _check_order(self, opcode: int) -> None:
        """RFC 6455 section 5.4: only control frames may come between the fragments of a message."""
        if opcode == CONTINUATION and self._message is None:
            raise Violation(PROTOCOL_VIOLATION, "continuation of no message")
        if opcode in (TEXT, BINARY) and self._message is not None:
            raise Violation(PROTOCOL_VIOLATION, "a new message within a fragmented one")

    def _check_size(self, length: int) -> None:
        """Judge from the header alone, before any of the payload is kept."""
        before = len(self._message.data) if self._message else 0
        if before + length > self.max_package_size and self._phase is _OPEN:
            raise Violation(TOO_BIG, f"message longer than {self.max_package_size} bytes")

    def _unmasked(self, start: int, length: int) -> bytes:
        """Take the payload of a frame that is all here."""
        stop = start + length
        with memoryview(self._buffer) as view:
            payload = apply_mask(view[start:stop], bytes(view[start - 4 : start]))
        self._consume(stop)
        return payload

    def _read_payload(self, message: PartialMessage) -> Any:
        """Take what is here of the current frame's payload."""
        pos = self._pos
        with memoryview(self._buffer) as view, view[pos : pos + message.left] as part:
            stop = pos + len(part)
            message.add(part)
        self._consume(stop)
        if message.left:
            return self._need()
        if not message.is_final:
            return None
        self._message = None
        return None if message.dropped else message.result()

    def _read_control(self, opcode: int, length: int) -> Any:
        start = self._pos + header_size(length)
        if start + length > len(self._buffer):
            return self._need()
        payload = self._unmasked(start, length)
        if opcode == CLOSE:
            return self._read_close(payload)
        if opcode == PING:
            self._owe(control_frame(PONG, payload))
        return None

    def _read_close(self, payload: bytes) -> Any:
        self.close_code, self.close_reason = parse_close(payload)
        self._end()
        return EOF

    def _refuse(self, violation: Violation) -> ProtocolError:
        """RFC 6455 section 7.1.7, fail the connection: with a Close frame, if none of ours went before."""
        reply = self.data_to_send()
        if self._phase is _OPEN:
            reply += close_frame(violation.code, str(violation))
        self.close_code = ABNORMAL
        self._end()
        return ProtocolError(str(violation), reply)

    def _end(self) -> None:
        super()._end()
        self._message = None

    @property
    def says_goodbye(self) -> bool:
        return self._phase is _CLOSING

    # --- writing

    def encode(self, message: Any) -> bytes:
        """Return a frame; before the handshake is accepted it is held back, and b"" returned."""
        if isinstance(message, str):
            frame = data_frame(TEXT, message.encode())
        elif isinstance(message, (bytes, bytearray)):
            frame = data_frame(BINARY, message)
        elif isinstance(message, memoryview):
            frame = data_frame(BINARY, bytes(message))
        else:
            raise wrong_type(message, self.name, "str (text), bytes, bytearray or memoryview (binary)")
        if self._phase is _OPEN or self._phase is _ENDED:
            return frame
        if self._phase is _CLOSING or self._phase is _OVER:
            raise RuntimeError("the WebSocket is closed: no message may follow a Close frame")
        self._output = bytearray(self._output) + frame
        return b""

    def ping(self, payload: bytes = b"") -> bytes:
        """Return a Ping frame; b"" unless the WebSocket is open. At most 125 bytes."""
        return control_frame(PING, payload) if self._phase is _OPEN else b""

    def _owe(self, frame: bytes) -> None:
        # A bytearray, because one read may bring thousands of pings.
        if not self._output:
            self._output = bytearray()
        self._output += frame
        self.has_output = True

    def close(self, code: int = 1000, reason: str = "") -> bytes:
        """Return our Close frame, once: with `code` and `reason`, or the code that the peer gave first.

        Before the handshake is accepted this refuses it, and after the peer broke the rules or the
        line there is nothing to say. RFC 6455 section 5.5.1 lets the echo wait for our last message.
        ValueError for a code that may not be sent, or a reason of more than 123 bytes.
        """
        frame = close_frame(code, reason)
        if self._phase is _OPEN:
            self._phase = _CLOSING
            if self._message:
                self._message.drop()
            return frame
        if self._phase is _ENDED:
            self._phase = _OVER
            return echo_frame(self.close_code)
        if self._phase is _DECIDING:
            self.refuse_handshake(Response(FAILED, 500, content_type=PLAIN) if code == OUR_FAULT else None)
            return self.data_to_send()
        if self._phase is _HANDSHAKE:
            self._end()
        return b""


def _open(max_package_size: int, closing: bool) -> WebSocketProtocol:
    """One whose handshake is over, and that holds nothing."""
    protocol = WebSocketProtocol(max_package_size)
    protocol._phase = _OPEN
    protocol.closing = closing
    return protocol
