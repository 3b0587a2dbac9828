"""How a worker process ends: nothing that runs is cut off, and nobody is sent away twice.

    begin()   every connection ends as soon as that cuts nothing off, or is handed over to a
              successor
    quit()    the time is up, or somebody is in a hurry: say goodbye to everybody at once

`on_end` is called when nothing is left. WebSockets that have to go are told so one by one, at a
pace and in random order, because each of them will come back at once.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Any

from gworker.client.udp import quiesce
from gworker.connection.context import ServerContext
from gworker.handover.sender import Giver
from gworker.ipc.assignment import SERVICE_RESTART
from gworker.ipc.scoreboard import Column
from gworker.process.stack_dump import running_stacks

log = logging.getLogger("gworker")

SWEEP_SECONDS = 0.05

RELOAD_SILENCE, STOP_SILENCE = 5.0, 1.0
"""Seconds that peers have to finish what they have begun to send, and HTTP clients to ask once
more: the answer then says that it is the last, so that no request is lost on the way to a
connection that closes."""

QUICK_SECONDS = 1.0
"""What a quick stop leaves for farewells."""

SECONDS_PER_FAREWELL = 0.001
"""The pace: of 10 000 WebSockets each comes back within ten seconds, and never more than a thousand
in one."""

PART_FOR_FAREWELLS = 0.8
"""Of the time that a retirement may take."""

GOLDEN_RATIO = 0x9E3779B97F4A7C15
"""Of 2**64: its multiples are spread evenly (Knuth, The Art of Computer Programming 3, 6.4)."""


class Retirement:
    """The end of one process. `code`: what peers are told, if their protocol has words for it.

    strict: the process has handled as many messages as it may, and peers are answered once more at
    most.
    """

    def __init__(
        self, service: ServerContext, code: int, on_end: Callable[[], None], strict: bool = False
    ) -> None:
        self._service = service
        self._code = code
        self._strict = strict
        self._on_end = on_end
        self._began = time.monotonic()
        self._spread = 0.0
        """Seconds over which farewells are spread."""
        self._hope = 0.0
        """Seconds for which those that could be handed over wait for somebody to take them."""
        self._silence = RELOAD_SILENCE if code == SERVICE_RESTART else STOP_SILENCE
        self._told: set[int] = set()
        """Ids of the connections that are to end as soon as nothing is cut off by it."""
        self._sent_away: set[int] = set()
        """Ids of the connections that end because of us."""
        self._stays: dict[int, str] = {}
        """Why connections are not handed over, by their ids, as far as it was found out."""
        self.staying: Counter[str] = Counter()
        """Why connections are not handed over, as of the last sweep: how many of each."""
        self._soon = 0
        """How many are to end because of us, and have not been told."""
        self._end_between_messages = service.isolate_errors(
            methodcaller("end_between_messages", code, strict)
        )
        self._salt = random.getrandbits(32)
        self._watchers: list[Any] = []

    def begin(self, seconds: float, giver: Giver | None) -> None:
        """End politely within `seconds`; what `giver` takes is handed over."""
        self._service.giver = self._service.holder = giver
        self._service.on_job_end = self._look_again
        if self._code == SERVICE_RESTART:
            self._spread = min(
                seconds * PART_FOR_FAREWELLS, len(self._service.connections) * SECONDS_PER_FAREWELL
            )
            self._hope = seconds * (1 - PART_FOR_FAREWELLS)
        self._for_each(lambda connection: connection.notify_waiter())
        self._every(SWEEP_SECONDS, self.sweep)
        self._after(max(0.0, seconds), partial(self._run_out_of_time, seconds))

    def hurry(self) -> None:
        """The instance stops, while this process retires for another reason: no peer has longer
        than at a stop."""
        self._silence, self._spread, self._hope = STOP_SILENCE, 0.0, 0.0

    def _run_out_of_time(self, seconds: float) -> None:
        try:
            self._tell_what_is_cut(seconds)
        finally:
            self.quit()

    def _tell_what_is_cut(self, seconds: float) -> None:
        service = self._service
        if service.pool.active:
            text = "%s#%d did not finish within %g s; this still runs:\n%s"
            log.warning(text, service.worker.name, service.worker.id, seconds, running_stacks())
        is_answering = service.isolate_errors(lambda each: getattr(each, "is_answering", False))
        owing = [each for each in service.connections.values() if is_answering(each)]
        if owing:
            text = "%s#%d: requests that were not answered within %g s: %d, the first of %r"
            log.warning(text, service.worker.name, service.worker.id, seconds, len(owing), owing[0])

    def quit(self) -> None:
        """Say goodbye to everybody at once, and leave."""
        self._after(QUICK_SECONDS, self._on_end)
        giver, self._service.giver, self._service.holder = self._service.giver, None, None
        self._service.on_job_end = None
        if giver is not None:
            giver.close()
        open_ones = [
            each.id for each in self._service.connections.values() if each.status == "established"
        ]
        self._sent_away.update(open_ones)
        self._service.row[Column.TURNED_AWAY] = len(self._sent_away)
        self._close_handshaking()
        self._for_each(lambda connection: connection.close(code=self._code))
        self._every(0.02, self._end_when_empty)

    def _every(self, seconds: float, step: Callable[[], None]) -> None:
        timer = self._service.loop.timer(seconds, seconds)
        timer.start(step)
        self._watchers.append(timer)

    def _after(self, seconds: float, step: Callable[[], None]) -> None:
        timer = self._service.loop.timer(seconds)
        timer.start(step)
        self._watchers.append(timer)

    def let_go(self) -> None:
        """In a process that user code has forked: it is the parent that retires."""
        for watcher in self._watchers:
            watcher.stop()

    def sweep(self) -> None:
        """Look who can end or go now."""
        service = self._service
        if service.giver is not None and service.giver.is_busy:
            return  # with thousands on their way, looking at each of them would only delay them
        if time.monotonic() - self._began >= self._silence:
            self._close_handshaking()
        self.staying.clear()
        self._soon = 0
        self._for_each(self._dismiss)
        service.row[Column.TURNED_AWAY] = len(self._sent_away) + self._soon
        waits = (
            service.connections or service.handshaking or service.takers or service.lingerer.sockets
        )
        if not (waits or service.is_at_work):
            self._on_end()
        elif not waits and service.dialled:
            quiesce(service)  # who consumes without a pause would never come to an end

    def _dismiss(self, connection: Any) -> None:
        giver, age, number = self._service.giver, time.monotonic() - self._began, connection.id
        if not (why := self._stays.get(number, "")):
            why = connection.migration_obstacle if giver is None else giver.why_stays(connection)
            if why:
                self._stays[number] = why
        waits_for_taker = giver is not None and not why
        if giver is not None and waits_for_taker and (giver.has_taker or age < self._hope):
            giver.offer(connection)
            return
        self.staying[why] += 1
        since = self._hope if waits_for_taker else 0.0
        if not (connection.reconnects_at_once and age < since + self._moment(number)):
            self._retire(connection)
        if number not in self._sent_away:
            self._soon += 1

    def _retire(self, connection: Any) -> None:
        was_told = connection.id in self._told
        self._told.add(connection.id)
        if self._strict and was_told and not connection.may_still_ask:
            has_ended = self._end_between_messages(connection)
        else:
            has_ended = connection.retire(
                self._code, patient=time.monotonic() - self._began < self._silence
            )
            if self._strict and not connection.may_still_ask:
                connection.hold_back()
        if has_ended:
            self._sent_away.add(connection.id)

    def _look_again(self, connection: Any) -> None:
        """Nothing of `connection` is at work any more. From any greenlet."""
        giver = self._service.giver
        if giver is not None:
            giver.offer(connection)
        if connection.id not in self._told:
            return
        # A peer that asks without a pause is never found idle by a sweep.
        if self._end_between_messages(connection):
            self._sent_away.add(connection.id)
        else:
            self._service.loop.run_callback(self._isolated(self._retire), connection)

    def _close_handshaking(self) -> None:
        """Their handshake has taken long enough."""
        for each in list(self._service.handshaking):
            each.destroy()

    def _moment(self, number: int) -> float:
        """When the connection of this number is told: seconds from the beginning, evenly spread and
        without order."""
        return (number ^ self._salt) * GOLDEN_RATIO % 2**64 / 2**64 * self._spread

    def _for_each(self, step: Callable[[Any], object]) -> None:
        """What one connection's protocol raises must not keep us from all the others."""
        isolated = self._isolated(step)
        for connection in self._service.connections.values():
            isolated(connection)

    def _isolated(self, step: Callable[[Any], object]) -> Callable[[Any], object]:
        return self._service.isolate_errors(step, "cannot end politely")

    def _end_when_empty(self) -> None:
        if not self._service.connections:
            self._on_end()
