"""What an event of a connection does: one table, by the type of the event."""

from __future__ import annotations

import logging

from gworker.connection.dispatcher import AnyConnection, Handler
from gworker.connection.events import CallCallback, ConnectionReset, ProtocolViolation
from gworker.connection.state import ESTABLISHED
from gworker.protocols.base import Eof, Handshake

log = logging.getLogger("gworker")

undecided: set[AnyConnection] = set()
"""The connections whose handshake on_websocket_connect has not answered yet."""


def _call(connection: AnyConnection, event: CallCallback) -> None:
    connection.call(event.name, *event.arguments)


def _finish(connection: AnyConnection, _: Eof) -> None:
    connection.peer_finished()


def _reset(connection: AnyConnection, _: ConnectionReset) -> None:
    connection.destroy()


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
        connection.peer_finished()


HANDLERS: dict[type, Handler] = {
    CallCallback: _call,
    Eof: _finish,
    ConnectionReset: _reset,
    Handshake: _handshake,
    ProtocolViolation: _violation,
}
"""What to do for each type of event, with the connection and the event."""
