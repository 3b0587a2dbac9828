"""What a process tells of its connections: a row for each, as a line of JSON, in a sealed memory
file.

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
from typing import TYPE_CHECKING, Any, BinaryIO

from gworker.ipc import sealed_memory

if TYPE_CHECKING:
    from gworker.connection.context import ServerContext

log = logging.getLogger("gworker")

SLICE = 32
"""Rows that are made in one go: a millisecond."""


class ConnectionList:
    """One list in the making. done: gets the descriptor of the file, which is closed when it
    returns; none if there is no file."""

    def __init__(
        self, service: ServerContext, limit: int | None, done: Callable[[list[int]], object]
    ) -> None:
        self._service = service
        self._done = done
        numbers = sorted((*service.connections, *service.dialled), reverse=True)
        self._numbers = (
            numbers if limit is None else numbers[len(numbers) - min(limit, len(numbers)) :]
        )
        """Of those that are still to come, the next one last."""
        self._file: BinaryIO | None = None

    def begin(self) -> None:
        """Make the list, as far as that goes in this turn."""
        try:
            self._file = os.fdopen(sealed_memory.create("gworker-connections"), "wb")
        except OSError as error:
            log.error("cannot list the connections: %s", error.strerror)
            self._done([])
            return
        self._go_on()

    def _go_on(self) -> None:
        file = self._file
        assert file is not None
        try:
            self._write(file)
            if self._numbers:
                self._service.run_queue.add(self._go_on)
                return
            file.flush()
            sealed_memory.seal(file.fileno())
        except Exception:  # there is no memory, or what a user's protocol says of itself is no text
            log.exception("cannot list the connections")
            self._done([])
        else:
            self._done([file.fileno()])
        with contextlib.suppress(OSError):
            file.close()

    def _write(self, file: BinaryIO) -> None:
        """The next rows."""
        connections, dialled = self._service.connections, self._service.dialled
        for number in reversed(self._numbers[-SLICE:]):
            connection = connections.get(number) or dialled.get(number)
            if connection is not None:
                line = json.dumps(row_of(connection, self._service.worker.name)) + "\n"
                file.write(line.encode())
        del self._numbers[-SLICE:]


def row_of(connection: Any, worker: str) -> dict[str, Any]:
    """One row of `gworker connections`."""
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
