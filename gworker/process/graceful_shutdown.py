"""How a worker process ends: nothing that runs is cut off, and no client is sent away twice.

    begin()   every connection ends as soon as that cuts nothing off, or is handed over to a
              successor
    quit()    the time is up, or the instance is stopped quickly: close every connection at once

`on_end` is called when nothing is left. WebSockets that have to go are closed one by one, at a pace
and in random order, because each of them will come back at once.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from operator import methodcaller

from gworker.client.connection import quiesce
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.handover.sender import HandoverSender
from gworker.ipc.assignment import SERVICE_RESTART
from gworker.ipc.scoreboard import Column
from gworker.process.stack_dump import running_stacks
from gworker.system.event_loop import Watcher

log = logging.getLogger("gworker")

POLL_SECONDS = 0.05

# Seconds that peers have to finish what they have begun to send, and HTTP clients to ask once more:
# the answer then says that it is the last, so that no request is lost on the way to a connection
# that closes.
RELOAD_SILENCE, STOP_SILENCE = 5.0, 1.0

QUICK_SECONDS = 1.0  # what a quick stop leaves for farewells

# The pace: of 10 000 WebSockets each comes back within ten seconds, about a thousand in one second.
SECONDS_PER_FAREWELL = 0.001

PART_FOR_FAREWELLS = 0.8  # of the time that a graceful shutdown may take


class GracefulShutdown:
    """The end of one process.

    code: the close code that peers are sent, if their protocol has one. on_end: called when nothing
    is left, perhaps more than once. strict: the process has handled as many messages as it may, and
    peers are answered once more at most.
    """

    def __init__(
        self, service: ServerContext, code: int, on_end: Callable[[], None], strict: bool = False
    ) -> None:
        self._service = service
        self._code = code
        self._strict = strict
        self._on_end = on_end
        self._began = time.monotonic()
        self._spread = 0.0  # seconds over which farewells are spread
        self._delays: dict[int, float] = {}  # by id: the part of that after which one is closed
        self._handover_wait = 0.0  # seconds that a connection which can move waits for a successor
        self._patience = RELOAD_SILENCE if code == SERVICE_RESTART else STOP_SILENCE
        self._told: set[int] = set()  # ids of those that are to end
        self._sent_away: set[int] = set()  # ids of those that end because of us
        self._stays: dict[int, str] = {}  # by id: why one is not handed over, once that is known
        # Why connections are not handed over, as of the last poll: how many for each reason.
        self.staying: Counter[str] = Counter()
        self._waiting = 0  # how many are to end because of us, and are not closed yet
        self._end_between_messages = service.isolate_errors(
            methodcaller("end_between_messages", code, strict)
        )
        self._watchers: list[Watcher] = []
        # Hands connections over, if there may be a successor.
        self.sender: HandoverSender | None = None

    def begin(self, seconds: float, sender: HandoverSender | None) -> None:
        """End politely within `seconds`; what `sender` takes is handed over."""
        self.sender = self._service.holder = sender
        self._service.on_job_end = self._job_ended
        if self._code == SERVICE_RESTART:
            farewells = len(self._service.registry.connections) * SECONDS_PER_FAREWELL
            self._spread = min(seconds * PART_FOR_FAREWELLS, farewells)
            self._handover_wait = seconds * (1 - PART_FOR_FAREWELLS)
        self._for_each(methodcaller("notify_waiter"))
        self._schedule(self.poll, POLL_SECONDS, POLL_SECONDS)
        self._schedule(partial(self._run_out_of_time, seconds), max(0.0, seconds))

    def hurry(self) -> None:
        """The instance stops, while this process retires for another reason: peers have as long as
        at a stop."""
        self._patience, self._spread, self._handover_wait = STOP_SILENCE, 0.0, 0.0

    def _run_out_of_time(self, seconds: float) -> None:
        service = self._service
        try:
            if service.pool.active or service.greenlets.running:
                text = "%s#%d did not finish within %g s; this still runs:\n%s"
                log.warning(text, service.worker.name, service.worker.id, seconds, running_stacks())
            is_answering = service.isolate_errors(lambda each: getattr(each, "is_answering", False))
            owing = [each for each in service.registry.connections.values() if is_answering(each)]
            if owing:
                text = "%s#%d: requests that were not answered within %g s: %d, the first of %r"
                which = service.worker.name, service.worker.id
                log.warning(text, *which, seconds, len(owing), owing[0])
        finally:
            self.quit()

    def quit(self) -> None:
        self._schedule(self._on_end, QUICK_SECONDS)
        self._schedule(self._service.greenlets.kill, QUICK_SECONDS / 2)
        sender, self.sender, self._service.holder = self.sender, None, None
        self._service.on_job_end = None
        if sender is not None:
            sender.close()
        connections = self._service.registry.connections.values()
        self._sent_away.update(each.id for each in connections if each.status == "established")
        self._service.row[Column.TURNED_AWAY] = len(self._sent_away)
        self._close_handshaking()
        self._for_each(lambda connection: connection.close(code=self._code))
        self._schedule(self._end_when_empty, 0.02, 0.02)

    def _schedule(self, step: Callable[[], None], after: float, repeat: float = 0.0) -> None:
        timer = self._service.loop.timer(after, repeat)
        timer.start(step)
        self._watchers.append(timer)

    def release_all(self) -> None:
        """In a process that user code has forked: it is the parent that retires."""
        for watcher in self._watchers:
            watcher.stop()
        if self.sender is not None:
            self.sender.close()

    @property
    def _age(self) -> float:
        return time.monotonic() - self._began

    def poll(self) -> None:
        service = self._service
        if self.sender is not None and self.sender.is_busy:
            return  # with thousands on their way, looking at each of them would only delay them
        if self._age >= self._patience:
            self._close_handshaking()
        self.staying.clear()
        self._waiting = 0
        self._for_each(self._close_or_handover)
        service.row[Column.TURNED_AWAY] = len(self._sent_away) + self._waiting
        waits = service.registry.clients or service.receivers or service.lingerer.sockets
        if not (waits or service.is_at_work):
            self._on_end()
        elif not waits and service.registry.dialled:
            quiesce(service)  # a consumer without a pause would never come to an end

    def _close_or_handover(self, connection: Connection) -> None:
        sender, age, number = self.sender, self._age, connection.id
        if not (why := self._stays.get(number, "")):
            why = connection.migration_obstacle if sender is None else sender.obstacle(connection)
            self._stays[number] = why
        can_move = sender is not None and not why
        if sender is not None and can_move and (sender.has_receiver or age < self._handover_wait):
            sender.offer(connection)
            return
        self.staying[why] += 1
        delay = self._spread * self._delays.setdefault(number, random.random())
        wait = delay + (self._handover_wait if can_move else 0.0)
        if not (connection.reconnects_at_once and age < wait):
            self._retire(connection)
        if number not in self._sent_away:
            self._waiting += 1

    def _retire(self, connection: Connection) -> None:
        was_told = connection.id in self._told
        self._told.add(connection.id)
        if self._strict and was_told and not connection.may_still_ask:
            has_ended = self._end_between_messages(connection)
        else:
            has_ended = connection.retire(self._code, patient=self._age < self._patience)
            if self._strict and not connection.may_still_ask:
                connection.hold_back()
        if has_ended:
            self._sent_away.add(connection.id)

    def _job_ended(self, connection: Connection) -> None:
        # From any greenlet.
        if self.sender is not None:
            self.sender.offer(connection)
        if connection.id not in self._told:
            return
        # A peer that asks without a pause is never found idle by a poll.
        if self._end_between_messages(connection):
            self._sent_away.add(connection.id)
        else:
            self._service.loop.run_callback(self._isolated(self._retire), connection)

    def _close_handshaking(self) -> None:
        for each in list(self._service.registry.handshaking):
            each.destroy()

    def _for_each(self, step: Callable[[Connection], object]) -> None:
        isolated = self._isolated(step)
        for connection in self._service.registry.connections.values():
            isolated(connection)

    def _isolated(self, step: Callable[[Connection], object]) -> Callable[[Connection], object]:
        return self._service.isolate_errors(step, "cannot end politely")

    def _end_when_empty(self) -> None:
        if not self._service.registry.connections and not self._service.greenlets.running:
            self._on_end()
