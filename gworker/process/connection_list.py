"""The connections of a process for `gworker connections`: a row for each, as a line of JSON, in a
sealed memory file.

The rows are made a few at a time, in turns of the event loop: a process with many connections
serves them meanwhile. So a row says how it was when it was made, and a connection that has closed
by then has none.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.ipc import sealed_memory

log = logging.getLogger("gworker")

SLICE = 32  # Rows that are made in one go: a millisecond.


def list_connections(
    service: ServerContext, limit: int | None, done: Callable[[list[int]], object]
) -> None:
    """Make one list. Blocks its greenlet.

    limit: rows at most. done: gets the descriptor of the file, which is closed when it returns;
    none if there is no file.
    """
    connections, dialled = service.registry.connections, service.registry.dialled
    numbers = sorted((*connections, *dialled))[:limit]
    try:
        with open(sealed_memory.create("gworker-connections"), "wb") as file:
            for at, number in enumerate(numbers):
                if at and at % SLICE == 0:
                    service.run_queue.wait()
                connection = connections.get(number) or dialled.get(number)
                if connection is not None:
                    row = row_of(connection, service.worker.name)
                    if (others := service.greenlets.running.get(number)) is not None:
                        row["status"] += f", {len(others)} greenlets"
                    file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            sealed_memory.seal(file.fileno())
            done([file.fileno()])
    except Exception:  # no memory, or a user's protocol describes itself with what is no text
        log.exception("cannot list the connections")
        done([])


def row_of(connection: Connection, worker: str) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "worker": worker,
        "id": connection.id,
        "transport": connection.transport,
        "protocol": connection.protocol,
        "local": connection.local_address,
        "remote": connection.remote_address,
        "recv_queue": connection.recv_queue,
        "send_queue": connection.unacknowledged,
        "bytes_read": connection.bytes_read,
        "bytes_written": connection.bytes_written,
        "status": connection.status,
        "age": max(0, int(time.time()) - connection.accepted_at),
    }
