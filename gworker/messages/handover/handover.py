"""Where connections that move to another process are in their channels, so that nothing is lost or
doubled on the way.

The process that retires names its channels to its successor. That subscribes to them, publishes a
marker on each, and keeps what comes. Both see the marker at the same place of the channel's order.
When the old process stops to send to a connection, it says how many messages it has had since the
marker; the successor sends it those behind that place, and then what comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gworker.broker.interface import Broker
from gworker.messages.channels import Channel, Channels
from gworker.messages.client_ids import ClientIds
from gworker.messages.gaps import Gaps
from gworker.messages.handover.arrival import Arrival
from gworker.messages.handover.departure import Departure
from gworker.messages.handover.successor import Successor
from gworker.messages.host import Host
from gworker.messages.membership import Belongings, Membership
from gworker.messages.memberships import Memberships
from gworker.messages.recipients import Recipients
from gworker.messages.recovery.joins import Joins


class Handover:
    """The connections that come to one process, and those that go from it."""

    def __init__(
        self,
        *,
        broker: Broker,
        host: Host,
        channels: Channels,
        client_ids: ClientIds,
        recipients: Recipients,
        members: Memberships,
        joins: Joins,
        gaps: Gaps,
        successor: Successor,
    ) -> None:
        self._broker = broker
        self._host = host
        self._channels = channels
        self._joins = joins
        self._gaps = gaps
        self._successor = successor
        self._client_ids = client_ids
        self._recipients = recipients
        self._members = members
        self._departures: list[Departure] = []

    def arrival(self) -> Arrival:
        """For the connections that come from one predecessor."""
        return Arrival(self._host, self._channels, self._successor, self._joins, self._gaps)

    def departure(
        self, announce: Callable[[str, Sequence[bytes]], None], on_marked: Callable[[], None]
    ) -> Departure:
        """For the connections that go to one successor: see `Departure`."""
        made = Departure(
            self._broker,
            self._channels,
            self._give_away,
            announce,
            on_marked,
            self._departures.remove,
        )
        self._departures.append(made)
        return made

    def _give_away(self, connection: Any) -> Belongings:
        # Another process has it now: it is a member of nothing here. The broker is not told.
        membership: Membership = connection.membership
        calls = self._recipients.calls_of(connection)
        for channel in membership.all_channels:
            self._members.drop(channel, connection)
        if membership.inbox is not None:
            self._client_ids.hand_over(membership.inbox.text)
        connection.membership = None
        return membership.belongings(calls)

    # ---- what comes on a channel

    def note(self, channel: Channel, payload: bytes) -> None:
        """A message has come on a channel with a backlog."""
        assert channel.backlog is not None
        self._successor.show(channel, channel.backlog.add(payload))
        self._successor.drop_backlog(channel)

    def marked(self, channel: Channel, marker: str) -> None:
        """The last message of the channel is this marker."""
        if channel.backlog is not None:
            self._successor.show(channel, channel.backlog.mark(marker))
            self._successor.drop_backlog(channel)
        for departure in self._departures:
            departure.marked(channel, marker)

    def interrupt(self, channel: Channel) -> None:
        """Messages may be missing: where connections that move are in it is known no longer."""
        for departure in self._departures:
            departure.interrupt(channel)
        if channel.backlog is not None:
            self._successor.show(channel, channel.backlog.interrupt())
            self._successor.drop_backlog(channel)
