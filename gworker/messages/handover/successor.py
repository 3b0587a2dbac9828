"""What a process does with the members that come from its predecessors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from secrets import token_urlsafe
from typing import Any, Final

from gworker.broker.interface import Broker
from gworker.messages.background import in_background
from gworker.messages.backlog import Backlog
from gworker.messages.channels import EVERYONE, GROUP, INBOX, USER, Channel, Channels
from gworker.messages.control import marker_order, obey
from gworker.messages.distribution import Distribution
from gworker.messages.frame import CONTROL, decoded, order_body, parsed_payload
from gworker.messages.host import Host
from gworker.messages.membership import Belongings, Membership
from gworker.messages.memberships import Memberships
from gworker.messages.presence.presence import Moving, Presence
from gworker.messages.recipients import Recipients
from gworker.messages.subscriptions import Subscriptions

# Seconds after which a marker that has not come is published again.
MARK_AGAIN_SECONDS: Final = 0.5


class _AtOnce:
    """Does what orders say, and waits for nothing: it is the event loop that calls."""

    def __init__(
        self, host: Host, members: Memberships, known_client_id: Callable[[Any], str | None]
    ) -> None:
        self.known_client_id = known_client_id
        self.join_soon = members.join_soon
        self.leave_group = members.leave
        self._report = host.report

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


class Successor:
    """start: connects to the broker, unless that was done."""

    def __init__(
        self,
        *,
        broker: Broker,
        host: Host,
        channels: Channels,
        subscriptions: Subscriptions,
        presence: Presence,
        members: Memberships,
        recipients: Recipients,
        distribution: Distribution,
        known_client_id: Callable[[Any], str | None],
        start: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._host = host
        self._channels = channels
        self._subscriptions = subscriptions
        self._presence = presence
        self._recipients = recipients
        self._distribution = distribution
        self.start = start
        self._unmarked: set[Channel] = set()  # with connections that wait for a marker
        self._marks_again = False
        self._at_once = _AtOnce(host, members, known_client_id)

    # ---- backlogs

    def keep(self, channel: Channel, user: object) -> None:
        """Keep the messages of a channel for `user`."""
        if channel.backlog is None:
            channel.backlog = Backlog()
        channel.backlog.users.add(user)

    def drop_backlog(self, channel: Channel) -> None:
        """Keep its messages no longer, unless they are needed."""
        if channel.backlog is not None and not channel.backlog.is_needed:
            channel.backlog = None
            self._subscriptions.release(channel)

    def mark(self, channels: Sequence[Channel], marker: str) -> None:
        """Publish a marker on each of these."""
        self._subscriptions.add(channels)
        for each in channels:
            self._publish_marker(each, marker)

    def _publish_marker(self, channel: Channel, marker: str) -> None:
        self._broker.post("publish", channel.name, order_body(marker_order(marker)))

    # ---- members that come

    def adopt(self, connection: Any, belongings: Belongings) -> Iterable[Channel]:
        """It is what it was in its last process. It gets messages once it is shown (`show`)."""
        obtain = self._channels.obtain
        membership: Membership = connection.membership or Membership()
        connection.membership = membership
        for group, info in belongings.groups:
            channel = obtain(GROUP, group)
            membership.channels[channel] = None
            membership.set_info(channel, info)
        if belongings.uid is not None:
            membership.user = obtain(USER, belongings.uid)
            membership.is_single = belongings.is_single
        if belongings.inbox:
            membership.inbox = obtain(INBOX, belongings.inbox)
        for call in belongings.calls:
            self._recipients.note_call(call, connection)
        return list(membership.all_channels)

    def show(self, channel: Channel, connections: Iterable[Any]) -> None:
        """They get the messages of the channel from now on."""
        if channel.kind == EVERYONE:
            if channel.backlog is not None:
                channel.backlog.hidden.difference_update(connections)
            return
        for connection in connections:
            membership: Membership | None = connection.membership
            if membership is not None and channel in membership.all_channels:
                channel.members[connection] = None

    def show_behind_marker(self, channel: Channel, connections: list[Any]) -> None:
        """They get what comes from now on, and nothing that is still on its way: it is not known
        what of that the predecessor has sent to them."""
        if not channel.is_subscribed:  # nothing is on its way
            self.show(channel, connections)
            return
        if channel.backlog is None:
            channel.backlog = Backlog()
        if channel.kind == EVERYONE:
            channel.backlog.hidden.update(connections)
        marker = token_urlsafe(9)
        channel.backlog.wait_for(marker, connections)
        self._publish_marker(channel, marker)
        self._unmarked.add(channel)
        if not self._marks_again:
            self._marks_again = True
            in_background(self._mark_again)

    def _mark_again(self) -> None:
        # While the broker is down no marker is published, and what was may be lost.
        try:
            while self._unmarked and not self._host.has_ended:
                time.sleep(MARK_AGAIN_SECONDS)
                for channel in list(self._unmarked):
                    markers = [] if channel.backlog is None else channel.backlog.missing_markers
                    for each in markers:
                        self._publish_marker(channel, each)
                    if not markers:
                        self._unmarked.discard(channel)
        finally:
            self._marks_again = False

    def replay(self, channel: Channel, payload: bytes, connections: list[Any]) -> None:
        """Do with some of a channel's connections what a message says that came before."""
        try:
            arrived = parsed_payload(payload)
            message = decoded(arrived.body)
            members = self._recipients.among(connections, channel, message.header)
            if message.kind == CONTROL:
                obey(self._at_once, channel, members, message.data)
                return
        except ValueError:  # it was told when it came
            return
        if members:
            content = self._distribution.wrapped(channel, message, arrived)
            if content is not None:
                self._distribution.delivery.send(content, members, channel.declaration.slow)

    def announce(self, moved: Mapping[Channel, Sequence[Any]], process: bytes) -> None:
        """Subscribe to these channels, and tell the broker whose members were those of
        `process`."""
        moving = self._presence.submit_moved(moved, process)
        if any(moving) or not all(channel.is_subscribed for channel in moved):
            self._host.spawn(self._finish, list(moved), moving)

    def _finish(self, channels: Sequence[Channel], moving: Moving) -> None:
        self.start()
        self._subscriptions.add(channels)
        self._presence.finish_moved(moving)
