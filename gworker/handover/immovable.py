"""How many connections of a process cannot move to another one, by the reason why."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter

import gevent

from gworker.connection.context import ServerContext

SLICE = 1000  # connections that are looked at in one turn of the event loop

MOST_REASONS = 16  # reasons that the arbiter gets: the most frequent ones


def count(server: ServerContext) -> Counter[str]:
    """The connections by their reason; those that can move under "". Between slices other
    greenlets run."""
    obstacle, found = server.isolate_errors(attrgetter("migration_obstacle")), Counter[str]()
    connections = list(server.registry.connections.values())
    for start in range(0, len(connections), SLICE):
        found.update(obstacle(each) or "" for each in connections[start : start + SLICE])
        gevent.sleep(0)
    return found


def summary(found: Counter[str]) -> dict[str, int]:
    """What the arbiter gets of `found`: those that cannot move."""
    return {why: number for why, number in found.most_common(MOST_REASONS) if why}
