"""What timers ask of a connection: whether it rests, and whether its peer gets on."""

from __future__ import annotations

from gworker.connection.dispatcher import AnyConnection
from gworker.connection.min_rate import NOT_PEERS_FAULT
from gworker.connection.state import CLOSED, MIGRATING, PauseReason


def is_idle(connection: AnyConnection) -> bool:
    """True if no handler runs, nor a greenlet beside it, and nothing waits: neither a message nor
    bytes to send."""
    job = connection.event_job
    return (
        (job is None or (job.waiter is not None and not job.events))
        and connection.io.write_buffer is None
        and not connection.parser_paused
        and not connection.server_context.greenlets.is_busy(connection)
    )


def is_held(connection: AnyConnection) -> bool:
    # We want it not to be read, whatever the peer sends.
    return connection.io.pause_reasons & PauseReason.ON_PURPOSE != 0


def is_resting(connection: AnyConnection) -> bool:
    # Between two exchanges: the peer may ask again, or not.
    machine = connection.protocol_machine
    return machine.keeps_alive and not machine.waiting_for() and not machine.is_answering


def unfinished(connection: AnyConnection) -> int | None:
    """Which message has come in part, as a number; None: none, or it is ours to read on."""
    if connection.io.pause_reasons or connection.parser_paused:
        return None
    return connection.protocol_machine.message_start(connection.io.bytes_read)


def body_progress(connection: AnyConnection) -> int | None:
    # For `min_rate`; None: no body is arriving.
    if connection.lifecycle is CLOSED or connection.protocol_machine.waiting_for() != "body":
        return None
    if connection.io.pause_reasons or connection.parser_paused or connection.lifecycle is MIGRATING:
        return NOT_PEERS_FAULT
    return connection.io.bytes_read


def taken(connection: AnyConnection) -> int | None:
    # For `min_rate`.
    return NOT_PEERS_FAULT if connection.lifecycle is MIGRATING else connection.io.acknowledged
