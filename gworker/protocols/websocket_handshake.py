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

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

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
    if "websocket" not in tokens(headers, "Upgrade") or "upgrade" not in tokens(headers, "Connection"):
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


def check_token(name: str) -> str:
    """Return `name`. ValueError unless it is a token, as a subprotocol has to be (RFC 9110 section 5.6.2)."""
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"a subprotocol is a token, not {name!r}")
    return name


def tokens(headers: Headers, name: str) -> list[str]:
    """Return the members of the list in field `name`, in lower case."""
    return [token.strip(" \t") for token in headers.get(name, "").lower().split(",")]


def accept_of(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept that answers `key` (section 4.2.2)."""
    return b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def switching_protocols(request: Request, extra: Mapping[str, str] | Iterable[tuple[str, str]]) -> bytes:
    """Return the 101 with `extra` fields. ValueError for one that is not a field, or is ours to set."""
    fields = Headers(extra)
    taken = _OURS.intersection(name.lower() for name in fields)
    if taken:
        raise ValueError(f"the handshake sets {', '.join(sorted(taken))} itself")
    accept = accept_of(request.headers["Sec-WebSocket-Key"].encode())
    return b"".join(
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
            b"Sec-WebSocket-Accept: %b\r\n" % accept,
            fields.encode(),
            b"\r\n",
        )
    )
