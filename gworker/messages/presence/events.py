"""Events of presence: that members have come to groups, and gone. All processes hear of them on the
channel of the group, so that they see them in one order."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
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


class _Events:
    """What is to be published of one group: members by their identity. Leaves come first."""

    __slots__ = ("joined", "left")

    def __init__(self) -> None:
        self.joined: dict[bytes, Member] = {}
        self.left: dict[bytes, Member] = {}

    def leave(self, identity: bytes, member: Member) -> None:
        # One of which no join was published has no leave.
        if self.joined.pop(identity, None) is None:
            self.left[identity] = member

    def add(self, later: _Events) -> None:
        for identity, member in later.left.items():
            self.leave(identity, member)
        self.joined.update(later.joined)

    def frames(self) -> list[bytes]:
        bodies = []
        joined: list[Member] = []
        left: list[Member] = []
        size = 0
        for members, part in ((self.left.values(), left), (self.joined.values(), joined)):
            for member in members:
                part.append(member)
                size += len(json.dumps(member))
                if size >= FRAME_BYTES:
                    bodies.append(order_body(presence_order(joined, left)))
                    joined.clear()
                    left.clear()
                    size = 0
        if joined or left:
            bodies.append(order_body(presence_order(joined, left)))
        return bodies


class EventPublisher:
    """The events that one process publishes. on_unpublished: called when the broker does not take
    them; they are published with the next."""

    def __init__(self, broker: Broker, host: Host, on_unpublished: Callable[[], None]) -> None:
        self._broker = broker
        self._host = host
        self._on_unpublished = on_unpublished
        self._events: dict[bytes, _Events] = {}  # by channel
        self._is_collecting = False

    def join(self, channel: bytes, identity: bytes, member: Member) -> None:
        """Publish it soon, with others."""
        self._events.setdefault(channel, _Events()).joined[identity] = member
        self.publish_soon()

    def leave(self, channel: bytes, identity: bytes, member: Member) -> None:
        """Publish it with the next `publish`."""
        self._events.setdefault(channel, _Events()).leave(identity, member)

    @property
    def has_leaves(self) -> bool:
        return any(each.left for each in self._events.values())

    def publish_soon(self) -> None:
        """Publish what there is, and what comes in the next moment."""
        if self._events and not self._is_collecting and not self._host.has_ended:
            self._is_collecting = True
            in_background(self._publish_collected)

    def _publish_collected(self) -> None:
        time.sleep(COLLECTED_SECONDS)
        self._is_collecting = False
        self.publish()

    def publish(self) -> None:
        """Publish what there is."""
        events, self._events = self._events, {}
        unpublished = dict(events)
        calls = []
        try:
            for channel, each in events.items():
                answers = [self._broker.submit("publish", channel, body) for body in each.frames()]
                calls.append((channel, answers))
            for channel, answers in calls:
                for answer in answers:
                    answer.wait()
                del unpublished[channel]
        except (BrokerDown, BrokerError):
            self._on_unpublished()
            for channel, each in self._events.items():
                unpublished.setdefault(channel, _Events()).add(each)
            self._events = unpublished

    def end(self) -> None:
        """The process ends: what is collected goes out with the last that is sent."""
        for channel, events in self._events.items():
            for body in events.frames():
                self._broker.post("publish", channel, body)
