"""Binds that close the other connections of their user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gworker.broker.interface import Broker
from gworker.errors import BrokerDown
from gworker.messages.channels import USER, Channel, Channels
from gworker.messages.client_ids import ClientIds
from gworker.messages.control import ELSEWHERE, for_each, single_order
from gworker.messages.frame import order_body
from gworker.messages.host import Host
from gworker.messages.membership import Membership


class SingleBinds:
    """Those of one process. on_unsent: called when the broker could not be told of one."""

    def __init__(
        self,
        broker: Broker,
        host: Host,
        channels: Channels,
        client_ids: ClientIds,
        on_unsent: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._host = host
        self._channels = channels
        self._client_ids = client_ids
        self._on_unsent = on_unsent

    def send(self, channel: Channel, connection: Any) -> None:
        """Have the other connections of a user closed: those that are here, if the broker is
        down."""
        kept = self._client_ids.of(connection)
        try:
            self._broker.call("publish", channel.name, order_body(single_order(kept)))
        except BrokerDown:  # the others are told when it is up
            self._on_unsent()
            others = [each for each in channel.members if each is not connection]
            for_each(self._host, others, lambda one: one.close(code=ELSEWHERE))

    def send_all(self) -> None:
        """Send those again of which the broker has said nothing yet."""
        for channel in self._channels:
            if channel.kind == USER:
                for connection in list(channel.members):
                    membership: Membership | None = connection.membership
                    if membership is not None and membership.is_single:
                        self.send(channel, connection)
