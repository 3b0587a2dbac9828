"""Leaves that are due: the broker gives each to the first process that asks for it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable
from typing import Final, cast

from gworker.broker.interface import Broker
from gworker.errors import BrokerDown
from gworker.messages.presence.events import EventPublisher
from gworker.messages.queries import member_of

log = logging.getLogger("gworker")

# Partitions of which one round asks, in turn. All 128 of a Redis are asked of within 8 seconds, and
# by each process of the cluster; those of its own leaves a process asks of when they are due.
MOST_ASKED: Final = 16

# Seconds after which a leave is due, and a little more for its way to the broker.
LEAVE_SECONDS: Final = 3.1

# Leaves in one answer of a broker, which may have more of them then.
FULL_ANSWER: Final = 1000


class DueLeaves:
    """Those that one process asks for."""

    def __init__(self, broker: Broker, events: EventPublisher) -> None:
        self._broker = broker
        self._events = events
        self._due: dict[int, tuple[float, bytes]] = {}  # by partition: when, and a channel of it
        self._turn = random.SystemRandom().randrange(128)

    def __bool__(self) -> bool:
        """True: some will be due."""
        return bool(self._due)

    def expect(self, channel: bytes) -> None:
        """A member leaves this group now. Those that have left before are due earlier."""
        when = time.monotonic() + LEAVE_SECONDS
        self._due.setdefault(self._broker.partition_of(channel), (when, channel))

    def publish(self, groups: Iterable[bytes]) -> None:
        """Take those of some of `groups`, and those that are expected now, and publish them."""
        used = {self._broker.partition_of(each): each for each in groups}
        asked = self._next_of(used)
        now = time.monotonic()
        for partition in [each for each, (when, _) in self._due.items() if when <= now]:
            asked[partition] = self._due.pop(partition)[1]
        try:
            calls = [self._broker.submit("take_due_leaves", each) for each in asked.values()]
            for channel, call in zip(asked.values(), calls, strict=True):
                leaves = cast("list[list[bytes]]", call.wait())
                for of, *member in leaves:
                    self._events.leave(of, member[1], member_of(member))
                if len(leaves) >= FULL_ANSWER:
                    self._due[self._broker.partition_of(channel)] = now, channel
        except BrokerDown:
            pass  # what it has is due later
        except Exception:
            log.exception("the leaves that are due could not be asked for")
        if self._events.has_leaves:
            self._events.publish()  # at once: one that is back now is a join later

    def _next_of(self, used: dict[int, bytes]) -> dict[int, bytes]:
        # The partitions whose turn it is.
        ordered = sorted(used)
        self._turn = self._turn % max(1, len(ordered))
        chosen = (ordered[self._turn :] + ordered[: self._turn])[:MOST_ASKED]
        self._turn += len(chosen)
        return {each: used[each] for each in chosen}
