"""How a process lets go of the connections that a receiver has taken: between two messages."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.handover.departures import Departures
from gworker.handover.link import Batch, Link, Owed
from gworker.ipc.scoreboard import Column
from gworker.system import fork_guard

if TYPE_CHECKING:
    from gworker.messages.handover.departure import Departure

log = logging.getLogger("gworker")

# Seconds that connections which are members of nothing wait for the channels that all of them hear.
OTHERS_WAIT_SECONDS = 0.25


class Parting:
    """Batches that were answered, on their way out.

    on_refused: called with a connection that the receiver has not taken, and why. on_parted: called
    when a batch has parted outside of `part`. retry: called when something has to be tried again
    soon.
    """

    def __init__(
        self,
        service: ServerContext,
        departures: Departures,
        on_refused: Callable[[Connection, str], None],
        on_parted: Callable[[], None],
        retry: Callable[[], None],
    ) -> None:
        self._service = service
        self._departures = departures
        self._on_refused = on_refused
        self._on_parted = on_parted
        self._retry = retry

    def part(self, link: Link) -> None:
        """Let go of what the receiver has taken, batch by batch."""
        while link.answered:
            batch = link.answered[0]
            if batch.owed is None and not batch.is_parting:
                if not self._may_part(link, batch):
                    self._retry()
                    return
                self._part_soon(link, batch)
            if batch.owed is None:
                return  # in the middle of a message
            link.answered.popleft()
            self._settle(link, batch, batch.owed)

    def end(self, link: Link) -> None:
        """This process leaves: the receiver has what it has taken, and goes on with it."""
        for batch in link.answered:
            if batch.owed is None:
                batch.is_parting = True
                self._let_part(batch, link.departure)
            if batch.owed is not None:
                self._settle(link, batch, batch.owed)
        link.answered.clear()

    def _may_part(self, link: Link, batch: Batch) -> bool:
        departure, taken = self._departures.of(link), batch.taken
        if departure is None or not taken:
            return True
        if batch.wait is not None and not batch.wait.is_over:
            return False
        are_members = any(each.membership is not None for each in taken)
        if batch.wait is not None and (not are_members or departure.is_ready(taken)):
            return True
        try:
            batch.wait = (
                departure.begin(taken) if are_members else departure.begin((), OTHERS_WAIT_SECONDS)
            )
        except OSError as error:
            log.debug("handover: %s", error.strerror)
            return False
        return batch.wait.is_over

    def _part_soon(self, link: Link, batch: Batch) -> None:
        departure, messaging = link.departure, self._service.used_messaging
        if departure is None or messaging is None or not batch.taken:
            self._let_part(batch, None)
        else:
            batch.is_parting = True
            messaging.distribution.call_between(partial(self._let_part, batch, departure))

    def _let_part(self, batch: Batch, departure: Departure | None) -> None:
        # Perhaps in the greenlet that reads from the broker: the rest is done in the hub.
        if batch.owed is not None or (departure is not None and not batch.is_parting):
            return  # it was done, or the receiver is gone
        taken = batch.taken
        moved = None if departure is None else departure.part(taken)
        deferred = [one for connection in taken for one in connection.forget()]
        batch.owed = Owed(deferred, moved)
        if departure is not None:
            self._on_parted()

    def _settle(self, link: Link, batch: Batch, owed: Owed) -> None:
        taken = batch.taken
        if taken:
            link.tell({"late": self._append(batch, owed)})
        os.close(batch.memory)
        self._service.row[Column.HANDED_OVER] += len(taken)
        for index, why in batch.refused.items():
            self._on_refused(batch.connections[index], why)
        self._service.registry.notify_closed()

    def _append(self, batch: Batch, owed: Owed) -> int:
        # Put it behind what was packed; return its size in bytes.
        packed = []
        for one in owed.deferred:
            try:
                packed.append(pickle.dumps(one, pickle.HIGHEST_PROTOCOL))
            except BaseException as error:  # a message of a user's protocol
                fork_guard.end(error)
                self._service.row[Column.SEND_FAILURES] += 1
                text = "handover: a message cannot follow connection %d: %s: %s"
                log.error(text, one[0], type(error).__name__, error)
        data = b""
        if packed or owed.moved is not None:
            data = pickle.dumps((packed, owed.moved), pickle.HIGHEST_PROTOCOL)
        try:
            return os.pwrite(batch.memory, data, batch.size)
        except OSError as error:
            self._service.row[Column.SEND_FAILURES] += len(packed)
            log.error(
                "handover: what was sent to connections on their way is lost: %s", error.strerror
            )
            return 0
