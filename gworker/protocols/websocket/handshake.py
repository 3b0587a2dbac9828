"""The opening handshake of RFC 6455 section 4.2: judging the request, writing the 101."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from gworker.errors import ProtocolError
from gworker.http.grammar import tokens
from gworker.http.headers import Headers
from gworker.http.request import Request
from gworker.protocols.http.head import Head, parse_head
from gworker.protocols.http.response import CLOSE, refusal
from gworker.protocols.websocket.fields import check_token, parse_extensions

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
"""base64 of 16 bytes."""

SUBPROTOCOL = "Sec-WebSocket-Protocol"
EXTENSIONS = "Sec-WebSocket-Extensions"

_OURS = frozenset(
    {"connection", "upgrade", "sec-websocket-accept", "content-length", "transfer-encoding"}
)


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
    if "websocket" not in tokens(headers, "Upgrade") or "upgrade" not in tokens(
        headers, "Connection"
    ):
        raise _upgrade_required("a WebSocket is spoken here, and this request opens none")
    if head.old:
        raise refusal(400, "a WebSocket needs HTTP/1.1")
    if headers.get_all("Sec-WebSocket-Version") != ["13"]:
        raise _upgrade_required("only version 13 is spoken here", b"Sec-WebSocket-Version: 13\r\n")
    keys = headers.get_all("Sec-WebSocket-Key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise refusal(400, "Sec-WebSocket-Key is not base64 of 16 bytes")
    try:
        if EXTENSIONS in headers:
            parse_extensions(headers[EXTENSIONS])
        offered_subprotocols(request)
    except ValueError as error:  # RFC 6455 section 9.1 for the one, 4.1 for the other
        raise refusal(400, str(error)) from None


def _upgrade_required(text: str, fields: bytes = b"") -> ProtocolError:
    """A 426. RFC 9110 section 7.8: who sends Upgrade lists it in Connection."""
    error = refusal(426, text, b"Upgrade: websocket\r\n" + fields)
    error.reply = error.reply.replace(CLOSE, b"Connection: Upgrade, close\r\n", 1)
    return error


def check(raw: bytes) -> None:
    """Raise ProtocolError unless the head `raw` opens a WebSocket."""
    check_request(parse_head(raw), Request(raw))


def check_origin(request: Request, allowed: Any) -> None:
    """Raise ProtocolError if a page of this origin may not open a WebSocket here (RFC 6455 section
    10.2).

    allowed: `websocket_options.Origins`, or None for all. A request without Origin does not come
    from a page: whoever can leave it out can write anything into it.
    """
    origins = request.headers.get_all("Origin")
    if allowed is not None and origins and (len(origins) > 1 or not allowed.allow(origins[0])):
        raise refusal(403, f"the origin {', '.join(origins)[:200]} may not open a WebSocket here")


def offered_subprotocols(request: Request) -> list[str]:
    """Return what the client offers, in its order of preference. ValueError if that is no list of
    tokens."""
    if SUBPROTOCOL not in request.headers:
        return []
    names = (name.strip(" \t") for name in request.headers[SUBPROTOCOL].split(","))
    return [check_token(name) for name in names if name]


def accept_of(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept that answers `key` (section 4.2.2)."""
    return b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def switching_protocols(
    request: Request, extra: Mapping[str, str] | Iterable[tuple[str, str]]
) -> bytes:
    """Return the 101 with `extra` fields. ValueError for one that is not a field, or is ours to
    set."""
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
