"""The connections that are members of groups, or a user's: they go when the channels that they hear
are marked."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress

from gworker.connection.connection import Connection
from gworker.handover.departures import Departures
from gworker.handover.link import BATCH, Group, Link

log = logging.getLogger("gworker")

# Groups of connections whose channels are being marked for one receiver.
PREPARING = 4


class MemberQueue:
    """Where they wait, until a link takes them and their channels are marked for its receiver.

    may_go: whether nothing binds a connection to this process. retry: called when something has to
    be tried again soon.
    """

    def __init__(
        self,
        departures: Departures,
        may_go: Callable[[Connection], object],
        retry: Callable[[], None],
    ) -> None:
        self._departures = departures
        self._may_go = may_go
        self._retry = retry
        self._waiting: OrderedDict[int, Connection] = OrderedDict()  # by id

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, connection: Connection) -> None:
        self._waiting[connection.id] = connection

    def pop(self) -> Connection:
        return self._waiting.popitem(last=False)[1]

    def clear(self) -> None:
        self._waiting.clear()

    def is_marked(self, link: Link, connection: Connection) -> bool:
        """Whether all channels that it hears are marked."""
        departure = self._departures.of(link)
        return departure is None or departure.is_ready([connection])

    def mark_common(self, link: Link) -> None:
        """Have the channels marked that all connections hear, so that none has to wait for them
        later."""
        departure = self._departures.of(link)
        if departure is not None:
            with suppress(OSError):
                departure.begin(())

    def prepare(self, links: Sequence[Link]) -> None:
        """Have the channels of the next ones marked. `Link.prepared` has those that may go."""
        for link in links:
            while link.preparing and link.preparing[0].wait.is_over:
                group = link.preparing.popleft().connections
                link.prepared.update((each.id, each) for each in group)
        while self._waiting and (chosen := _link_with_room(links)) is not None:
            group = []
            while self._waiting and len(group) < min(BATCH, chosen.room_left):
                connection = self.pop()
                if not any(_has(each, connection) for each in links) and self._may_go(connection):
                    group.append(connection)
            if group and not self._begin(chosen, group):
                break
        if any(link.preparing for link in links):
            self._retry()

    def _begin(self, link: Link, group: list[Connection]) -> bool:
        # False: not now.
        departure = self._departures.of(link)
        if departure is None:
            link.prepared.update((each.id, each) for each in group)
            return True
        try:
            wait = departure.begin(group)
        except OSError as error:
            log.debug("handover: %s", error.strerror)
            for connection in group:
                self.add(connection)
            self._retry()
            return False
        if wait.is_over:
            link.prepared.update((each.id, each) for each in group)
        else:
            link.preparing.append(Group(group, wait))
        return True

    def take_back(self, link: Link) -> None:
        """Let those that have not gone over `link` go over another one."""
        waiting = [*link.prepared.values(), *(one for each in link.preparing for one in each[0])]
        link.prepared.clear()
        link.preparing.clear()
        for connection in waiting:
            self.add(connection)


def _link_with_room(links: Sequence[Link]) -> Link | None:
    free = [link for link in links if link.room_left > 0 and len(link.preparing) < PREPARING]
    return max(free, key=lambda link: link.room_left, default=None)


def _has(link: Link, connection: Connection) -> bool:
    return connection.id in link.prepared or any(
        connection in group.connections for group in link.preparing
    )
