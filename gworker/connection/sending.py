"""How messages and bytes go out, or wait until their connection is open or has moved."""

from __future__ import annotations

from typing import Any

from greenlet import getcurrent

from gworker.connection.dispatcher import AnyConnection
from gworker.connection.events import CONNECTION_RESET
from gworker.connection.migration import Migration
from gworker.connection.payload import check_payload, raw_bytes
from gworker.connection.pending_transport import pending
from gworker.connection.state import (
    AWAITING_CLOSE,
    CLOSED,
    CLOSING,
    CONNECTING,
    ESTABLISHED,
    PauseReason,
)
from gworker.errors import ErrorCode, SendBufferFull
from gworker.http.headers import HeaderSource
from gworker.http.response import Response
from gworker.ipc.scoreboard import Column
from gworker.protocols.base import LARGE, Protocol


def defer_send(connection: AnyConnection, migration: Migration, data: Any, raw: bool) -> bool:
    """`send` while it is on its way: the message goes out where the connection goes on, before all
    that is sent there. False: as many bytes wait as may."""
    machine, io = connection.protocol_machine, connection.io
    if 0 < io.buffered + migration.size >= io.max_send_buffer_size:
        return False
    if raw:
        migration.defer("write", raw_bytes(data))
    elif machine.encoding is None and not machine.keeps_alive:
        # to encode it may change the protocol, of which a copy is on its way
        migration.defer("send", data)
    else:
        payload = machine.encode(data)
        check_payload(machine, payload)
        migration.defer("write", bytes(payload))
    return True


def send_unestablished(connection: AnyConnection, data: Any, raw: bool) -> bool:
    # `send` of a connection that is on its way, or not open.
    if connection.migration is not None:
        is_taken = defer_send(connection, connection.migration, data, raw)
    elif connection.lifecycle is not CLOSED and (io := pending(connection)) is not None:
        is_taken = io.keep(connection.protocol_machine, data, raw)
    else:
        return connection.reject_send("client closed")
    return is_taken or connection.reject_send("send buffer full and drop package")


def send(connection: AnyConnection, data: Any, raw: bool = False) -> bool:
    """Send one message; with `raw`, bytes past the protocol. Never blocks.

    True: written or queued. False: refused, and on_error was told: the connection is gone, or
    its send buffer is full. Raises TypeError or ValueError for what the protocol cannot carry.
    """
    if connection.lifecycle is not ESTABLISHED:
        return send_unestablished(connection, data, raw)
    io, machine = connection.io, connection.protocol_machine
    buffer = io.write_buffer
    if buffer is not None and 0 < buffer.size >= io.max_send_buffer_size:
        return connection.reject_send("send buffer full and drop package")
    kind = data.__class__
    if (
        kind is not str
        and (kind is not bytes or len(data) >= LARGE)
        and not raw
        and (parts := machine.split(data)) is not None
    ):
        sent = write_parts(connection, *parts)
    else:
        try:
            payload = raw_bytes(data) if raw else machine.encode(data)
        except SendBufferFull:
            return connection.reject_send("send buffer full and drop package")
        try:
            sent = io.write(payload) if connection.observer is None else connection.write(payload)
        except TypeError:  # looked for afterwards: it would cost every message
            check_payload(machine, payload)
            raise  # of something else
    if connection.parser_paused:
        job = connection.event_job
        if job is None or job.greenlet is not getcurrent():
            connection.continue_parsing()
    return sent


def write(connection: AnyConnection, data: bytes) -> bool:
    # False: the peer is gone.
    observer = connection.observer
    if observer is None:
        return connection.io.write(data)
    observer.sending(data)
    sent = connection.io.write(data)
    observer.sent(connection)
    return sent


def write_parts(connection: AnyConnection, head: bytes, body: bytes) -> bool:
    observer = connection.observer
    if observer is None:
        return connection.io.write_parts(head, body)
    observer.sending(head, len(body))
    sent = connection.io.write_parts(head, body)
    observer.sent(connection)
    return sent


def write_output(connection: AnyConnection) -> None:
    # Send what the protocol owes by itself. A peer that does not take it is not read any further.
    connection.write(connection.protocol_machine.data_to_send())
    if connection.io.is_full:
        connection.io.pause(PauseReason.WRITE_BLOCKED)


def ping(connection: AnyConnection, payload: bytes) -> bool:
    """See `Connection.ping`."""
    machine, migration = connection.protocol_machine, connection.migration
    if type(machine).ping is Protocol.ping:
        raise RuntimeError(f"the {machine.name} protocol has no pings")
    is_open = connection.lifecycle is ESTABLISHED or migration is not None
    if not is_open or not (frame := machine.ping(payload)):
        return False
    if migration is not None:
        return defer_send(connection, migration, frame, raw=True)
    if connection.io.is_full:
        return False
    return connection.write(frame)


def send_informational(connection: AnyConnection, status: int, headers: HeaderSource) -> bool:
    """See `Connection.send_informational`."""
    machine = connection.protocol_machine
    if not machine.keeps_alive:
        raise RuntimeError(f"the {machine.name} protocol has no informational answers")
    if not isinstance(status, int) or not 102 <= status <= 199:
        raise ValueError(f"an informational status is one of 102 to 199, not {status!r}")
    data = Response(status=status, headers=headers)
    if connection.lifecycle is not ESTABLISHED or not machine.awaits_answer:
        return False
    payload = machine.encode(data)
    return payload != b"" and not connection.io.is_full and connection.write(payload)


def reject_send(connection: AnyConnection, message: str) -> bool:
    connection.server_context.row[Column.SEND_FAILURES] += 1
    connection.notify("on_error", ErrorCode.SEND_FAIL, message)
    return False


# ---- what the transport tells


def write_failed(connection: AnyConnection) -> None:
    if connection.lifecycle is CONNECTING:
        connection.post(CONNECTION_RESET)
    else:
        connection.fail(ErrorCode.SEND_FAIL, "client closed")


def write_progress(connection: AnyConnection) -> None:
    if connection.observer is not None:
        connection.observer.progressed(connection)
    if connection.lifecycle is CLOSING or connection.lifecycle is AWAITING_CLOSE:
        # a slow reader is no stuck one
        connection.server_context.timeouts.closing(connection, anew=True)


# A peer may be full and empty again over and over while a handler runs: what is told of that is
# bounded, too.


def buffer_drained(connection: AnyConnection, was_full: bool) -> None:
    if connection.observer is not None:
        connection.observer.progressed(connection)
    if connection.lifecycle is CLOSING:
        connection.end()
        return
    if was_full and connection.lifecycle is ESTABLISHED:
        connection.tell_drained()
    if connection.parser_paused and connection.lifecycle is not CLOSED:
        connection.continue_parsing()
