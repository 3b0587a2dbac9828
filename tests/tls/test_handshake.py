"""Handshakes in the hub, of both sides."""

from __future__ import annotations

import _socket
import ssl

from gevent import get_hub
from gevent import sleep as gevent_sleep
from pki import Pki
from tls_pair import server

from gworker.tls.contexts import client_context
from gworker.tls.handshake import Handshake
from gworker.tls.options import check_client
from gworker.tls.socket import TlsSocket


def shake(at_server: ssl.SSLContext, at_client: ssl.SSLContext, host: str | None) -> list[str]:
    """Both sides of a handshake in the hub; what was told, the client's first."""
    loop = get_hub().loop
    ours, theirs = _socket.socketpair()
    told: dict[str, str] = {}
    one = TlsSocket(ours, at_server, server_side=True)
    two = TlsSocket(theirs, at_client, server_side=False, server_name=host)
    Handshake(
        loop, one, lambda: told.update(server="done"), lambda why: told.update(server=why)
    ).start()
    Handshake(
        loop, two, lambda: told.update(client="done"), lambda why: told.update(client=why)
    ).start(2)
    for _ in range(200):
        gevent_sleep(0.01)
        if len(told) == 2:
            break
    one.close()
    two.close()
    return [told.get("client", ""), told.get("server", "")]


def test_a_handshake_in_the_hub_for_both_sides(pki: Pki, files: dict[str, str]) -> None:
    assert shake(
        server(files), client_context(check_client({"ca_certs": pki.ca})), "localhost"
    ) == ["done", "done"]
    assert shake(server(files), client_context(check_client({"verify": False})), None) == [
        "done",
        "done",
    ]
    told = shake(server(files), client_context(check_client({"ca_certs": pki.ca})), "elsewhere")
    assert told == [
        "the peer's certificate is refused: Hostname mismatch, certificate is not valid for "
        "'elsewhere'.",
        "the peer has refused: sslv3 alert bad certificate",
    ]
    told = shake(server(files), client_context(check_client({})), "localhost")
    assert "the peer's certificate is refused: " in told[0]
