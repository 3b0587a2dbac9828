"""What a WebSocket client sends, as bytes; and a protocol that has been asked and has agreed."""

from __future__ import annotations

from websockets.utils import apply_mask

from gworker.protocols import NEED_DATA, Handshake
from gworker.protocols.websocket.server import WebSocketProtocol

MASK = b"\x01\x82\x43\xc4"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
"""The key of RFC 6455 section 1.3, and its answer."""

FIELDS = {
    "Host": "a",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


def handshake(line: str = "GET /chat HTTP/1.1", **changes: str | None) -> bytes:
    """Return a request; `changes` by field name with underscores, None leaves the field out."""
    fields = FIELDS | {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(first: int, payload: bytes = b"", mask: bytes = MASK) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2)
    else:
        length = b"\xff" + size.to_bytes(8)
    return bytes([first]) + length + mask + apply_mask(payload, mask)


def text(payload: bytes | str, first: int = 0x81) -> bytes:
    return frame(first, payload.encode() if isinstance(payload, str) else payload)


def closing(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(0x88, b"" if code is None else code.to_bytes(2) + reason)


def make(limit: int = 70_000) -> WebSocketProtocol:
    return WebSocketProtocol(limit)


def opened(limit: int = 70_000) -> WebSocketProtocol:
    protocol = make(limit)
    protocol.receive_data(handshake())
    assert isinstance(protocol.next_event(), Handshake)
    protocol.accept_handshake()
    assert protocol.data_to_send() == ANSWER
    assert protocol.next_event() is NEED_DATA
    return protocol
