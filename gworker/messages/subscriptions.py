"""The channels that the broker sends to one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gworker.broker.interface import Broker
from gworker.errors import BrokerDown
from gworker.messages.channels import Channel, Channels
from gworker.messages.host import Host
from gworker.messages.sweeper import Sweeper


class Subscriptions:
    """on_keeping: called when a channel that keeps its messages was subscribed."""

    def __init__(
        self,
        broker: Broker,
        host: Host,
        channels: Channels,
        sweeper: Sweeper,
        on_keeping: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._host = host
        self._channels = channels
        self._sweeper = sweeper
        self._on_keeping = on_keeping
        sweeper.parts.append(self._drop_idle)

    def add(self, channels: Sequence[Channel], must: bool = False) -> None:
        """Subscribe, unless that was done. While the broker is down, it is done later, or raises
        BrokerDown if it must be done now."""
        missing = [each for each in channels if not each.is_subscribed]
        if not missing:
            return
        try:
            self._broker.subscribe([each.name for each in missing])
        except BrokerDown:
            if must:
                raise
            return
        for each in missing:
            each.is_subscribed = True
        if any(each.declaration.keeps for each in missing):
            self._on_keeping()

    def add_all(self) -> None:
        """Subscribe what could not be subscribed before."""
        self.add(list(self._channels))

    def release(self, channel: Channel) -> None:
        """Something of it has gone. If it is not needed any more, it is unsubscribed later."""
        if not channel.is_needed:
            self._channels.set_idle(channel)
            self._sweeper.wake()

    def _drop_idle(self) -> bool:
        names = self._channels.take_idle()
        if names and not self._host.has_ended:
            self._broker.unsubscribe(names)
        return self._channels.has_idle
