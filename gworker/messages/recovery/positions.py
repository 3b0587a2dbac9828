"""Where the channels that keep their messages are, as the broker says."""

from __future__ import annotations

from typing import cast

from gworker.broker.interface import Broker
from gworker.errors import BrokerDown
from gworker.messages.channels import Channel
from gworker.messages.frame import position_text
from gworker.messages.recovery.single_flight import SingleFlight


class Positions:
    """Those of one process. reads: the same position is asked for once."""

    def __init__(self, broker: Broker, reads: SingleFlight) -> None:
        self._broker = broker
        self._reads = reads

    def of(self, channel: Channel, must: bool = False) -> str:
        """Where a channel is, as far as this process has received it. Raises BrokerDown if the
        broker must be up for that; else it is "" then."""
        if not channel.position.epoch:
            try:
                self.find(channel)
            except BrokerDown:
                if must:
                    raise
        return position_text(channel.position.epoch, channel.position.offset)

    def find(self, channel: Channel) -> None:
        """Begin where the broker is, if nothing has come yet. Raises BrokerDown."""
        key = channel, "position"
        epoch, offset = self._reads.do(key, lambda: self.ask(channel))
        if not channel.position.epoch:
            channel.position.begin(epoch, offset)

    def ask(self, channel: Channel) -> tuple[str, int]:
        """The epoch and the offset. Raises BrokerDown."""
        reply = self._broker.call("position", channel.name)
        epoch, offset = cast("tuple[bytes, int]", reply)
        return epoch.decode("ascii"), offset
