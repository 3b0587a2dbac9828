"""What a request says that opens a WebSocket (RFC 6455 section 4.2.1): whether it may, its lists,
and the answer to its key."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final

from gworker.core.fields import TOKEN
from gworker.core.status import CLOSE
from gworker.http.errors import BadRequest
from gworker.http.headers import Headers, tokens

SUBPROTOCOL: Final = "Sec-WebSocket-Protocol"
EXTENSIONS: Final = "Sec-WebSocket-Extensions"

# The parameters of an extension: None for one without a value.
Parameters = dict[str, str | None]

# base64 of 16 bytes.
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({TOKEN})(?:[ \t]*=[ \t]*(?:({TOKEN})|"({TOKEN})"))?')
_EXTENSION = re.compile(rf"[ \t]*({TOKEN})")
_BETWEEN = re.compile(r"[ \t]*(?:,|\Z)")
_EMPTY = re.compile(r"[ \t]*,")


def check_upgrade(method: str, version: str, headers: Headers) -> None:
    """Raise BadRequest unless a request of these opens a WebSocket.

    A 426 (RFC 9110 section 15.5.22) goes before other refusals: a request that does not ask to
    upgrade comes from a browser or a health check, not from a WebSocket client.
    """
    if method != "GET":
        raise BadRequest("a WebSocket is opened with GET", 405, b"Allow: GET\r\n")
    if "Transfer-Encoding" in headers or int(headers.get("Content-Length", "0")):
        raise BadRequest("a handshake has no body")
    if not asks_for_websocket(headers):
        raise _upgrade_required("a WebSocket is spoken here, and this request opens none")
    if version == "1.0":
        raise BadRequest("a WebSocket needs HTTP/1.1")
    if headers.get_all("Sec-WebSocket-Version") != ["13"]:
        raise _upgrade_required("only version 13 is spoken here", b"Sec-WebSocket-Version: 13\r\n")
    keys = headers.get_all("Sec-WebSocket-Key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise BadRequest("Sec-WebSocket-Key is not base64 of 16 bytes")
    try:
        parse_extensions(headers.get(EXTENSIONS, ""))
        offered_subprotocols(headers)
    except ValueError as error:  # RFC 6455 section 9.1 for the one, 4.1 for the other
        raise BadRequest(str(error)) from None


def asks_for_websocket(headers: Headers) -> bool:
    return "websocket" in tokens(headers, "Upgrade") and "upgrade" in tokens(headers, "Connection")


def _upgrade_required(text: str, fields: bytes = b"") -> BadRequest:
    # A 426. RFC 9110 section 7.8: a sender of Upgrade lists it in Connection.
    error = BadRequest(text, 426, b"Upgrade: websocket\r\n" + fields)
    error.reply = error.reply.replace(CLOSE, b"Connection: Upgrade, close\r\n", 1)
    return error


def accept_of(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept that answers `key` (section 4.2.2)."""
    import hashlib  # it brings libcrypto, 4 MB: the arbiter imports this module, and needs none

    return b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def offered_subprotocols(headers: Headers) -> list[str]:
    """Return what the client offers, in its order of preference. ValueError if that is no list of
    tokens."""
    names = (name.strip(" \t") for name in headers.get(SUBPROTOCOL, "").split(","))
    return [check_token(name) for name in names if name]


def check_token(name: object) -> str:
    """Return `name`. ValueError unless it is a token, as a subprotocol has to be (RFC 9110 section
    5.6.2)."""
    if not isinstance(name, str) or not re.fullmatch(TOKEN, name):
        raise ValueError(f"a subprotocol is a token, not {name!r}")
    return name


def parse_extensions(field: str) -> list[tuple[str, Parameters | None]]:
    """Return (name, parameters) of each. Parameters are None if one is there twice. ValueError if
    it is no list."""
    found: list[tuple[str, Parameters | None]] = []
    field = field.rstrip(" \t")
    pos = 0
    while pos < len(field):
        if empty := _EMPTY.match(field, pos):  # RFC 9110 section 5.6.1
            pos = empty.end()
            continue
        name = _EXTENSION.match(field, pos)
        if name is None:
            raise ValueError(f"Sec-WebSocket-Extensions is malformed at {field[pos : pos + 40]!r}")
        pairs = []
        pos = name.end()
        while match := _PARAMETER.match(field, pos):
            pos = match.end()
            pairs.append((match[1], match[2] or match[3]))
        parameters: Parameters = dict(pairs)
        end = _BETWEEN.match(field, pos)
        if end is None:
            raise ValueError(f"Sec-WebSocket-Extensions is malformed at {field[pos : pos + 40]!r}")
        pos = end.end()
        found.append((name[1], parameters if len(parameters) == len(pairs) else None))
    return found
