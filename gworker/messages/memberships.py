"""The groups that the connections of one process join and leave, and the users to whom they are
bound.

What they ask for while the broker is down is done here, and announced when it is up.
"""

from __future__ import annotations

import threading
from typing import Any

from gworker.broker.deadline import Deadline, seconds_left
from gworker.broker.interface import Broker
from gworker.errors import BrokerDown
from gworker.messages.channels import GROUP, USER, Channel, Channels
from gworker.messages.frame import checked_name, user_name
from gworker.messages.host import Host
from gworker.messages.membership import Joined, Membership, presence_text
from gworker.messages.presence.presence import Presence
from gworker.messages.recovery.joins import Joins
from gworker.messages.single_binds import SingleBinds
from gworker.messages.subscriptions import Subscriptions


class _Turns:
    """The joins of one connection to one group, one after the other: each finds what the one before
    it has left."""

    def __init__(self) -> None:
        # By key, with what those wait for that have no turn yet; None: there are none.
        self._taken: dict[tuple[Any, str], threading.Event | None] = {}

    def begin(self, key: tuple[Any, str]) -> bool:
        """False: there is no time left to wait for it."""
        while key in self._taken:
            ended = self._taken[key] = self._taken[key] or threading.Event()
            if not ended.wait(seconds_left()):
                return False
        self._taken[key] = None
        return True

    def end(self, key: tuple[Any, str]) -> None:
        ended = self._taken.pop(key)
        if ended is not None:
            ended.set()


class Memberships:
    def __init__(
        self,
        broker: Broker,
        host: Host,
        channels: Channels,
        subscriptions: Subscriptions,
        presence: Presence,
        joins: Joins,
        single_binds: SingleBinds,
    ) -> None:
        self._broker = broker
        self._host = host
        self._channels = channels
        self._subscriptions = subscriptions
        self._presence = presence
        self._joins = joins
        self._single_binds = single_binds
        self._turns = _Turns()

    # ---- groups

    def join(
        self, connection: Any, group: str, since: str | None = None, presence: Any = None
    ) -> Joined:
        """See `Connection.join`."""
        text = checked_name(group, "a group")
        info = presence_text(presence)
        if _membership(connection) is None:
            return Joined()
        if since is not None and self._broker.state == "down":
            raise BrokerDown("the broker is down")
        key = connection, text
        with Deadline():
            has_turn = self._turns.begin(key)
            if not has_turn and since is not None:
                raise BrokerDown(f"another join of the group {group!r} takes too long")
            try:
                return self._join(connection, text, since, info)
            finally:
                if has_turn:
                    self._turns.end(key)

    def _join(self, connection: Any, group: str, since: str | None, info: bytes) -> Joined:
        membership = _membership(connection)
        if membership is None:  # it has ended meanwhile
            return Joined()
        channel = self._channels.obtain(GROUP, group)
        is_member = channel in membership.channels
        shown = membership.info(channel)
        is_told = is_member and shown == info
        membership.channels[channel] = channel.members[connection] = None
        membership.set_info(channel, info)
        joined = Joined()
        try:
            if channel.declaration.keeps:
                joined = self._joins.join(channel, connection, since, is_member)
            else:
                self._subscriptions.add([channel], must=since is not None)
        except BaseException:  # BrokerDown, or a gevent.Timeout of the caller: it is what it was
            if not is_member and membership.leave(channel):
                self.drop(channel, connection)
            elif channel in membership.channels:
                membership.set_info(channel, shown)
            raise
        if channel.declaration.presence and not is_told and connection in channel.members:
            self._presence.enter([channel], connection, membership)
        return joined

    def join_soon(self, connection: Any, group: str) -> None:
        """Join, but not in the reader of the broker, which would wait for itself."""
        self._host.spawn(self.join, connection, group)

    def leave(self, connection: Any, group: str) -> None:
        """See `Connection.leave`."""
        membership: Membership | None = connection.membership
        channel = self._channels.get(GROUP + checked_name(group, "a group").encode())
        if channel is not None and membership is not None and channel in membership.channels:
            self._remove(channel, connection, membership)
            membership.leave(channel)

    # ---- users

    def bind(self, connection: Any, uid: str | int, single: bool = False) -> None:
        """See `Connection.bind`."""
        text = user_name(uid)
        membership = _membership(connection)
        if membership is not None:
            with Deadline():
                self._bind(connection, membership, text, single)

    def _bind(self, connection: Any, membership: Membership, text: str, single: bool) -> None:
        channel = membership.user
        if channel is None or channel.text != text:
            if channel is not None:
                self._unbind(connection, membership)
            channel = self._channels.obtain(USER, text)
            membership.user = channel
            membership.is_single = single
            channel.members[connection] = None
            self._subscriptions.add([channel])
            if membership.user is channel:
                shown = [each for each in membership.channels if each.declaration.presence]
                self._presence.enter([channel, *shown], connection, membership)
        if single and membership.user is channel:
            membership.is_single = True
            self._single_binds.send(channel, connection)

    def unbind(self, connection: Any) -> None:
        """See `Connection.unbind`."""
        membership: Membership | None = connection.membership
        if membership is None or membership.user is None:
            return
        self._unbind(connection, membership)
        shown = [each for each in membership.channels if each.declaration.presence]
        with Deadline():
            self._presence.enter(shown, connection, membership)

    def _unbind(self, connection: Any, membership: Membership) -> None:
        channel = membership.user
        membership.is_single = False
        if channel is not None:
            self._remove(channel, connection, membership)
            membership.user = None

    # ---- the end

    def forget(self, connection: Any) -> None:
        """It has ended: it leaves all. Waits for nothing."""
        membership: Membership | None = connection.membership
        if membership is None or self._host.has_ended:
            return
        for channel in membership.channels:
            self._remove(channel, connection, membership)
        self._unbind(connection, membership)
        if membership.inbox is not None:
            self._remove(membership.inbox, connection, membership)
        connection.membership = None

    def _remove(self, channel: Channel, connection: Any, membership: Membership) -> None:
        # Remove it from what is held here; its membership is the caller's.
        self.drop(channel, connection)
        if channel.declaration.presence or channel.kind == USER:
            self._presence.exit(channel, connection, membership)

    def drop(self, channel: Channel, connection: Any) -> None:
        """It gets nothing of this channel any more. The broker is not told."""
        channel.drop(connection)
        self._subscriptions.release(channel)


def _membership(connection: Any) -> Membership | None:
    # Raises TypeError for what cannot be a member; None: it has ended.
    if not connection.may_join:
        raise TypeError(
            f"{connection!r}: a peer of the {connection.protocol} protocol gets answers only, "
            "and cannot join a group or be bound to a user"
        )
    if connection.status == "closed":
        return None
    membership: Membership | None = connection.membership
    if membership is None:
        membership = connection.membership = Membership()
    return membership
