"""What both ends of a WebSocket have in common (RFC 6455): frames, messages, and how it ends.

`server` and `client` add their opening handshakes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import ClassVar, Literal, NamedTuple

from gworker.core import ReceiveBuffer, apply_mask
from gworker.errors import ProtocolError, SendBufferFull
from gworker.http.json import to_json
from gworker.protocols.base import EOF, MORE, PAUSED, STEPS
from gworker.protocols.buffered import wrong_type
from gworker.protocols.http.head import HeadProtocol
from gworker.protocols.websocket.deflate import Deflate
from gworker.protocols.websocket.frames import (
    ABNORMAL,
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    MAX_CONTROL,
    NO_CODE,
    PING,
    PONG,
    PROTOCOL_VIOLATION,
    RESERVED,
    RSV1,
    TEXT,
    TOO_BIG,
    Violation,
    check_first_byte,
    close_payload,
    header_size,
    parse_close,
    read_length,
)
from gworker.protocols.websocket.message import PartialMessage, not_utf8
from gworker.protocols.websocket.opening import Opening, of_opening

# What cannot be compressed may become longer by an eighth, with the smallest blocks that a
# compressor makes.
COMPRESSED_SLACK = 3

# Bytes that may be sent, and are kept, before the handshake is over.
MOST_HELD = 1024 * 1024


class Ending(NamedTuple):
    """How a WebSocket has ended: see `WebSocketMachine`."""

    close_code: int = 0
    close_reason: str = ""
    farewell: tuple[int, str] = (0, "")  # of one whose peer was the first to say something


ALIVE = Ending()

# Where a WebSocket stands.
#
#     HANDSHAKE ──► DECIDING ──► OPEN ── close() ──► CLOSING
#         │            │           │ Close frame,       │ Close frame,
#         │            │           ▼ EOF, error         ▼ EOF, error
#         └────────────┴──► OVER ◄── close() ── ENDED  OVER
#
# A server decides about a request in DECIDING; a client has no such phase. In CLOSING our Close
# frame was sent: data from the peer is dropped, its Close frame is awaited. In ENDED the peer is
# done but we are not: the answers to its last messages may still be encoded, then `close()` returns
# the echo of its Close frame, so that nothing ever follows that.
Phase = Enum("Phase", ["HANDSHAKE", "DECIDING", "OPEN", "CLOSING", "ENDED", "OVER"])
_HANDSHAKE, _DECIDING, _OPEN, _CLOSING, _ENDED, _OVER = Phase


class WebSocketMachine(HeadProtocol):
    """Messages are str (text) and bytes (binary); sends str as text, bytes-like objects as binary.

    close_code, close_reason: what the peer's Close frame said; 1005 if it gave no code, 1006 if the
    connection ended without one, 0 while it lives. farewell: code and reason of ours, if that was
    the first.
    subprotocol: the one agreed on, "" without one. opening: None once it is open.
    """

    __slots__ = (
        "_deflate",
        "_ending",
        "_message",
        "_output",
        "_phase",
        "opening",
        "subprotocol",
    )

    name = "websocket"
    # Whether the peer is the client (section 5.1); and how a frame is written that begins with a
    # byte.
    peer_masks: ClassVar[bool]
    _frame: Callable[[int, bytes | bytearray], bytes]

    def __init__(self, max_package_size: int) -> None:
        super().__init__(max_package_size)
        self._phase = _HANDSHAKE
        self._message: PartialMessage | None = None
        self._output: bytes | bytearray = b""
        # How messages are compressed, if that was agreed on.
        self._deflate: Deflate | None = None
        self._ending = ALIVE
        self.subprotocol = ""
        self.opening: Opening | None = Opening()

    _options = of_opening("_options", {})
    _scanned = of_opening("_scanned", 0)
    origin = of_opening("origin", None)
    raw_head = of_opening("raw_head", b"")

    @property
    def close_code(self) -> int:
        return self._ending.close_code

    @property
    def close_reason(self) -> str:
        return self._ending.close_reason

    @property
    def farewell(self) -> tuple[int, str]:
        return self._ending.farewell

    def _begin(self) -> None:
        # It is open from now on.
        self._phase = _OPEN
        self.opening = None

    @abstractmethod
    def _read_opening(self) -> object: ...

    # --- reading

    has_pending = HeadProtocol.has_pending

    def next_event(self) -> object:
        try:
            return self._advance()
        except Violation as violation:
            raise self._refuse(violation) from violation
        except UnicodeDecodeError as error:
            raise self._refuse(not_utf8(error)) from error
        except ProtocolError:  # of the handshake, with its reply
            self._end()
            raise

    def _advance(self) -> object:
        if self._phase is _HANDSHAKE:
            return self._read_opening()
        if self._phase is _DECIDING:
            return PAUSED
        for _ in range(STEPS):
            message = self._message
            if message is not None and message.buffer is not None:
                event = self._read_payload(message)
            elif not self._buffer:
                event = self._need()
            elif message is not None and message.left:
                event = self._read_payload(message)
            else:
                event = self._read_frame()
            if event is not None:
                return event
        return MORE

    def _need(self) -> object:
        if self._ended and (self._phase is _OPEN or self._phase is _CLOSING):
            self._ending = self._ending._replace(close_code=ABNORMAL)
            self._end()
        return self._wait()

    @property
    def receive_buffer(self) -> ReceiveBuffer | None:
        return None if self._message is None else self._message.buffer

    def message_start(self, received: int) -> int | None:
        # Frames of a message in fragments are taken out of the buffer as they come, pings between
        # them as well.
        if self._message is not None:
            return self._message.noticed(received)
        return super().message_start(received)

    def _read_frame(self) -> object:
        # An event, or None to go on with what follows. An incomplete header changes nothing.
        buffer, pos = self._buffer, self._pos
        first = buffer[pos]
        opcode = check_first_byte(first, RESERVED if self._deflate is None else RESERVED & ~RSV1)
        self._check_order(opcode)
        length = read_length(buffer, pos, self.peer_masks)
        if length is None:
            return self._need()
        if opcode >= CLOSE:
            return self._read_control(opcode, length)
        self._check_size(length, first & RSV1)
        start = pos + header_size(length, self.peer_masks)
        if start > len(buffer):
            return self._need()
        if (
            self._message is None
            and first >= FIN
            and self._phase is _OPEN
            and start + length <= len(buffer)
        ):
            payload = self._unmasked(start, length)
            if first & RSV1:
                payload = self._inflate(payload)
            return payload if opcode == BINARY else payload.decode()
        if self._message is None:
            dropped = self._phase is _CLOSING
            self._message = PartialMessage(opcode == TEXT, dropped, first & RSV1 != 0)
        mask = bytes(buffer[start - 4 : start]) if self.peer_masks else b""
        self._message.begin_frame(first >= FIN, length, mask)
        self._consume(start)
        return self._read_payload(self._message)

    def _check_order(self, opcode: int) -> None:
        # RFC 6455 section 5.4: only control frames may come between the fragments of a message.
        if opcode == CONTINUATION and self._message is None:
            raise Violation(PROTOCOL_VIOLATION, "continuation of no message")
        if opcode in (TEXT, BINARY) and self._message is not None:
            raise Violation(PROTOCOL_VIOLATION, "a new message within a fragmented one")

    def _check_size(self, length: int, compressed: int) -> None:
        # Judge from the header alone, before any of the payload is kept.
        message, limit = self._message, self.max_package_size
        if compressed or (message is not None and message.is_compressed):
            limit += (limit >> COMPRESSED_SLACK) + 64
        before = len(message.data) if message is not None else 0
        if before + length > limit and self._phase is _OPEN:
            raise Violation(TOO_BIG, f"message longer than {self.max_package_size} bytes")

    def _unmasked(self, start: int, length: int) -> bytes:
        stop = start + length
        with memoryview(self._buffer) as view, view[start:stop] as part:
            payload = (
                apply_mask(part, bytes(view[start - 4 : start])) if self.peer_masks else bytes(part)
            )
        self._consume(stop)
        return payload

    def _read_payload(self, message: PartialMessage) -> object:
        self._move_into(message)
        if message.left:
            return self._need()
        if not message.is_final:
            return None
        self._message = None
        if message.dropped:
            return None
        if not message.is_compressed:
            return message.result()
        payload = self._inflate(message.payload())
        return payload.decode() if message.is_text else payload

    def _inflate(self, payload: bytes | bytearray) -> bytes:
        assert self._deflate is not None  # else the bit for it is a violation
        data = self._deflate.inflate(payload, self.max_package_size)
        self.inflated_bytes += max(0, len(data) - len(payload))
        return data

    def _read_control(self, opcode: int, length: int) -> object:
        start = self._pos + header_size(length, self.peer_masks)
        if start + length > len(self._buffer):
            return self._need()
        payload = self._unmasked(start, length)
        if opcode == CLOSE:
            code, reason = parse_close(payload)
            self._ending = self._ending._replace(close_code=code, close_reason=reason)
            self._end()
            return EOF
        if opcode == PING:
            self._hold_back(self._frame(FIN | PONG, payload))
            self.has_output = True
        return None

    def _refuse(self, violation: Violation) -> ProtocolError:
        # RFC 6455 section 7.1.7: fail the connection, with a Close frame unless one was sent.
        reply = self.data_to_send()
        farewell = self.farewell
        if self._phase is _OPEN:
            farewell = violation.code, str(violation)
            reply += self._frame(FIN | CLOSE, close_payload(*farewell))
        self._ending = self._ending._replace(close_code=ABNORMAL, farewell=farewell)
        self._end()
        return ProtocolError(str(violation), reply)

    def _end(self) -> None:
        if self._phase is _HANDSHAKE:
            self._keep_partial_head()
        self._phase = _ENDED if self._phase is _OPEN else _OVER
        self._message = None
        self._consume(len(self._buffer))
        self._ended = True

    @property
    def is_answering(self) -> bool:
        return self._phase is _DECIDING

    @property
    def migration_obstacle(self) -> str:
        # zlib does not give its context away.
        can_move = self._deflate is None or self._deflate.agreement.forgets_all
        return "" if can_move else "a compression context"

    @property
    def awaits_peer_close(self) -> bool:
        return self._phase is _CLOSING

    def waiting_for(self) -> Literal["", "handshake", "header", "body"]:
        return "handshake" if self._phase is _HANDSHAKE else ""

    # --- writing

    def data_to_send(self) -> bytes:
        if not self.has_output:
            return b""
        data = bytes(self._output)
        self._output = b""
        self.has_output = False
        return data

    def encode(self, message: object) -> bytes:
        """Return a frame; before the WebSocket is open it is held back, and b"" returned."""
        payload: bytes | bytearray
        if isinstance(message, str):
            opcode, payload = TEXT, message.encode()
        elif isinstance(message, (bytes, bytearray)):
            opcode, payload = BINARY, message
        elif isinstance(message, memoryview):
            opcode, payload = BINARY, bytes(message)
        elif isinstance(message, (dict, list)):
            opcode, payload = TEXT, to_json(message)
        else:
            raise wrong_type(
                message,
                self.name,
                "str, dict, list (text), bytes, bytearray or memoryview (binary)",
            )
        if self._phase is _OPEN or self._phase is _ENDED:
            if self._deflate is not None and len(payload) >= self._deflate.threshold:
                return self._frame(FIN | RSV1 | opcode, self._deflate.compress(payload))
            return self._frame(FIN | opcode, payload)
        if self._phase is _CLOSING or self._phase is _OVER:
            raise RuntimeError("the WebSocket is closed: no message may follow a Close frame")
        if len(self._output) >= MOST_HELD:
            raise SendBufferFull("the WebSocket is not open yet, and keeps as much as it may")
        self._hold_back(self._frame(FIN | opcode, payload))
        return b""

    @property
    def accepts_unsolicited(self) -> bool:
        return self._phase is _OPEN

    def _hold_back(self, frame: bytes) -> None:
        # Keep `frame`. A bytearray, because one read may bring thousands of pings.
        if not self._output:
            self._output = bytearray()
        self._output += frame

    def ping(self, payload: bytes = b"") -> bytes:
        # Return a Ping frame; b"" unless the WebSocket is open. ValueError for a payload that no
        # control frame may carry (section 5.5).
        if self._phase is not _OPEN:
            return b""
        if len(payload) > MAX_CONTROL:
            raise ValueError(f"a ping carries at most {MAX_CONTROL} bytes, not {len(payload)}")
        return self._frame(FIN | PING, payload)

    def check_close(self, code: int, reason: str) -> None:
        close_payload(code, reason)

    def close(self, code: int = 1000, reason: str = "") -> bytes:
        """Return our Close frame, once: with `code` and `reason`, or the code that the peer gave
        first.

        Before the WebSocket is open, and after the peer broke the rules or the connection, there is
        nothing to say. RFC 6455 section 5.5.1 lets the echo wait for our last message. ValueError
        for a code that may not be sent, or a reason of more than 123 bytes.
        """
        payload = close_payload(code, reason)
        if self._phase is _OPEN:
            self._ending = self._ending._replace(farewell=(code, reason))
            self._phase = _CLOSING
            if self._message:
                self._message.drop()
            return self._frame(FIN | CLOSE, payload)
        if self._phase is _ENDED:
            self._phase = _OVER
            if self.close_code != ABNORMAL:
                echo = b"" if self.close_code == NO_CODE else close_payload(self.close_code, "")
                return self._frame(FIN | CLOSE, echo)
        if self._phase is _HANDSHAKE:
            self._end()
        return b""
