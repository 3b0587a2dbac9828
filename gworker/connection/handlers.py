"""What an event of a connection does: one table, by the type of the event."""

from __future__ import annotations

import logging

from gworker.connection.closing import peer_finished, undecided
from gworker.connection.dispatcher import AnyConnection, Handler
from gworker.connection.events import CallCallback, ConnectionReset, ProtocolViolation
from gworker.connection.state import ESTABLISHED
from gworker.protocols.base import Eof, Handshake

log = logging.getLogger("gworker")


def _handshake(connection: AnyConnection, event: Handshake) -> None:
    if connection.lifecycle is not ESTABLISHED:
        return
    connection.request = event.request
    undecided.add(connection)
    try:
        connection.call("on_websocket_connect", event.request)
        if connection.lifecycle is ESTABLISHED:
            connection.protocol_machine.accept_handshake(connection.headers or ())
    finally:
        undecided.discard(connection)
    if connection.lifecycle is ESTABLISHED:
        connection.headers = None
        connection.write_output()


def _violation(connection: AnyConnection, event: ProtocolViolation) -> None:
    if connection.lifecycle is ESTABLISHED:
        log.info("%r: %s", connection, event.error)
        connection.begin_close(event.error.reply)
    else:  # a peer that breaks the rules instead of saying goodbye has no other to say
        peer_finished(connection)


HANDLERS: dict[type, Handler] = {
    CallCallback: lambda connection, event: connection.call(event.name, *event.arguments),
    Eof: lambda connection, _: peer_finished(connection),
    ConnectionReset: lambda connection, _: connection.destroy(),
    Handshake: _handshake,
    ProtocolViolation: _violation,
}
