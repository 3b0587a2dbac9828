"""What a client offers by ALPN (RFC 7301), and whether it shares a protocol with the server.

With Python's ssl, a client without a common protocol goes on as if it had offered none. To refuse
it, the ClientHello is parsed when OpenSSL has read it, before the certificate is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

HANDSHAKE, CLIENT_HELLO = 22, 1  # content type and message type (RFC 8446, 5.1 and 4)
EXTENSION = 16  # application_layer_protocol_negotiation
NO_APPLICATION_PROTOCOL = 120  # the alert (RFC 7301, 3.2)
FIXED = 4 + 2 + 32  # bytes of the header, the version and the random value


def offered(hello: bytes) -> list[str]:
    """The names that a whole ClientHello offers, in its order; [] if it is malformed."""
    try:
        names = _extension(hello)
    except IndexError:
        return []
    found, at = [], 2
    while at < len(names):
        stop = at + 1 + names[at]
        found.append(names[at + 1 : stop].decode("latin-1"))
        at = stop
    return found


def has_common(hello: bytes, names: Sequence[str]) -> bool:
    """False for a client that offers protocols, and none of `names`."""
    offers = offered(hello)
    return not offers or any(name in names for name in offers)


def _extension(hello: bytes) -> bytes:
    # The content of the extension, or b"". Raises IndexError if the message ends too early.
    at = FIXED
    at += 1 + hello[at]  # the session's id
    at += 2 + _number(hello, at)  # cipher suites
    at += 1 + hello[at]  # compression methods
    if at == len(hello):
        return b""
    at += 2
    while at < len(hello):
        start, size = at + 4, _number(hello, at + 2)
        if _number(hello, at) == EXTENSION:
            return hello[start : start + size]
        at = start + size
    return b""


def _number(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]
