"""Where connections that move to another process are in their channels, so that nothing is lost or
doubled on the way.

The process that retires names its channels to its successor. That subscribes to them, publishes a
marker on each, and keeps what comes. Both see the marker at the same place of the channel's order.
When the old process stops to send to a connection, it says how many messages it has had since the
marker; the successor sends it those behind that place, and then what comes.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gworker.messages import control, frame
from gworker.messages.channels import GROUP, Channel
from gworker.messages.membership import Belongings, Membership

if TYPE_CHECKING:
    from gworker.messages.messaging import Messaging

# Seconds within which markers have to come. Then connections move without.
MARKER_SECONDS: Final = 2.0

# Seconds for which connections that begin to move are counted from the same marker.
FRESH_SECONDS: Final = 5.0

# Seconds for which a successor keeps a message.
KEEP_SECONDS: Final = 15.0

# (id of the marker, messages since); None: there was no marker.
Position = tuple[str, int] | None


class Moved(NamedTuple):
    """What a process knew of connections when it stopped to send to them.

    process: its name with the broker. at: in seconds since the epoch. positions: by channel.
    belongings: by the connections' ids. offsets: (epoch, offset) of the last message that members
    have had, by channel that keeps its messages.
    """

    process: bytes
    at: float
    positions: Mapping[bytes, Position]
    belongings: Mapping[int, Belongings]
    offsets: Mapping[bytes, tuple[str, int]]


# ---- in the successor


class Backlog:
    """The last messages of one channel, with the places of markers among them.

    count: how many have come; the place of the last one. users: for whom it is kept. hidden: of a
    channel of all connections, those to which it is still the predecessor that sends.
    """

    __slots__ = ("_marks", "_messages", "_waiting", "count", "hidden", "users")

    def __init__(self) -> None:
        self.count = 0
        self.users: set[Arrival] = set()
        self.hidden: set[Any] = set()
        self._messages: deque[tuple[float, bytes]] = deque()
        self._marks: dict[str, int] = {}
        self._waiting: list[tuple[int, list[Any]]] = []  # behind which place their turn begins

    def add(self, payload: bytes) -> list[Any]:
        """One has come. Returns the connections whose turn begins with it."""
        due = self._take_waiting(self.count) if self._waiting else []
        self.count += 1
        now = time.monotonic()
        messages = self._messages
        messages.append((now, payload))
        while messages[0][0] < now - KEEP_SECONDS:
            messages.popleft()
        return due

    @property
    def is_needed(self) -> bool:
        """False: nobody comes any more, and nobody waits."""
        return bool(self.users or self._waiting)

    def mark(self, marker: str) -> None:
        """The last one that has come is this marker."""
        self._marks[marker] = self.count

    def place(self, position: Position) -> int | None:
        """Where that is; None: that is not known, or not all behind it is kept."""
        mark = None if position is None else self._marks.get(position[0])
        if position is None or mark is None:
            return None
        place = mark + position[1]
        return None if self.count - place > len(self._messages) else place

    def behind(self, place: int) -> list[bytes]:
        start = len(self._messages) - (self.count - place)
        return [payload for _, payload in itertools.islice(self._messages, start, None)]

    def wait(self, place: int, connections: list[Any]) -> None:
        """They have had what comes until `place`."""
        self._waiting.append((place, connections))

    def interrupt(self) -> list[Any]:
        """Messages may be missing: no place is known any more. Returns those that waited."""
        self._messages.clear()
        self._marks.clear()
        return self._take_waiting(None)

    def _take_waiting(self, place: int | None) -> list[Any]:
        due = [each for each in self._waiting if place is None or each[0] <= place]
        self._waiting = [each for each in self._waiting if each not in due]
        return [one for _, connections in due for one in connections]


class _AtOnce:
    """Does what orders say, and waits for nothing: it is the event loop that calls."""

    def __init__(self, messaging: Messaging) -> None:
        self.client_id_of = messaging.client_id_of
        self.join_soon = messaging.join_soon
        self.leave_group = messaging.leave_group
        self._report = messaging.report

    def members_changed(self, channel: Channel, joined: Sequence[Any], left: Sequence[Any]) -> None:
        """It was told when it came."""

    def marked(self, channel: Channel, marker: str) -> None:
        """It was when it came."""

    def each(self, connections: Iterable[Any], do: Callable[[Any], object]) -> None:
        for one in connections:
            try:
                do(one)
            except Exception:
                self._report("%r: an order could not be obeyed", one)


class Arrival:
    """What comes from one predecessor. Its calls come from the event loop, and wait for nothing."""

    def __init__(self, messaging: Messaging) -> None:
        self._messaging = messaging
        self._at_once = _AtOnce(messaging)
        self._wanted: set[str] = set()  # markers
        self._channels: set[Channel] = set()
        self._gaps: set[str] = set()  # groups of which that was told
        for channel in messaging.everyone:
            self._keep(channel)

    def mark(self, marker: str, names: Sequence[bytes]) -> None:
        """Connections of these channels are to come."""
        self._wanted.add(marker)
        self._messaging.spawn(self._mark, marker, names)

    def _mark(self, marker: str, names: Sequence[bytes]) -> None:
        messaging = self._messaging
        messaging.start()
        if marker not in self._wanted:
            return
        channels = [messaging.channel(name[:2], name[2:].decode()) for name in names]
        for each in channels:
            self._keep(each)
        messaging.hear(channels)
        order = frame.control(control.marker(marker))
        for each in channels:
            messaging.broker.post("publish", each.name, order)

    def _keep(self, channel: Channel) -> None:
        if channel.backlog is None:
            channel.backlog = Backlog()
        channel.backlog.users.add(self)
        self._channels.add(channel)

    def expect(self, connections: Iterable[Any]) -> None:
        """They are here, but it is still the predecessor that sends to them."""
        for channel in self._messaging.everyone:
            if channel.backlog is not None:
                channel.backlog.hidden.update(connections)

    def adopt(self, connections: Sequence[Any], moved: Moved) -> None:
        """The predecessor sends to them no longer. What they are sent here has to wait until they
        go on."""
        messaging = self._messaging
        if messaging.has_ended:  # user code has forked this process: they are the parent's
            return
        found: dict[Channel, list[Any]] = {}
        for connection in connections:
            belongings = moved.belongings.get(connection.id)
            if belongings is not None:
                for channel in messaging.adopt(connection, belongings):
                    found.setdefault(channel, []).append(connection)
        for channel, members in found.items():
            self._begin(channel, members, moved)
        for channel in messaging.everyone:
            self._begin(channel, list(connections), moved)
        if found:
            messaging.announce_moved(found, moved.process)

    def adopt_from_dead(
        self, connections: Sequence[Any], belongings: Mapping[int, Belongings]
    ) -> None:
        """The predecessor has died, and has not said how far they were."""
        self.adopt(connections, Moved(b"", time.time(), {}, belongings, {}))

    def _begin(self, channel: Channel, connections: list[Any], moved: Moved) -> None:
        messaging, backlog = self._messaging, channel.backlog
        place = None if backlog is None else backlog.place(moved.positions.get(channel.name))
        if backlog is not None and place is not None and place > backlog.count:
            backlog.wait(place, connections)
            return
        reached = moved.offsets.get(channel.name) if place is None else None
        if reached is not None:
            messaging.recovery.resume(channel, connections, reached, moved.at)
        messaging.show(channel, connections)
        if reached is not None:
            return
        if backlog is not None and place is not None:
            for payload in backlog.behind(place):
                messaging.replay(channel, payload, connections, self._at_once)
        elif channel.kind == GROUP and channel.text not in self._gaps:
            self._gaps.add(channel.text)
            messaging.tell_gap([channel.text], moved.at)

    def release(self) -> None:
        """Those that could move have moved; others are announced anew."""
        self._wanted.clear()
        channels, self._channels = self._channels, set()
        for channel in channels:
            backlog = channel.backlog
            if backlog is None:
                continue
            backlog.users.discard(self)
            self._messaging.drop_backlog(channel)


# ---- in the process that retires


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
    on_marked: called when a Wait is over before its time.
    """

    def __init__(
        self,
        messaging: Messaging,
        announce: Callable[[str, Sequence[bytes]], None],
        on_marked: Callable[[], None],
    ) -> None:
        self._messaging = messaging
        self._announce = announce
        self._on_marked = on_marked
        self._marks: dict[Channel, _Mark] = {}
        self._waits: list[Wait] = []
        messaging.departures.append(self)

    def begin(self, connections: Iterable[Any], seconds: float = MARKER_SECONDS) -> Wait:
        """Have the channels of `connections` marked, for at most `seconds`. Raises OSError."""
        now = time.monotonic()
        channels = self._channels_of(connections)
        if self._messaging.broker.state == "down":
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
        channels = set(self._messaging.everyone)
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
        if self._messaging.broker.state == "down":
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
        messaging = self._messaging
        positions: dict[bytes, Position] = {}
        offsets: dict[bytes, tuple[str, int]] = {}
        for channel in self._channels_of(connections):
            if any(each in channel.holds for each in connections):
                continue  # they have not had what the channel has
            if channel.epoch:
                offsets[channel.name] = channel.epoch, channel.offset
            mark = self._marks.get(channel)
            if mark is not None and mark.received is not None:
                # What is held back, they have not had.
                held = 0 if channel.held is None else len(channel.held.frames)
                positions[channel.name] = (mark.marker, channel.received - mark.received - held)
        belongings = {
            each.id: messaging.give_away(each)
            for each in connections
            if each.membership is not None
        }
        return Moved(messaging.broker.process, time.time(), positions, belongings, offsets)

    def end(self) -> None:
        self._messaging.departures.remove(self)
