"""Store: the state of a broker, and its operations by their names."""

from __future__ import annotations

import time
from collections.abc import Callable

from gworker.broker.interface import Reply
from gworker.broker.store.declarations import Declarations
from gworker.broker.store.messages import Messages
from gworker.broker.store.presence import Presence
from gworker.broker.store.values import Values


class Store:
    """operations: what can be asked of a broker. Each takes a channel and arguments.
    presence: its part with members and leases.

    deliver: passes a payload to the subscribers of a channel, and returns how many there are.
    clock: seconds, never backwards.
    """

    def __init__(
        self,
        deliver: Callable[[bytes, bytes], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._messages = messages = Messages(deliver, self._now)
        self.presence = presence = Presence(deliver, self._now)
        self._values = values = Values(self._now)
        declarations = Declarations()
        self.operations: dict[str, Callable[..., Reply]] = {
            operation.__name__: operation
            for operation in (
                messages.publish,
                messages.keep,
                messages.history,
                messages.position,
                messages.rotate,
                presence.enter,
                presence.exit,
                presence.members,
                presence.count,
                presence.publish_due_leaves,
                presence.renew,
                presence.reap,
                values.get,
                values.set,
                values.add,
                values.delete,
                values.increment,
                values.compare_and_set,
                values.expire,
                values.keys,
                declarations.declare,
                declarations.declarations,
            )
        }

    def _now(self) -> float:
        """The time. What has expired until then is dropped first, in all parts: so one that is
        never asked holds nothing for ever."""
        now = self._clock()
        self._messages.drop_expired(now)
        self.presence.drop_expired(now)
        self._values.drop_expired(now)
        return now
