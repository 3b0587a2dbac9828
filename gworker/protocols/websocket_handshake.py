"""The opening handshake of RFC 6455 section 4.2: judging the request, writing the 101."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping

from gworker.http.headers import Headers
from gworker.http.request import Request
from gworker.protocols.http_head import Head, parse_head
from gworker.protocols.http_response import refusal

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
"""base64 of 16 bytes."""

_OURS = frozenset({"connection", "upgrade", "sec-websocket-accept", "content-length", "transfer-encoding"})


def check_request(head: Head, request: Request) -> None:
    """Raise ProtocolError with the right refusal unless `request` opens a WebSocket.

    Whoever does not ask to upgrade is told to (RFC 9110 section 15.5.22) before anything else is
    found wanting: it is a browser or a health check, not a WebSocket client.
    """
    headers = request.headers
    if head.method != b"GET":
        raise refusal(405, "a WebSocket is opened with GET", b"Allow: GET\r\n")
    if head.length or head.chunked:
        raise refusal(400, "a handshake has no body")
    if "websocket" not in _tokens(headers, "Upgrade") or "upgrade" not in _tokens(headers, "Connection"):
        raise refusal(426, "this port speaks WebSocket", b"Upgrade: websocket\r\n")
    if head.old:
        raise refusal(400, "a WebSocket needs HTTP/1.1")
    if headers.get_all("Sec-WebSocket-Version") != ["13"]:
        raise refusal(426, "only version 13 is spoken here", b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
    keys = headers.get_all("Sec-WebSocket-Key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise refusal(400, "Sec-WebSocket-Key is not base64 of 16 bytes")


def check(raw: bytes) -> None:
    """Raise ProtocolError unless the head `raw` opens a WebSocket."""
    check_request(parse_head(raw), Request(raw))


def _tokens(headers: Headers, name: str) -> list[str]:
    return [token.strip(" \t") for token in headers.get(name, "").lower().split(",")]


def switching_protocols(request: Request, extra: Mapping[str, str] | Iterable[tuple[str, str]]) -> bytes:
    """Return the 101 with `extra` fields. ValueError for one that is not a field, or is ours to set."""
    fields = Headers(extra)
    taken = _OURS.intersection(name.lower() for name in fields)
    if taken:
        raise ValueError(f"the handshake sets {', '.join(sorted(taken))} itself")
    key = request.headers["Sec-WebSocket-Key"].encode()
    accept = b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    return b"".join(
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
            b"Sec-WebSocket-Accept: %b\r\n" % accept,
            fields.encode(),
            b"\r\n",
        )
    )
