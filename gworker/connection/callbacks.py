"""How things have their turn in a connection: its events, and the user's callbacks."""

from __future__ import annotations

import logging
import sys
from typing import Any

from gworker.app.callbacks import check_call
from gworker.connection.dispatcher import AnyConnection, Job, handle, new_job
from gworker.connection.events import (
    CONTINUE_PARSING,
    CallbackFailed,
    CallCallback,
    ConnectionReset,
    describe,
)
from gworker.connection.state import CLOSED, CONNECTING, ESTABLISHED
from gworker.errors import HandlerTimeout, RequestError
from gworker.protocols.base import INTERNAL_ERROR
from gworker.system import fork_guard

log = logging.getLogger("gworker")

MOST_TOLD = 128
"""So many things may wait for the user's callbacks; that something could not be sent is told often
enough then. A peer may be full and empty again over and over while a handler runs: that is bounded,
too."""


def enqueue(connection: AnyConnection, event: Any) -> Job:
    # Its job is begun elsewhere.
    job = connection.event_job
    if job is None:
        return new_job(connection, [event])
    job.events.append(event)
    return job


def post(connection: AnyConnection, event: Any) -> None:
    # From any greenlet.
    job = connection.enqueue(event)
    if job.greenlet is None:
        connection.server_context.pool.start_soon(job)
    else:
        connection.wake()


def wake(connection: AnyConnection) -> None:
    if connection.event_job is not None:
        connection.event_job.wake()
    try:
        connection.protocol_machine.notify_waiter()
    except BaseException:
        protocol_failed(connection)


def continue_parsing(connection: AnyConnection) -> None:
    # What the protocol has kept back may go on. From outside the job.
    if connection.event_job is None or connection.event_job.greenlet is None:
        connection.post(CONTINUE_PARSING)
    else:
        connection.wake()


def call(connection: AnyConnection, name: str, *arguments: Any) -> None:
    callback = getattr(connection.callbacks, name)
    if callback is not None:
        try:
            connection.server_context.intercepted(name, callback, connection, *arguments)
        except BaseException:
            connection.handler_failed(name)


def notify(connection: AnyConnection, name: str, *arguments: Any) -> None:
    # Call a callback because of what some greenlet just did: at once if that is the job's, else in
    # its turn.
    if getattr(connection.callbacks, name) is None:
        return
    job = connection.event_job
    if job is not None and job.is_current:
        connection.call(name, *arguments)
    elif name != "on_error" or job is None or len(job.events) < MOST_TOLD:
        connection.post(CallCallback(name, *arguments))


def protocol_failed(connection: AnyConnection, events: list[Any] | None = None) -> None:
    # A user's protocol has let an exception escape: as with a callback, it costs this connection
    # only, which is reset in its turn. events: those of a job that is being made.
    connection.server_context.report_exception("%r: exception in its protocol", connection)
    if connection.lifecycle is CLOSED:
        return
    reset = ConnectionReset(describe(sys.exception()))
    if events is None:
        connection.enqueue(reset)
    else:
        events.append(reset)


def handler_failed(connection: AnyConnection, name: str) -> None:
    # A callback or the protocol has let an exception escape: it costs this connection only.
    error = sys.exception()
    fork_guard.end(error)
    is_opening = connection.lifecycle is CONNECTING
    is_late = isinstance(error, HandlerTimeout)
    try:
        if not is_opening and _has_refused(connection, _gateway_timeout() if is_late else error):
            return
        if not is_late:  # else it was logged as its time was up
            connection.server_context.report_exception("%r: exception in %s", connection, name)
        if is_opening:  # at once: of what follows, nothing is the reason any more
            handle(connection, CallbackFailed(describe(error)), connection.handlers)
        else:
            connection.close(code=INTERNAL_ERROR)
    except Exception as failure:
        log.error("%r: cannot be closed politely: %r", connection, failure)
        connection.destroy()


def _gateway_timeout() -> RequestError:
    # what speaks no HTTP does not load it
    from gworker.http.errors import RefusedRequest

    return RefusedRequest("the handler has not answered in time", 504)


def buffer_full(connection: AnyConnection) -> None:
    if _last_told(connection) != "on_buffer_full":
        connection.notify("on_buffer_full")


def tell_drained(connection: AnyConnection) -> None:
    # on_buffer_full was called: now everything is sent.
    last = _last_told(connection)
    if last == "on_buffer_full" and connection.event_job is not None:
        connection.event_job.events.pop()  # it is not full any more
    elif last != "on_buffer_drain":
        connection.notify("on_buffer_drain")


def _last_told(connection: AnyConnection) -> str:
    job = connection.event_job
    if job is None or len(job.events) < MOST_TOLD:
        return ""
    last = job.events[-1]
    return last.name if isinstance(last, CallCallback) else ""


def _has_refused(connection: AnyConnection, error: BaseException | None) -> bool:
    # False: it is no RequestError, or the protocol has no answer to that.
    job = connection.event_job
    if not isinstance(error, RequestError) or (job is not None and job.has_request):
        return False
    is_open = connection.lifecycle is ESTABLISHED
    reply = connection.protocol_machine.refuse(error) if is_open else None
    if is_open and reply is None:
        return False
    log.info("%r: %s", connection, error)
    if reply is not None:
        connection.begin_close(reply)
    return True


def callback(name: str) -> property:
    def read(connection: AnyConnection) -> Any:
        return getattr(connection.callbacks, name)

    def write(connection: AnyConnection, function: Any) -> None:
        if function is not None:
            check_call(name, function, connection)
        connection.set_callback(name, function)

    return property(
        read, write, doc=f"`{name}` of this connection; setting it leaves the Worker's alone."
    )
