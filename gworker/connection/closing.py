"""How a connection ends politely: what is owed is sent, a goodbye is said, nothing is cut off."""

from __future__ import annotations

from typing import Any

from gworker.connection.dispatcher import AnyConnection, undecided
from gworker.connection.state import ESTABLISHED


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
        from gworker.connection.http_exchange import end_soon

        end_soon(connection)
        return
    say_goodbye(connection, machine.close(code, reason))


def say_goodbye(connection: AnyConnection, farewell: bytes) -> None:
    """Close behind `farewell`, and wait for the peer's own if the protocol has such."""
    if connection.lifecycle is ESTABLISHED:
        awaiting = connection.protocol_machine.awaits_peer_close and farewell != b""
        connection.begin_close(farewell, awaiting)


def close_timed_out(connection: AnyConnection) -> None:
    """It has been closing for `close_timeout`: a peer that takes what waits for it may go on."""
    if connection.lifecycle is ESTABLISHED:
        from gworker.connection.http_exchange import out_of_time  # see close()

        out_of_time(connection)
        return
    io, server = connection.io, connection.server_context
    buffer = io.write_buffer
    if buffer is not None and (taken := io.acknowledged or 0) > buffer.seen:
        buffer.seen = taken
        server.timeouts.closing(connection)
    else:
        cut(connection)


def cut(connection: AnyConnection) -> None:
    """The time to close politely is up. A reset tells the peer that what it has is not all."""
    if connection.io.write_buffer is not None:
        connection.reset()
    else:  # the peer may go on with what the kernel holds for it
        connection.destroy()


# ---- for a process that retires


def may_still_ask(connection: AnyConnection) -> bool:
    """True if the peer has begun to ask, or is given time for that because the answer says that it
    is the last."""
    machine = connection.protocol_machine
    return machine.keeps_alive or machine.is_partial or machine.waiting_for() != ""


def has_body_to_read(connection: AnyConnection) -> bool:
    """True while the peer owes the rest of a body."""
    return connection.protocol_machine.waiting_for() == "body"


def retire(connection: AnyConnection, code: int, patient: bool) -> bool:
    """End as soon as nothing is cut off by it. True: that was decided now.

    patient: a peer that is about to ask, or may, is still given time for that; then the answer
    says that it is the last. code: the close code for protocols that have one.
    """
    if connection.lifecycle is not ESTABLISHED:
        return False
    machine = connection.protocol_machine
    was_closing, machine.closing = machine.closing, True
    connection.read_on()
    is_decided = machine.keeps_alive and not was_closing
    if patient and may_still_ask(connection):
        return is_decided
    io = connection.io
    if not io.eof_received and not io.pause_reasons:
        io.on_readable()  # what has arrived but was not read yet must not be lost
    if (
        connection.lifecycle is not ESTABLISHED
        or not connection.is_idle
        or has_body_to_read(connection)  # it may take as long as something of it comes
    ):
        return is_decided
    if patient and may_still_ask(connection):
        return False
    _leave(connection, code)
    return True


def end_between_messages(connection: AnyConnection, code: int, strict: bool) -> bool:
    """Its handler has ended, or waits: end if the peer has sent nothing more. True: it has. From
    any greenlet.

    strict: also if it has. That is lost, as if it had come a moment later.
    """
    if (
        connection.lifecycle is not ESTABLISHED
        or not connection.is_idle
        or may_still_ask(connection)
    ):
        return False
    if not connection.io.has_unread():
        _leave(connection, code)
    elif strict:
        say_goodbye(connection, connection.protocol_machine.close(code))
    else:
        return False
    return True


def _leave(connection: AnyConnection, code: int) -> None:
    """Close, with nothing unread or unsent.

    While something is on its way to the peer, a reset could cost the peer that: then the socket
    lingers.
    """
    farewell = connection.protocol_machine.close(code)
    if farewell or connection.io.unacknowledged:
        say_goodbye(connection, farewell)
        return
    connection.io.finish_sending()
    connection.destroy()


# ---- for the pings


def is_silent(connection: AnyConnection, read: int, written: int) -> bool:
    """True if nothing has come since `bytes_read` was `read`, and, unless -1, nothing went since
    `written`."""
    io = connection.io
    if (
        connection.lifecycle is not ESTABLISHED
        or io.pause_reasons
        or written not in (-1, io.bytes_written)
    ):
        return False
    if not io.eof_received and io.bytes_read == read:
        io.on_readable()  # an answer may wait in the socket of a process that was busy
    return connection.lifecycle is ESTABLISHED and io.bytes_read == read
