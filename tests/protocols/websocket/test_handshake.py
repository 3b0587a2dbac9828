"""The answer to an opening handshake."""

from __future__ import annotations

import pytest

from gworker.http import BadRequest, Request
from gworker.protocols.websocket.handshake import accept_of, check_origin, switching_protocols
from gworker.protocols.websocket.options import origins

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def request(*fields):
    return Request("\r\n".join(["GET / HTTP/1.1", "Host: a", *fields, "", ""]).encode())


def test_the_key_of_rfc_6455():
    assert accept_of(KEY.encode()) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_the_101():
    answer = switching_protocols(request(f"Sec-WebSocket-Key: {KEY}"), {"X-A": "b"})
    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-A: b\r\n\r\n"
    )


@pytest.mark.parametrize("name", ["connection", "UPGRADE", "Content-Length", "Transfer-Encoding"])
def test_fields_that_the_handshake_sets(name):
    with pytest.raises(ValueError, match="sets .* itself"):
        switching_protocols(request(f"Sec-WebSocket-Key: {KEY}"), {name: "x"})


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ([], True),
        (["Origin: https://example.com"], True),
        (["Origin: https://example.org"], False),
        (["Origin: https://example.com", "Origin: https://example.com"], False),
    ],
)
def test_origins(fields, passes):
    allowed = origins(["https://example.com"])
    check_origin(request(*fields), None)
    if passes:
        check_origin(request(*fields), allowed)
    else:
        with pytest.raises(BadRequest, match="may not open") as caught:
            check_origin(request(*fields), allowed)
        assert caught.value.status == 403
