"""What one process tells the broker of its members, in the groups that are declared with presence
and of users.

A join is published by the process that has it (`events`), a leave by the broker, 3
seconds later (`due_leaves`). Both go to the channel of the group.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from gworker.broker.interface import Answer, Broker
from gworker.errors import BrokerDown, BrokerError
from gworker.messages.background import in_background
from gworker.messages.channels import GROUP, USER, Channel, Channels
from gworker.messages.host import Host
from gworker.messages.membership import Membership
from gworker.messages.presence.callbacks import PresenceCallbacks
from gworker.messages.presence.due_leaves import leave_of, publish_due_leaves
from gworker.messages.presence.events import EventPublisher
from gworker.messages.presence.exits import Entry, Exit, Exits
from gworker.messages.presence.lost_data import LostData
from gworker.messages.queries import member_of

# Seconds between two rounds, in which leaves that are due are asked for.
ROUND_SECONDS: Final = 1.0

# Seconds between two announcements to a broker that is up and misses some.
AGAIN_SECONDS: Final = 5.0

# Announcements that are sent before they are waited for.
BATCH: Final = 200

# A broker that refuses, as it is full, say, is told again as one that is down: by and by.
UNTOLD: Final = (BrokerDown, BrokerError)


class Entering(NamedTuple):
    """A member that the broker is being told of."""

    channel: Channel
    connection: Any
    entry: Entry
    answer: Answer


class Moving(NamedTuple):
    """Members that another process held. unnamed: those that have no client id yet, so that no
    broker has heard of them."""

    under_way: list[Entering]
    unnamed: list[tuple[Channel, Any]]


class Presence:
    """The members of one process.

    client_id_of: of a connection. announce_soon: has `announce` called. is_dirty: the broker has to
    be told something that it was not.
    """

    def __init__(
        self,
        broker: Broker,
        host: Host,
        channels: Channels,
        client_id_of: Callable[[Any], str],
        announce_soon: Callable[[], object],
    ) -> None:
        self.is_dirty = False
        self._announce_soon = announce_soon
        self._announced_at = 0.0  # in monotonic seconds
        self._broker = broker
        self._host = host
        self._channels = channels
        self._client_id_of = client_id_of
        # Members that the broker has not confirmed, and whether it may have them all the same.
        self._unconfirmed: dict[tuple[Channel, Any], bool] = {}
        self._groups: dict[Channel, None] = {}  # with members here
        self._lost = LostData(broker)
        self._events = EventPublisher(broker, host, self._is_untold)
        self._exits = Exits(broker, self._lost, self._run_rounds_soon, self._is_untold)
        self._runs_rounds = False
        self.changed = PresenceCallbacks(host).changed

    def end(self) -> None:
        """The process ends: what is collected goes out with the last that is sent."""
        self._events.end()

    # ---- members here

    def enter(self, channels: Iterable[Channel], connection: Any, membership: Membership) -> None:
        """A connection is a member of these groups, or of a user, and the broker has heard it; if
        it is down, it will."""
        under_way: list[Entering] = []
        for channel in channels:
            try:
                if channel.kind == GROUP:
                    self._use(channel)
                    self._lost.learn(channel.name)
                if self._is_still_there(channel, connection):
                    under_way.append(self._entering(channel, connection, membership))
            except UNTOLD as error:
                self._not_entered(channel, connection, error)
        for each in under_way:
            try:
                is_new = each.answer.wait() == 1
            except UNTOLD as error:
                self._not_entered(each.channel, connection, error)
            else:
                self._entered(each, is_new, False)

    def _not_entered(
        self, channel: Channel, connection: Any, error: BrokerDown | BrokerError
    ) -> None:
        self._is_untold()
        if _is_member(connection, channel):
            is_uncertain = isinstance(error, BrokerDown) and error.uncertain
            known = self._unconfirmed.get((channel, connection), False)
            self._unconfirmed[channel, connection] = known or is_uncertain

    def _use(self, channel: Channel) -> None:
        self._groups[channel] = None
        self._run_rounds_soon()

    def _is_still_there(self, channel: Channel, connection: Any) -> bool:
        # One that has gone has been told to: its exit would not be told a second time. Its client
        # id may have to be heard of first, which takes a moment, too.
        self._client_id_of(connection)
        return _is_member(connection, channel)

    def _entering(
        self, channel: Channel, connection: Any, membership: Membership, previous: bytes = b""
    ) -> Entering:
        entry = self._entry(channel, connection, membership)
        leave = leave_of(member_of(entry)) if channel.kind == GROUP else b""
        process = self._broker.process
        answer = self._broker.submit("enter", channel.name, process, previous, *entry, leave)
        return Entering(channel, connection, entry, answer)

    def _entry(self, channel: Channel, connection: Any, membership: Membership) -> Entry:
        name = self._client_id_of(connection).encode()
        identity = name if membership.user is None else membership.user.text.encode()
        return Entry(name, identity, membership.info(channel))

    def _entered(self, entering: Entering, is_new: bool, is_silent: bool) -> None:
        # is_silent: unless the broker had not heard of it.
        channel, entry = entering.channel, entering.entry
        is_uncertain = self._unconfirmed.pop((channel, entering.connection), None)
        is_told = is_new and not is_silent if is_uncertain is None else is_new or is_uncertain
        if is_told and channel.kind == GROUP:
            self._events.join(channel.name, entry.identity, member_of(entry))

    def exit(self, channel: Channel, connection: Any, membership: Membership) -> None:
        """A connection is a member no longer. It waits for nothing."""
        was_known = self._unconfirmed.pop((channel, connection), True)
        if membership.inbox is None:  # without a client id, the broker cannot have heard of it
            return
        entry = self._entry(channel, connection, membership)
        self._exits.add(Exit(channel.name, self._broker.process, entry, was_known))

    # ---- members that another process held

    def submit_moved(self, moved: Mapping[Channel, Sequence[Any]], previous: bytes) -> Moving:
        """Members of the process `previous` are here now. It waits for nothing: `finish_moved` does
        that, with what this returns."""
        under_way: list[Entering] = []
        unnamed: list[tuple[Channel, Any]] = []
        for channel, connections in moved.items():
            if not (channel.declaration.presence or channel.kind == USER):
                continue
            if channel.kind == GROUP:
                self._use(channel)
                self._lost.expect(channel.name)  # `finish_moved` asks for it
            for connection in connections:
                membership: Membership | None = connection.membership
                if membership is None:
                    continue
                if membership.inbox is None:
                    unnamed.append((channel, connection))
                    continue
                try:
                    under_way.append(self._entering(channel, connection, membership, previous))
                except BrokerDown:  # the broker has it, of another process
                    self._is_untold()
        return Moving(under_way, unnamed)

    def finish_moved(self, moving: Moving) -> None:
        try:
            for each in moving.under_way:
                each.answer.wait()
                if each.channel.kind == GROUP:
                    self._lost.learn(each.channel.name)
        except UNTOLD:
            self._is_untold()
        for channel, connection in moving.unnamed:
            membership: Membership | None = connection.membership
            if membership is not None and membership.has(channel):
                self.enter([channel], connection, membership)

    # ---- after the broker was down, or has lost what it knew of this process

    def announce(self, is_current: Callable[[], bool]) -> None:
        """Tell the broker of all members here. Raises BrokerDown, BrokerError."""
        self.is_dirty = False
        self._announced_at = time.monotonic()
        try:
            self._lost.find([*(each.name for each in self._groups), *self._exits.channels])
            self._exits.announce()
            if self._announce_members(is_current):
                self._lost.clear()
        except UNTOLD:
            self._is_untold()
            raise
        self._events.publish_soon()

    def _announce_members(self, is_current: Callable[[], bool]) -> bool:
        under_way: list[Entering] = []
        for channel in self._channels:
            if not (channel.declaration.presence or channel.kind == USER):
                continue
            # Those that wait for their first message here are members, too.
            waiting = () if channel.backlog is None else channel.backlog.waiting
            for connection in (*channel.members, *waiting):
                if not is_current() or self._host.has_ended:
                    return False
                membership: Membership | None = connection.membership
                if membership is None or not self._is_still_there(channel, connection):
                    continue
                under_way.append(self._entering(channel, connection, membership))
                if len(under_way) >= BATCH:
                    self._finish(under_way)
        self._finish(under_way)
        return True

    def _finish(self, under_way: list[Entering]) -> None:
        # A broker that has lost its data takes those that stayed for new ones.
        for each in under_way:
            is_new = each.answer.wait() == 1
            self._entered(each, is_new, each.channel.name in self._lost)
        under_way.clear()

    # ---- rounds: what is due, and what could not be told

    def _is_untold(self) -> None:
        # A broker that is down will be told when it is up; one that has missed a call, by and by.
        self.is_dirty = True
        self._run_rounds_soon()

    def _run_rounds_soon(self) -> None:
        if not self._runs_rounds and not self._host.has_ended:
            self._runs_rounds = True
            in_background(self._run_rounds)

    def _run_rounds(self) -> None:
        try:
            while self._has_work and not self._host.has_ended:
                time.sleep(ROUND_SECONDS)
                self._run_round()
        finally:
            self._runs_rounds = False

    @property
    def _has_work(self) -> bool:
        return bool(self._groups or self.is_dirty or self._exits.has_recent)

    def _run_round(self) -> None:
        for channel in [each for each in self._groups if not each.members]:
            del self._groups[channel]
        if self._broker.state == "down" or self._host.has_ended:
            return
        # Joins that could not be published come before the leaves of the same members.
        self._events.publish()
        if self._groups:
            with contextlib.suppress(*UNTOLD):  # what is due is due in the next round
                publish_due_leaves(self._broker)
        self._exits.next_round()
        if self.is_dirty and time.monotonic() - self._announced_at >= AGAIN_SECONDS:
            self._announced_at = time.monotonic()
            self._announce_soon()


def _is_member(connection: Any, channel: Channel) -> bool:
    membership: Membership | None = connection.membership
    return membership is not None and membership.has(channel)
