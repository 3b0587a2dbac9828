"""The connections of a process for `gworker connections`: a row for each, as a line of JSON, in a
sealed memory file.

The rows are made a few at a time, in turns of the event loop: a process with many connections
serves them meanwhile. So a row says how it was when it was made, and a connection that has closed
by then has none.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from gworker.ipc import sealed_memory

if TYPE_CHECKING:
    from gworker.connection.connection import Connection
    from gworker.connection.context import ServerContext

log = logging.getLogger("gworker")

SLICE = 32  # Rows that are made in one go: a millisecond.


class ConnectionList:
    """One list in the making.

    limit: rows at most. done: gets the descriptor of the file, which is closed when it returns;
    none if there is no file.
    """

    def __init__(
        self, service: ServerContext, limit: int | None, done: Callable[[list[int]], object]
    ) -> None:
        self._service = service
        self._done = done
        numbers = sorted((*service.registry.connections, *service.registry.dialled))[:limit]
        self._numbers = numbers[::-1]  # of the rows to come, the next one last

    def start(self) -> None:
        # As far as that goes in this turn.
        try:
            file = os.fdopen(sealed_memory.create("gworker-connections"), "wb")
        except OSError as error:
            log.error("cannot list the connections: %s", error.strerror)
            self._done([])
            return
        self._continue(file)

    def _continue(self, file: BinaryIO) -> None:
        try:
            self._write_slice(file)
            if self._numbers:
                self._service.run_queue.add(partial(self._continue, file))
                return
            file.flush()
            sealed_memory.seal(file.fileno())
        except Exception:  # no memory, or a user's protocol describes itself with what is no text
            log.exception("cannot list the connections")
            self._done([])
        else:
            self._done([file.fileno()])
        with contextlib.suppress(OSError):
            file.close()

    def _write_slice(self, file: BinaryIO) -> None:
        connections, dialled = self._service.registry.connections, self._service.registry.dialled
        for number in reversed(self._numbers[-SLICE:]):
            connection = connections.get(number) or dialled.get(number)
            if connection is not None:
                line = json.dumps(row_of(connection, self._service.worker.name)) + "\n"
                file.write(line.encode())
        del self._numbers[-SLICE:]


def row_of(connection: Connection, worker: str) -> dict[str, str | int]:
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
