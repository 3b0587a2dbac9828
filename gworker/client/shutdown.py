"""The end of dialled connections with their process."""

from __future__ import annotations

import time
from operator import methodcaller

import gevent

from gworker.connection.context import ServerContext


def quiesce(service: ServerContext) -> None:
    # All that was accepted has ended: no message is handled any more. Handlers that run may finish.
    for connection in service.registry.dialled.values():
        connection.on_message = None
        connection.pause_recv()


def close_all(service: ServerContext, seconds: float) -> None:
    """The process ends: close what it has dialled, politely, and wait `seconds` at most. Nothing is
    dialled then."""
    service.dialling_over = True
    close = service.isolate_errors(methodcaller("close"))
    for connection in list(service.registry.dialled.values()):
        close(connection)
    end = time.monotonic() + seconds
    while (
        service.registry.dialled or service.is_at_work or service.lingerer.sockets
    ) and time.monotonic() < end:
        gevent.sleep(0.01)
