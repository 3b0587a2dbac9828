"""Sessions of HTTP requests: how one gets into the answer, and what its user has to know."""

from __future__ import annotations

import logging

from gworker.http.session import Session
from gworker.protocols.base import Protocol
from gworker.protocols.http.protocol import HttpProtocol

log = logging.getLogger("gworker")

_warned: list[bool] = []


def keep(protocol: Protocol, head: bytes, session: Session) -> None:
    """The client gets `session` with the answer to the request that has this head."""
    if not isinstance(protocol, HttpProtocol):
        return  # a WebSocket has had its answer
    if session.is_dropped and not _warned:
        _warned.append(True)
        log.warning(
            "a session was asked for over plain HTTP, and its cookie is Secure: browsers drop it. "
            "Serve https, name the proxy in front by --forwarded-allow-ips, or set "
            "gworker.http.Session.secure = False"
        )
    protocol.keep_session(head, session)
