"""What waits for the peers of one process, also in the kernel: seen by looking at all of them now
and then.

A peer that reads nothing has the kernel hold what is sent to it, and as long as that has room
nothing waits here. So nobody writes such a peer down: it is found in one of the rounds, within a
quarter of `send_timeout`, and is then under the deadline for those that take too little
(`ServerContext.sending`). A round is skipped if nothing was sent since the last one, and goes on
in the next turns of the event loop when there are many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gworker.connection.min_rate import LOOKS
from gworker.ipc.scoreboard import Column

if TYPE_CHECKING:
    from gworker.connection.context import ServerContext

LONGEST_ROUND = 10.0
SHORTEST_ROUND = 0.25
"""Seconds between two rounds."""

SLICE = 64
"""Connections that are looked at in one go: a tenth of a millisecond."""

SEND_QUEUE = Column.SEND_QUEUE.value


class SendQueues:
    """The rounds of one process. The sum of what waits is in its row of the scoreboard."""

    def __init__(self, service: ServerContext) -> None:
        self._service = service
        seconds = service.limits.send_timeout
        period = (
            max(SHORTEST_ROUND, min(LONGEST_ROUND, seconds / LOOKS)) if seconds else LONGEST_ROUND
        )
        self._timer: Any = service.loop.timer(period, period)
        self._rest: list[Any] = []
        self._sum = 0
        self._written = 0

    def start(self) -> None:
        """Look from now on."""
        self._timer.start(self._begin)

    def stop(self) -> None:
        """Look no more."""
        self._timer.stop()
        self._rest.clear()

    def _begin(self) -> None:
        service = self._service
        if self._rest:  # the last round is not over: this process has much else to do
            return
        if service.bytes_written == self._written and not service.row[SEND_QUEUE]:
            return
        self._written = service.bytes_written
        self._rest = [*service.connections.values(), *service.dialled.values()]
        self._sum = 0
        self._go_on()

    def _go_on(self) -> None:
        service = self._service
        for connection in self._rest[-SLICE:]:
            waiting = connection.unacknowledged
            if waiting and connection.status == "established":
                service.sending.watch(connection)
            self._sum += waiting
        del self._rest[-SLICE:]
        if self._rest:
            service.run_queue.add(self._go_on)
        else:
            service.row[SEND_QUEUE] = self._sum
