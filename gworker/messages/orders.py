"""What one process does with its connections when an order says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gworker.messages.channels import Channel
from gworker.messages.client_ids import ClientIds
from gworker.messages.control import for_each
from gworker.messages.handover.handover import Handover
from gworker.messages.host import Host
from gworker.messages.memberships import Memberships
from gworker.messages.presence.presence import Presence


class Orders:
    """It implements `control.Obeying`, in the broker's reader: nothing in it waits for the
    broker."""

    def __init__(
        self,
        host: Host,
        client_ids: ClientIds,
        members: Memberships,
        presence: Presence,
        handover: Handover,
    ) -> None:
        self._host = host
        self._presence = presence
        self.known_client_id = client_ids.known
        self.leave_group = members.leave
        self.join_soon = members.join_soon
        self.marked = handover.marked

    def each(self, connections: Iterable[Any], do: Callable[[Any], object]) -> None:
        for_each(self._host, connections, do)

    def members_changed(self, channel: Channel, joined: Sequence[Any], left: Sequence[Any]) -> None:
        self._presence.changed(channel, joined, left)
