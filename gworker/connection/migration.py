"""What is asked for of a connection while its socket is on its way to another process.

A Migration exists only then. What it holds is done where the connection goes on: here if the other
process does not take the socket, or there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gworker.app.callbacks import Callbacks
from gworker.connection.closing import leave_tables
from gworker.connection.dispatcher import AnyConnection
from gworker.connection.events import CallCallback
from gworker.connection.receiving import set_deadline
from gworker.connection.state import CLOSED, DETACHED, ESTABLISHED, MIGRATING, PauseReason
from gworker.http.request import Request

NO_CALLBACKS = Callbacks()  # of a connection that another process has taken

# (id of the connection, what was asked for, arguments).
Deferred = tuple[Any, ...]


@dataclass(slots=True)
class Migration:
    """The calls that wait, of the connection number `id`. belongings: what it was a member of when
    it was packed; None: of nothing."""

    id: int
    belongings: Any = None
    deferred: list[Deferred] = field(default_factory=list)
    size: int = 0  # bytes that were encoded and wait

    def defer(self, name: str, *arguments: Any) -> None:
        """Do this later: `write` (bytes), `send` (a message), `close` (code, reason), `pause_recv`
        or `resume_recv`."""
        if name == "write":
            self.size += len(arguments[0])
        self.deferred.append((self.id, name, *arguments))


def apply(connection: AnyConnection, deferred: list[Deferred]) -> None:
    """Do what was asked for. A message that the protocol cannot carry is lost."""
    for _, name, *arguments in deferred:
        if name == "close":
            connection.close(None, *arguments)
        elif name == "send":
            try:
                connection.send(*arguments)
            except (TypeError, ValueError):  # its sender went on long ago
                connection.server_context.report_exception(
                    "%r: a message that was sent while it moved", connection
                )
        elif name == "write" and connection.lifecycle is CLOSED:  # by what was written before
            connection.reject_send("client closed")
        else:
            getattr(connection, name)(*arguments)


def obstacle(connection: AnyConnection) -> str:
    """Why it cannot move to another process, whatever it is doing; "" if it can.

    The keys of a TLS connection live in OpenSSL, which does not give them away. Callbacks of
    its own may refer to anything in this process.
    """
    worker, machine = connection.server_context.worker, connection.protocol_machine
    if connection.io.is_tls:
        return "TLS"
    if connection.callbacks is not worker.callbacks:
        return "own callbacks"
    if connection.lifecycle is DETACHED:
        return "a detached socket"
    return worker.migration_obstacle(machine.keeps_alive) or machine.migration_obstacle


def is_movable(connection: AnyConnection) -> bool:
    """True while nothing of it is bound to this process: no handler, no message, no answer that
    is owed."""
    machine, job = connection.protocol_machine, connection.event_job
    if (
        connection.lifecycle is not ESTABLISHED
        or (job is not None and job.is_busy)
        or machine.is_answering
        or connection.id in connection.server_context.greenlets.running
    ):
        return False
    # What moves with handover=False moves between two requests only.
    return connection.server_context.worker.handover is not False or not (
        machine.is_partial or machine.waiting_for() == "body"
    )


def suspend(connection: AnyConnection) -> int:
    # Only while ESTABLISHED. Returns the descriptor.
    connection.lifecycle = MIGRATING
    connection.migration = Migration(connection.id)
    return connection.io.detach()


def resume(connection: AnyConnection) -> None:
    # The other process has not taken it.
    deferred = _end_migration(connection)
    connection.lifecycle = ESTABLISHED
    connection.io.reattach()
    # a deadline that has passed meanwhile was not told
    connection.server_context.isolate_errors(set_deadline)(connection)
    apply(connection, deferred)
    connection.read_on()


def forget(connection: AnyConnection) -> list[Deferred]:
    """The other process has taken it: forget it, without a word to the peer or to the user. What it
    was a member of was given away before.

    Its descriptor has left the epoll set before (`suspend`). Returns what was asked of it
    meanwhile: the other process has to do that.
    """
    deferred = _end_migration(connection)
    leave_tables(connection)
    connection.io.forget()
    # nothing happens to the peer: that a `send` to this object is refused is not told
    connection.callbacks = NO_CALLBACKS
    return deferred


def _end_migration(connection: AnyConnection) -> list[Deferred]:
    migration, connection.migration = connection.migration, None
    return [] if migration is None else migration.deferred


def activate(connection: AnyConnection, deferred: list[Deferred]) -> None:
    """Go on where the predecessor stopped. From the hub.

    What was sent while it moved goes out first; then on_takeover is called; then follows what
    came meanwhile. deferred: what was asked of it where it came from.
    """
    own = _end_migration(connection)
    connection.lifecycle = ESTABLISHED
    connection.io.reattach()
    if connection.callbacks.on_takeover is not None:
        connection.enqueue(CallCallback("on_takeover"))
    apply(connection, [*deferred, *own])
    if connection.server_context.takes_no_more:
        connection.io.pause(PauseReason.HANDOVER)
        connection.parser_paused = True  # there may be messages among what was moved
    elif connection.lifecycle is ESTABLISHED:
        connection.parse()
    job = connection.event_job
    if job is not None and job.events and job.greenlet is None:
        connection.server_context.pool.start(job)


def state(connection: AnyConnection) -> dict[str, Any]:
    # What `restore` needs in another process, besides the descriptor and the protocol.
    return {
        "accepted_at": connection.accepted_at,
        "transport": connection.io.state(),
        "request": connection.request,
        "paused": connection.parser_paused,
        "context": connection.app_context,
        "observer": None if connection.observer is None else connection.observer.state(),
        "belongings": None if connection.membership is None else connection.membership.belongings(),
    }


def restore(connection: AnyConnection, state: dict[str, Any]) -> None:
    # While it is suspended.
    connection.accepted_at = state["accepted_at"]
    if connection.migration is not None:
        connection.migration.belongings = state["belongings"]
    connection.io.restore(state["transport"])
    connection.request = request = state["request"]
    if isinstance(request, Request):
        request.come_from(connection.io)
    connection.parser_paused = state["paused"]
    connection.app_context = state["context"]
    if connection.observer is not None and state["observer"] is not None:
        connection.observer.restore(state["observer"])
