"""Frames of RFC 6455, as pure functions: how they are written, and the rules of reading.

    check_first_byte, read_length, header_size   judge a frame as soon as its bytes are here
    header, frame, masked_frame                  write one; a client masks what it sends, a server
                                                 does not
    close_payload                                what a Close frame says
    parse_close                                  code and reason of a Close frame

Every violation is a `Violation`, whose `code` is the close code that the peer gets.
"""

from __future__ import annotations

from secrets import token_bytes
from struct import Struct

from gworker.core import apply_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

PROTOCOL_VIOLATION = 1002
NO_CODE = 1005
ABNORMAL = 1006
INVALID_DATA = 1007
TOO_BIG = 1009

MAX_CONTROL = 125

_KNOWN = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
FIN = 0x80
# The message is compressed (RFC 7692 section 6).
RSV1 = 0x40
RESERVED = 0x70
_OPCODE, _MASKED = 0x0F, 0x80

_TWO = Struct(">H")
_EIGHT = Struct(">Q")
_MEDIUM_HEADER = Struct(">BBH")
_LARGE_HEADER = Struct(">BBQ")
# The headers of small unmasked frames, by all first bytes that we send.
_SMALL = {
    FIN | first: [bytes((FIN | first, size)) for size in range(126)]
    for first in (TEXT, BINARY, RSV1 | TEXT, RSV1 | BINARY, CLOSE, PING, PONG)
}


class Violation(Exception):
    """The peer broke the rules. `code`: the close code of the answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def is_legal_code(code: int) -> bool:
    # Whether a Close frame may carry `code`: RFC 6455 section 7.4, and IANA's 1012 to 1014.
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, NO_CODE, ABNORMAL))


def check_first_byte(first: int, reserved: int = RESERVED) -> int:
    """Return the opcode. `reserved`: the bits for which no extension was agreed on.

    Section 5.2: no reserved bits without an extension, no unknown opcode. Section 5.4: control
    frames are not fragmented. RFC 7692 section 6.1: RSV1 is set on the first frame of a message
    only.
    """
    opcode = first & _OPCODE
    if first & reserved:
        raise Violation(PROTOCOL_VIOLATION, "reserved bits are set")
    if opcode not in _KNOWN:
        raise Violation(PROTOCOL_VIOLATION, f"unknown opcode {opcode}")
    if opcode >= CLOSE and not first & FIN:
        raise Violation(PROTOCOL_VIOLATION, "fragmented control frame")
    if first & RSV1 and opcode not in (TEXT, BINARY):
        raise Violation(
            PROTOCOL_VIOLATION, "the bit for compression is set on a frame that begins no message"
        )
    return opcode


def read_length(buffer: bytes | bytearray, pos: int, masked: bool) -> int | None:
    """Return the payload length of the frame at `pos`, None if that needs more bytes.

    masked: whether the peer is a client, which has to mask, or a server, which must not (section
    5.1).
    """
    size = len(buffer) - pos
    if size < 2:
        return None
    length = buffer[pos + 1]
    if masked is not (length >= _MASKED):
        raise Violation(
            PROTOCOL_VIOLATION, "frame without a mask" if masked else "frame with a mask"
        )
    length &= 0x7F
    if buffer[pos] & _OPCODE >= CLOSE and length > MAX_CONTROL:
        raise Violation(PROTOCOL_VIOLATION, f"control frame longer than {MAX_CONTROL} bytes")
    if length < 126:
        return length
    form, smallest = (_TWO, 126) if length == 126 else (_EIGHT, 0x10000)
    if size < 2 + form.size:
        return None
    length = int(form.unpack_from(buffer, pos + 2)[0])
    if length < smallest:
        raise Violation(PROTOCOL_VIOLATION, "payload length is not in its shortest form")
    if length >> 63:
        raise Violation(PROTOCOL_VIOLATION, "payload length has its highest bit set")
    return length


def header_size(length: int, masked: bool) -> int:
    size = 2 if length < 126 else 4 if length < 0x10000 else 10
    return size + 4 if masked else size


def frame(first: int, payload: bytes | bytearray) -> bytes:
    # Return one final, unmasked frame.
    size = len(payload)
    if size < 126:
        return _SMALL[first][size] + payload
    return header(first, size, masked=False) + payload


def masked_frame(first: int, payload: bytes | bytearray, mask: bytes = b"") -> bytes:
    mask = mask or token_bytes(4)
    return b"".join((header(first, len(payload), masked=True), mask, apply_mask(payload, mask)))


def header(first: int, size: int, masked: bool) -> bytes:
    bit = _MASKED if masked else 0
    if size < 126:
        return bytes((first, bit | size))
    if size < 0x10000:
        return _MEDIUM_HEADER.pack(first, bit | 126, size)
    return _LARGE_HEADER.pack(first, bit | 127, size)


def close_payload(code: int, reason: str) -> bytes:
    """ValueError for a code that may not be sent, or a reason of more than 123 bytes: neither is
    ever cut."""
    if not is_legal_code(code):
        raise ValueError(
            f"{code!r} is not a close code that may be sent: 1000-1003, 1007-1014 and 3000-4999 are"
        )
    text = reason.encode()
    if len(text) > MAX_CONTROL - 2:
        raise ValueError(
            f"the reason of a close is at most {MAX_CONTROL - 2} bytes of UTF-8, not {len(text)}"
        )
    return _TWO.pack(code) + text


def parse_close(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a Close frame (section 5.5.1); NO_CODE if it is empty."""
    if not payload:
        return NO_CODE, ""
    if len(payload) == 1:
        raise Violation(PROTOCOL_VIOLATION, "close frame with half a code")
    (code,) = _TWO.unpack_from(payload)
    if not is_legal_code(code):
        raise Violation(PROTOCOL_VIOLATION, f"illegal close code {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise Violation(INVALID_DATA, "close reason is not UTF-8") from None
