"""Frames of RFC 6455, as pure functions: the server's side of writing, the rules of reading.

    check_first_byte, read_length, header_size   judge a frame as soon as its bytes are here
    data_frame, control_frame, close_frame
    parse_close                code and reason of a Close frame

Every violation is a `Violation`, whose `code` is the close code that the peer gets.
"""

from __future__ import annotations

from struct import Struct

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

PROTOCOL_VIOLATION = 1002
NO_CODE = 1005
ABNORMAL = 1006
INVALID_DATA = 1007
TOO_BIG = 1009

MAX_CONTROL = 125

_KNOWN = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
FIN = 0x80
_RSV, _OPCODE, _MASKED = 0x70, 0x0F, 0x80

_TWO = Struct(">H")
_EIGHT = Struct(">Q")
_MEDIUM_HEADER = Struct(">BBH")
_LARGE_HEADER = Struct(">BBQ")
_SMALL = {opcode: [bytes((FIN | opcode, size)) for size in range(126)] for opcode in (TEXT, BINARY)}


class Violation(Exception):
    """The peer broke the rules; `code` is what the Close frame tells it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def is_legal_code(code: int) -> bool:
    """Whether a Close frame may carry `code`: RFC 6455 section 7.4, and IANA's 1012 to 1014."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, NO_CODE, ABNORMAL))


def check_first_byte(first: int) -> int:
    """Return the opcode.

    Section 5.2: no reserved bits without an extension, no unknown opcode. Section 5.4: control frames
    are not fragmented.
    """
    opcode = first & _OPCODE
    if first & _RSV:
        raise Violation(PROTOCOL_VIOLATION, "reserved bits are set")
    if opcode not in _KNOWN:
        raise Violation(PROTOCOL_VIOLATION, f"unknown opcode {opcode}")
    if opcode >= CLOSE and not first & FIN:
        raise Violation(PROTOCOL_VIOLATION, "fragmented control frame")
    return opcode


def read_length(buffer: bytes | bytearray, pos: int) -> int | None:
    """Return the payload length of the frame at `pos`, None if that needs more bytes."""
    size = len(buffer) - pos
    if size < 2:
        return None
    length = buffer[pos + 1] - _MASKED
    if length < 0:
        raise Violation(PROTOCOL_VIOLATION, "frame without a mask")
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


def header_size(length: int) -> int:
    """Return the size of a header with mask before a payload of `length`."""
    return 6 if length < 126 else 8 if length < 0x10000 else 14


def data_frame(opcode: int, payload: bytes | bytearray) -> bytes:
    """Return one final, unmasked frame."""
    size = len(payload)
    if size < 126:
        return _SMALL[opcode][size] + payload
    if size < 0x10000:
        return _MEDIUM_HEADER.pack(FIN | opcode, 126, size) + payload
    return _LARGE_HEADER.pack(FIN | opcode, 127, size) + payload


def control_frame(opcode: int, payload: bytes) -> bytes:
    """ValueError if the payload is longer than a control frame may be (section 5.5)."""
    if len(payload) > MAX_CONTROL:
        raise ValueError(f"a control frame carries at most {MAX_CONTROL} bytes, not {len(payload)}")
    return bytes((FIN | opcode, len(payload))) + payload


def close_frame(code: int, reason: str) -> bytes:
    """ValueError for a code that may not be sent, or a reason of more than 123 bytes: neither is ever cut."""
    if not is_legal_code(code):
        raise ValueError(f"{code} is not a close code that may be sent")
    return control_frame(CLOSE, _TWO.pack(code) + reason.encode())


def echo_frame(code: int) -> bytes:
    """Return the answer to a Close frame with `code`; b"" if none came."""
    if code == ABNORMAL:
        return b""
    return control_frame(CLOSE, b"" if code == NO_CODE else _TWO.pack(code))


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
