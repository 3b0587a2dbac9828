"""How a connection ends with its process, and how it is found silent: nothing is cut off."""

from __future__ import annotations

from gworker.connection.closing import say_goodbye
from gworker.connection.dispatcher import AnyConnection
from gworker.connection.events import CONTINUE_PARSING
from gworker.connection.state import ESTABLISHED, PauseReason
from gworker.protocols.base import INTERNAL_ERROR


def may_still_ask(connection: AnyConnection) -> bool:
    # True if the peer has begun to ask, or is given time for that because the answer says that it
    # is the last.
    machine = connection.protocol_machine
    return machine.keeps_alive or machine.is_partial or machine.waiting_for() != ""


def has_body_to_read(connection: AnyConnection) -> bool:
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
        io.read_now()  # what has arrived but was not read yet must not be lost
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
    # Close, with nothing unread or unsent. While something is on its way to the peer, a reset could
    # cost the peer that: then the socket lingers.
    farewell = connection.protocol_machine.close(code)
    if farewell or connection.io.unacknowledged:
        say_goodbye(connection, farewell)
        return
    connection.io.finish_sending()
    connection.destroy()


def hold_back(connection: AnyConnection) -> None:
    """The process takes nothing more: read no further, but for the body that a handler waits
    for, and the end of a client whose answer is due."""
    job = connection.event_job
    is_running = job is not None and job.greenlet is not None
    reads = (
        has_body_to_read(connection) if is_running else connection.protocol_machine.awaits_answer
    )
    if not reads:
        connection.io.pause(PauseReason.HANDOVER)


def read_on(connection: AnyConnection) -> None:
    # No successor takes it for now: go on with what it has sent.
    if connection.io.pause_reasons & PauseReason.HANDOVER and connection.lifecycle is ESTABLISHED:
        connection.io.resume(PauseReason.HANDOVER)
        if connection.parser_paused:
            connection.post(CONTINUE_PARSING)


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
        io.read_now()  # an answer may wait in the socket of a process that was busy
    return connection.lifecycle is ESTABLISHED and io.bytes_read == read


def probe(connection: AnyConnection) -> bool:
    """Ask the peer for a sign of life, unless it is busy taking what is queued. False: there is
    no asking it."""
    if connection.lifecycle is not ESTABLISHED or not (ping := connection.protocol_machine.ping()):
        return False
    return connection.io.write_buffer is not None or connection.write(ping)


def expire(connection: AnyConnection) -> None:
    # The peer does not answer: it is told, and nothing is waited for.
    machine = connection.protocol_machine
    connection.begin_close(machine.close(INTERNAL_ERROR, "no answer to a ping"))
