"""From the bytes that were read to the messages and events of a job. In a leader, or in the job."""

from __future__ import annotations

from typing import Any

from greenlet import getcurrent

from gworker.connection.callbacks import protocol_failed
from gworker.connection.dispatcher import QUEUE_BYTES, AnyConnection, Job, new_job
from gworker.connection.events import ProtocolViolation
from gworker.connection.state import AWAITING_CLOSE, CLOSING, CONNECTING, ESTABLISHED, PauseReason
from gworker.errors import ProtocolError
from gworker.protocols.base import EOF, LARGE, MORE, NEED_DATA, PAUSED, Protocol, Switch

MAX_UNASKED = 65536
"""Bytes that a peer may send while an answer is due to it, or while it is sent events: they are
kept for their turn."""


class _Raised:
    """In place of an event: what the protocol has raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def data_received(connection: AnyConnection, data: bytes | None) -> Job | None:
    # None: what has come is in the protocol's receive buffer. One piece, as it runs for
    # each read: see `Job.run`.
    job = connection.event_job
    if (
        job is None
        and data
        and not connection.parser_paused
        and connection.observer is None
        and not connection.server_context.timeouts.pending
    ):
        machine = connection.protocol_machine
        event: Any
        try:
            machine.receive_data(data)
            event = machine.next_event()
        except BaseException as error:
            event = _Raised(error)
        kind = event.__class__
        if (  # the usual: one message, and nothing behind it
            (kind is bytes or kind is str)
            and not machine.has_pending
            and not machine.has_output
            and machine.inflated_bytes < QUEUE_BYTES
        ):
            job = connection.event_job = Job()  # new_job(), without its call
            job.connection, job.events = connection, [event]
            job.greenlet, job.unread_bytes = None, 0
            return job
        connection.parse(None, event)
    else:
        if connection.observer is not None:
            connection.observer.received()
        if data and (
            connection.parser_paused
            or (job is not None and job.greenlet is not None and job.waiter is None)
        ):
            count_unread(connection, len(data))
        connection.parse(data)
    job = connection.event_job
    if job is not None and job.events:
        if job.greenlet is None:
            return job
        connection.wake()
    elif (
        connection.io.pause_reasons
        and not connection.parser_paused
        and (job is None or job.waits_for_peer)
    ):
        connection.io.resume(PauseReason.BACKPRESSURE)
    return None


def buffer_received(connection: AnyConnection, size: int) -> Job | None:
    job = connection.event_job
    if job is not None and job.greenlet is not None and job.waiter is None:
        count_unread(connection, size)
    buffer = connection.protocol_machine.receive_buffer
    if buffer is None or (buffer.left and not buffer.is_watched):
        return None
    return data_received(connection, None)


def parse(connection: AnyConnection, data: bytes | None = None, event: Any = None) -> None:
    """Hand `data` to the protocol, and move what it has ready into the job. None: it has kept
    something back, or has given `event` already."""
    job = connection.event_job
    events: list[Any] = [] if job is None else job.events
    try:
        if event is None:
            if data is not None:
                connection.protocol_machine.receive_data(data)
            else:  # in the greenlet of the job, which is not one that reads
                connection.server_context.poller.reader = getcurrent()
            if connection.parser_paused:
                if not _may_go_on(connection, data):
                    return  # the job asks when it has worked off what it has
                connection.parser_paused = False
            event = connection.protocol_machine.next_event()
        _take_events(connection, event, events, asked=data is None)
    except ProtocolError as error:
        events.append(ProtocolViolation(error))
    except BaseException:
        protocol_failed(connection, events)
    finally:
        if data is None:
            connection.server_context.poller.reader = None
    if job is None and events:
        new_job(connection, events)
    try:
        if connection.observer is not None:
            connection.observer.parsed()
        if connection.protocol_machine.has_output:
            connection.write_output()
    except BaseException:
        protocol_failed(connection)


def _take_events(connection: AnyConnection, event: Any, events: list[Any], asked: bool) -> None:
    # Append `event`, and what else the protocol has ready. asked: no bytes have just come.
    if event.__class__ is _Raised:
        raise event.error
    machine = connection.protocol_machine
    if event is NEED_DATA:
        set_deadline(connection)
    while event is not NEED_DATA:
        if event is PAUSED:
            connection.parser_paused = True
            if asked or connection.io.eof_received:
                _look_for_handler(connection, events)
            return
        if event.__class__ is Switch:
            machine = _switch(connection, event)
        else:
            events.append(event)
            if event is EOF:
                return
            if (
                event is MORE
                or len(events) >= connection.server_context.batch
                or machine.inflated_bytes >= QUEUE_BYTES
                or machine.lockstep
                # Between a request and its answer there is nothing but the end.
                or (machine.keeps_alive and not connection.io.eof_received)
            ):
                connection.parser_paused = True
                return
        if not machine.has_pending and not connection.io.eof_received:
            if connection.server_context.timeouts.pending:
                set_deadline(connection)
            return
        event = machine.next_event()
    buffer = machine.receive_buffer
    if buffer is not None and buffer.left >= LARGE:
        connection.io.read_into(buffer)


def _may_go_on(connection: AnyConnection, data: bytes | None) -> bool:
    # True if a protocol that has paused is to be asked again.
    machine, job = connection.protocol_machine, connection.event_job
    is_busy = data is not None and job is not None and job.is_busy
    if is_busy and (machine.lockstep or machine.inflated_bytes >= QUEUE_BYTES):
        return False
    return has_room(connection)


def has_room(connection: AnyConnection) -> bool:
    # False: no further request is read, because the answers to those before it fill the send
    # buffer.
    buffer = connection.io.write_buffer
    if buffer is None or connection.lifecycle is CLOSING or connection.lifecycle is AWAITING_CLOSE:
        return True
    observer = connection.observer
    return buffer.size < connection.io.max_send_buffer_size and not (
        observer is not None and not observer.has_room
    )


def may_parse(connection: AnyConnection) -> bool:
    # The protocol has kept something back: a request, a part of the handshake, or the peer's
    # goodbye if that is awaited.
    if connection.lifecycle is not ESTABLISHED:
        return connection.lifecycle is AWAITING_CLOSE or connection.lifecycle is CONNECTING
    server, machine = connection.server_context, connection.protocol_machine
    is_held_back = server.takes_no_more and connection.io.pause_reasons & PauseReason.HANDOVER != 0
    return has_room(connection) and (not is_held_back or machine.is_answering)


def count_unread(connection: AnyConnection, size: int) -> None:
    # `size` bytes were read while the handler is busy: above a bound, stop reading.
    job = connection.event_job
    if job is None:
        job = new_job(connection, [])
    job.unread_bytes += size
    most = min(QUEUE_BYTES, connection.protocol_machine.max_package_size)
    if connection.parser_paused:
        # while an answer is due, reading on is the only way to see that the peer leaves
        most = min(most, MAX_UNASKED) if connection.protocol_machine.keeps_alive else 0
    if job.unread_bytes >= most:
        connection.io.pause(PauseReason.BACKPRESSURE)


def _look_for_handler(connection: AnyConnection, events: list[object]) -> None:
    # The protocol goes on after an answer. If no handler runs that could give it, the peer's end is
    # the end.
    machine, job = connection.protocol_machine, connection.event_job
    if events or not machine.awaits_answer:
        return
    if job is None or job.is_current or job.waits_for_peer:
        # no request is taken before the answer, but the end is to be heard
        connection.io.resume(PauseReason.HANDOVER)
        if connection.io.eof_received:
            events.append(EOF)
        elif (handler := connection.callbacks.on_message) is not None:
            connection.server_context.unanswered.watch(connection, handler)


def _switch(connection: AnyConnection, event: Switch) -> Protocol:
    connection.protocol_machine = machine = event.protocol
    if connection.observer is not None:
        connection.observer.switched(machine)
    connection.configure(machine)
    if event.leftover:
        machine.receive_data(event.leftover)
    return machine


def set_deadline(connection: AnyConnection) -> None:
    # What a server owes is the application's to judge.
    if connection.is_dialled:
        return
    timeouts, owed = connection.server_context.timeouts, connection.protocol_machine.waiting_for()
    if owed or timeouts.pending:
        timeouts.expect(connection, owed)
    if owed == "body" and connection.protocol_machine.streams_stalled:
        timeouts.may_stall(connection)


def body_stalled(connection: AnyConnection) -> None:
    """Nothing of the body that is read has come for a while: hand out the request, and its body as
    it comes."""
    is_busy = connection.event_job is not None
    if connection.lifecycle is not ESTABLISHED or is_busy:
        return
    event = connection.protocol_machine.stream_rest()
    if event is None:
        return
    connection.io.read_into(None)
    connection.parse(None, event)
    if (job := connection.event_job) is not None and job.greenlet is None:
        connection.server_context.pool.start_soon(job)


def deadline_passed(connection: AnyConnection) -> None:
    # A handshake or header is late, or a body comes too slowly.
    if connection.lifecycle is not ESTABLISHED:
        return
    if connection.io.pause_reasons & PauseReason.ON_PURPOSE:  # nothing can come of it
        set_deadline(connection)
    elif connection.protocol_machine.waiting_for():
        connection.begin_close(connection.protocol_machine.timed_out())
