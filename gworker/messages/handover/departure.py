"""Connections that move to one successor, in the process that retires."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gworker.broker.interface import Broker
from gworker.messages.backlog import Position
from gworker.messages.channels import Channel, Channels
from gworker.messages.handover.moved import Moved
from gworker.messages.membership import Belongings, Membership

# Seconds within which markers have to come. Then connections move without.
MARKER_SECONDS: Final = 2.0

# Seconds for which connections that begin to move are counted from the same marker.
FRESH_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Mark:
    """marker: its id. at: when it was asked for, in monotonic seconds. received: what the channel
    had received when it came; None: it has not."""

    marker: str
    at: float
    received: int | None = None


class Wait:
    """Until the markers of some channels have come."""

    def __init__(self, missing: set[Channel], until: float) -> None:
        self.missing = missing
        self._until = until

    @property
    def is_over(self) -> bool:
        return not self.missing or time.monotonic() >= self._until


class Departure:
    """What goes to one successor.

    announce: tells it the id of a marker, and the channels on which to publish it. Raises OSError.
    on_marked: called when a Wait is over before its time. give_away: makes a connection a member of
    nothing here, and returns what it was. on_end: called with this at the end.
    """

    def __init__(
        self,
        broker: Broker,
        channels: Channels,
        give_away: Callable[[Any], Belongings],
        announce: Callable[[str, Sequence[bytes]], None],
        on_marked: Callable[[], None],
        on_end: Callable[[Departure], None],
    ) -> None:
        self._broker = broker
        self._everyone = channels.everyone
        self._give_away = give_away
        self._on_end = on_end
        self._announce = announce
        self._on_marked = on_marked
        self._marks: dict[Channel, _Mark] = {}
        self._waits: list[Wait] = []

    def begin(self, connections: Iterable[Any], seconds: float = MARKER_SECONDS) -> Wait:
        """Have the channels of `connections` marked, for at most `seconds`. Raises OSError."""
        now = time.monotonic()
        channels = self._channels_of(connections)
        if self._broker.state == "down":
            return Wait(set(), now)
        new = [each for each in channels if not self._is_fresh(each, now)]
        if new:
            marker = secrets.token_urlsafe(9)
            self._announce(marker, [each.name for each in new])
            self._marks.update((each, _Mark(marker, now)) for each in new)
        self._waits = [each for each in self._waits if not each.is_over]
        missing = {each for each in channels if self._is_due(self._marks[each], now)}
        until = max((self._marks[each].at for each in missing), default=now) + seconds
        wait = Wait(missing, until)
        if missing:
            self._waits.append(wait)
        return wait

    def _channels_of(self, connections: Iterable[Any]) -> set[Channel]:
        channels = set(self._everyone)
        for connection in connections:
            membership: Membership | None = connection.membership
            if membership is not None:
                channels.update(membership.all_channels)
        return channels

    def _is_fresh(self, channel: Channel, now: float) -> bool:
        mark = self._marks.get(channel)
        return mark is not None and now - mark.at < FRESH_SECONDS

    def _is_due(self, mark: _Mark, now: float) -> bool:
        return mark.received is None and now - mark.at < MARKER_SECONDS

    def is_ready(self, connections: Iterable[Any]) -> bool:
        """False: a channel of theirs is to be marked yet. That can be so after a Wait, if one of
        them has joined it, or the broker was away."""
        if self._broker.state == "down":
            return True
        marks = (self._marks.get(each) for each in self._channels_of(connections))
        now = time.monotonic()
        return all(mark is not None and not self._is_due(mark, now) for mark in marks)

    def marked(self, channel: Channel, marker: str) -> None:
        """The last message of the channel is this marker."""
        mark = self._marks.get(channel)
        if mark is None or mark.marker != marker:
            return
        mark.received = channel.received
        for wait in self._waits:
            wait.missing.discard(channel)
        if any(not each.missing for each in self._waits):
            self._waits = [each for each in self._waits if each.missing]
            self._on_marked()

    def interrupt(self, channel: Channel) -> None:
        """Messages may be missing here: its marker is worth nothing."""
        self._marks.pop(channel, None)

    def rest(self) -> None:
        """Those that could move have moved: the successor keeps no messages any more."""
        self._marks.clear()

    def part(self, connections: Sequence[Any]) -> Moved:
        """They are members of nothing here any more. Not within the delivery of a message."""
        positions: dict[bytes, Position] = {}
        offsets: dict[bytes, tuple[str, int]] = {}
        for channel in self._channels_of(connections):
            if any(each in channel.holds for each in connections):
                continue  # they have not had what the channel has
            if channel.position.epoch:
                offsets[channel.name] = channel.position.epoch, channel.position.offset
            mark = self._marks.get(channel)
            if mark is not None and mark.received is not None:
                # What is held back, they have not had.
                held = 0 if channel.held is None else len(channel.held.frames)
                positions[channel.name] = (mark.marker, channel.received - mark.received - held)
        belongings = {
            each.id: self._give_away(each) for each in connections if each.membership is not None
        }
        return Moved(self._broker.process, time.time(), positions, belongings, offsets)

    def end(self) -> None:
        self._on_end(self)
