"""How a connection ends politely: what is owed is sent, a goodbye is said, nothing is cut off."""

from __future__ import annotations

from typing import Any

from gworker.connection.dispatcher import AnyConnection
from gworker.connection.events import CallCallback
from gworker.connection.state import (
    AWAITING_CLOSE,
    CLOSED,
    CLOSING,
    DETACHED,
    ESTABLISHED,
    MIGRATING,
    RECONNECTING,
    PauseReason,
)
from gworker.errors import ErrorCode

undecided: set[Any] = set()
"""The connections whose handshake on_websocket_connect has not answered yet."""


def close(connection: AnyConnection, data: Any, code: int, reason: str) -> None:
    """See `Connection.close`. Only while ESTABLISHED."""
    machine = connection.protocol_machine
    if connection in undecided:
        undecided.discard(connection)
        if data is not None:
            machine.refuse_handshake(data)
        connection.begin_close(machine.data_to_send() or machine.close(code))
        return
    if data is not None:
        machine.closing = True  # an answer says that it is the last one (RFC 9112 section 9.6)
        connection.send(data)
    if code == 1000 and machine.is_sending:
        # what speaks no HTTP does not load it
        from gworker.connection.http_protocol import end_soon

        end_soon(connection)
        return
    say_goodbye(connection, machine.close(code, reason))


def say_goodbye(connection: AnyConnection, farewell: bytes) -> None:
    if connection.lifecycle is ESTABLISHED:
        awaiting = connection.protocol_machine.awaits_peer_close and farewell != b""
        connection.begin_close(farewell, awaiting)


def close_timed_out(connection: AnyConnection) -> None:
    """It has been closing for `close_timeout`: a peer that takes what waits for it may go on."""
    io = connection.io
    if connection.lifecycle is ESTABLISHED:
        from gworker.connection.http_protocol import out_of_time  # see close()

        if out_of_time(connection):
            return
    elif io.write_buffer is not None and (taken := io.acknowledged or 0) > io.write_buffer.seen:
        io.write_buffer.seen = taken
        connection.server_context.timeouts.closing(connection)
        return
    if connection.io.write_buffer is not None:  # a reset says that what the peer has is not all
        connection.reset()
    else:  # the peer may go on with what the kernel holds for it
        connection.destroy()


def begin_close(connection: AnyConnection, farewell: bytes, awaiting: bool = False) -> None:
    """Send `farewell` and what is queued, hear the peer's if `awaiting`, then close; all in
    `close_timeout`.

    A farewell that is no bytes, as a user's protocol may have it, ends it at once. TypeError.
    """
    io, server = connection.io, connection.server_context
    connection.lifecycle = AWAITING_CLOSE if awaiting and not io.eof_received else CLOSING
    try:
        if farewell:
            connection.write(farewell)
    except TypeError:
        connection.destroy()
        raise
    # The peer is gone, or on_buffer_full has ended it, or even begun anew.
    if connection.lifecycle is AWAITING_CLOSE:
        io.read_into(None)  # what still comes is dropped
        io.resume(PauseReason.ALL)
    elif connection.lifecycle is CLOSING:
        io.pause(PauseReason.BACKPRESSURE)
    else:
        return
    if io.write_buffer is not None:
        io.write_buffer.seen = io.acknowledged or 0
    server.timeouts.closing(connection)
    if connection.lifecycle is CLOSING and io.write_buffer is None:
        connection.end()


def peer_finished(connection: AnyConnection) -> None:
    # The peer has said goodbye, or will not.
    if connection.lifecycle is ESTABLISHED:
        connection.begin_close(connection.protocol_machine.close())
    elif connection.lifecycle is AWAITING_CLOSE or connection.lifecycle is CLOSING:
        connection.lifecycle = CLOSING
        if connection.io.write_buffer is None:
            connection.end()


def fail(connection: AnyConnection, code: ErrorCode, message: str) -> None:
    """Close at once, and call on_error, then on_close. In either a dialled one may begin anew,
    so it is closed before."""
    job = connection.event_job
    if job is not None and job.is_current:
        connection.end(abort=True)
        connection.call("on_error", code, message)  # on_close waits in the job
        return
    if connection.callbacks.on_error is not None:
        connection.enqueue(CallCallback("on_error", code, message))
    connection.end(abort=True)
    job = connection.event_job
    if job is not None and job.events and job.greenlet is None:
        connection.server_context.pool.start_soon(job)


def end(connection: AnyConnection, abort: bool = False, reset: bool = False) -> None:
    """The one door to CLOSED. abort: drop what is queued; reset: what the kernel holds, too."""
    if connection.lifecycle is CLOSED:
        return
    # The process that has it, or the user, hears the end of the stream.
    if connection.lifecycle is MIGRATING or connection.lifecycle is DETACHED:
        connection.io.shut_down()
        return
    is_told = connection.lifecycle is RECONNECTING  # on_close was called before reconnect()
    leave_tables(connection)
    if abort:
        connection.io.abort(reset)
    else:
        connection.io.close()
    try:
        flush_observer(connection)
        if not is_told:
            connection.wake()
            if connection.callbacks.on_close is not None:
                job = connection.enqueue(CallCallback("on_close"))
                if job.greenlet is None:
                    connection.server_context.pool.start_soon(job)
    finally:
        connection.server_context.registry.notify_closed()


def flush_observer(connection: AnyConnection) -> None:
    # The access log gets the lines that are due.
    if connection.observer is not None:
        connection.server_context.isolate_errors(connection.observer.closed)(connection)


def leave_tables(connection: AnyConnection) -> None:
    connection.lifecycle = CLOSED
    if connection.membership is not None:
        connection.server_context.messaging.members.forget(connection)
    connection.server_context.timeouts.forget(connection)
    connection.server_context.registry.unregister(connection, connection.io.remote)


def let_go(connection: AnyConnection) -> None:
    # In a process that user code has forked: the connection is the parent's. Nothing is told.
    if connection.event_job is not None:
        connection.event_job.events.clear()  # the job stays: a connection handler may run in it
    if connection.lifecycle is not CLOSED:
        leave_tables(connection)
        connection.io.forget()
