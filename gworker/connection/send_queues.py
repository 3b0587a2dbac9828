"""What waits for the peers of one process, also in the kernel: seen by looking at all connections
now and then.

A peer that reads nothing has the kernel hold what is sent to it, and as long as that has room
nothing waits here. So nothing is written down for such a peer: it is found in one of the rounds,
within a quarter of `send_timeout`, and has then to keep the minimum rate (`Timeouts.sending`). A
round is skipped if nothing was sent since the last one, and goes on in the next turns of the event
loop when there are many connections.
"""

from __future__ import annotations

from collections.abc import Callable

from gworker.connection.min_rate import POLLS
from gworker.connection.registry import Member
from gworker.connection.run_queue import RunQueue
from gworker.ipc.scoreboard import Column, Row
from gworker.system.event_loop import Loop

# Seconds between two rounds.

LONGEST_ROUND = 10.0
SHORTEST_ROUND = 0.25

SLICE = 64  # connections that are looked at in one go: a tenth of a millisecond

SEND_QUEUE = Column.SEND_QUEUE.value


class SendQueues:
    """The rounds of one process. The sum of what waits is in its row of the scoreboard.

    written: bytes that the process has sent so far. sending: gets each connection for which
    something waits.
    """

    def __init__(
        self,
        loop: Loop,
        send_timeout: float,
        *,
        connections: Callable[[], list[Member]],
        written: Callable[[], int],
        sending: Callable[[Member], None],
        row: Row,
        run_queue: RunQueue,
    ) -> None:
        self._connections = connections
        self._written = written
        self._sending = sending
        self._row = row
        self._run_queue = run_queue
        period = max(SHORTEST_ROUND, min(LONGEST_ROUND, send_timeout / POLLS or LONGEST_ROUND))
        self._timer = loop.timer(period, period)
        self._round: list[Member] = []
        self._sum = 0
        self._written_before = 0

    def start(self) -> None:
        self._timer.start(self._begin)

    def stop(self) -> None:
        self._timer.stop()
        self._round.clear()

    def _begin(self) -> None:
        if self._round:  # the last round is not over: this process has much else to do
            return
        written = self._written()
        if written == self._written_before and not self._row[SEND_QUEUE]:
            return
        self._written_before = written
        self._round = self._connections()
        self._sum = 0
        self._continue()

    def _continue(self) -> None:
        for connection in self._round[-SLICE:]:
            waiting = connection.unacknowledged
            if waiting and connection.status == "established":
                self._sending(connection)
            self._sum += waiting
        del self._round[-SLICE:]
        if self._round:
            self._run_queue.add(self._continue)
        else:
            self._row[SEND_QUEUE] = self._sum
