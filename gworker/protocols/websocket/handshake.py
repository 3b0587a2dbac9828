"""The server's answer to an opening handshake (RFC 6455 section 4.2.2): the origin, and the 101."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping

from gworker.http.errors import BadRequest
from gworker.http.headers import Headers
from gworker.http.request import Request
from gworker.protocols.websocket.options import Origins

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_OURS = frozenset(
    {"connection", "upgrade", "sec-websocket-accept", "content-length", "transfer-encoding"}
)


def check_origin(request: Request, allowed: Origins | None) -> None:
    """Raise BadRequest if a page of this origin may not open a WebSocket here (RFC 6455 section
    10.2).

    allowed: None for all. A request without Origin does not come from a page: a client that can
    leave it out can write anything into it.
    """
    origins = request.headers.get_all("Origin")
    if allowed is not None and origins and (len(origins) > 1 or not allowed.allow(origins[0])):
        raise BadRequest(
            f"the origin {', '.join(origins)[:200]} may not open a WebSocket here", 403
        )


def accept_of(key: bytes) -> bytes:
    # Return the Sec-WebSocket-Accept that answers `key` (section 4.2.2).
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
