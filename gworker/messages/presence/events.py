"""Events of presence: that members have come to groups. All processes hear of them on the channel
of the group, as of leaves (`due_leaves`), so that they see them in one order."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from typing import Final

from gworker.broker.interface import Broker
from gworker.errors import BrokerDown, BrokerError
from gworker.messages.background import in_background
from gworker.messages.control import presence_order
from gworker.messages.frame import order_body
from gworker.messages.host import Host
from gworker.messages.queries import Member

# Seconds in which joins of a group are collected: they are published in one frame.
COLLECTED_SECONDS: Final = 0.05

# Bytes of the members in one frame; more make a further one.
FRAME_BYTES: Final = 1 << 18


def _frames(joined: Collection[Member]) -> list[bytes]:
    bodies = []
    part: list[Member] = []
    size = 0
    for member in joined:
        part.append(member)
        size += len(json.dumps(member))
        if size >= FRAME_BYTES:
            bodies.append(order_body(presence_order(part, [])))
            part.clear()
            size = 0
    if part:
        bodies.append(order_body(presence_order(part, [])))
    return bodies


class EventPublisher:
    """The joins that one process publishes. on_unpublished: called when the broker does not take
    them; they are published with the next."""

    def __init__(self, broker: Broker, host: Host, on_unpublished: Callable[[], None]) -> None:
        self._broker = broker
        self._host = host
        self._on_unpublished = on_unpublished
        self._joined: dict[bytes, dict[bytes, Member]] = {}  # by channel and identity
        self._is_collecting = False

    def join(self, channel: bytes, identity: bytes, member: Member) -> None:
        """Publish it soon, with others."""
        self._joined.setdefault(channel, {})[identity] = member
        self.publish_soon()

    def publish_soon(self) -> None:
        """Publish what there is, and what comes in the next moment."""
        if self._joined and not self._is_collecting and not self._host.has_ended:
            self._is_collecting = True
            in_background(self._publish_collected)

    def _publish_collected(self) -> None:
        time.sleep(COLLECTED_SECONDS)
        self._is_collecting = False
        self.publish()

    def publish(self) -> None:
        """Publish what there is."""
        joined, self._joined = self._joined, {}
        unpublished = dict(joined)
        calls = []
        try:
            for channel, members in joined.items():
                bodies = _frames(members.values())
                answers = [self._broker.submit("publish", channel, body) for body in bodies]
                calls.append((channel, answers))
            for channel, answers in calls:
                for answer in answers:
                    answer.wait()
                del unpublished[channel]
        except (BrokerDown, BrokerError):
            self._on_unpublished()
            for channel, members in self._joined.items():
                unpublished.setdefault(channel, {}).update(members)
            self._joined = unpublished

    def end(self) -> None:
        """The process ends: what is collected goes out with the last that is sent."""
        for channel, members in self._joined.items():
            for body in _frames(members.values()):
                self._broker.post("publish", channel, body)
