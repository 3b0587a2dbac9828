"""A look, now and then, at the channels in which nothing comes: what is lost there, no later
message shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, cast

from gworker.broker.interface import Broker
from gworker.errors import BrokerDown, BrokerError
from gworker.messages.background import in_background
from gworker.messages.channels import Channel, Channels
from gworker.messages.host import Host

# Seconds without a message after which the position of a group is asked for, so many in one piece.
CHECK_SECONDS: Final = 40.0
CHECK_BATCH: Final = 500


class PositionCheck:
    """on_difference: called with each channel that is not where the broker is."""

    def __init__(
        self,
        broker: Broker,
        host: Host,
        channels: Channels,
        on_difference: Callable[[Channel], object],
    ) -> None:
        self._broker = broker
        self._host = host
        self._channels = channels
        self._on_difference = on_difference
        self._is_running = False

    def start(self) -> None:
        """It runs for as long as there are channels that keep messages."""
        if not self._is_running:
            self._is_running = True
            in_background(self._check_often)

    def _check_often(self) -> None:
        while not self._host.has_ended and self._channels.keeping:
            time.sleep(CHECK_SECONDS)
            self.check()
        self._is_running = False

    def check(self, seconds: float = CHECK_SECONDS) -> None:
        """Compare the positions of channels in which nothing has come for so long with the
        broker's."""
        until = time.monotonic() - seconds
        idle = [
            each
            for each in self._channels.keeping
            if each.is_subscribed
            and each.position.epoch
            and each.held is None
            and each.position.confirmed_at <= until
        ]
        for start in range(0, len(idle), CHECK_BATCH):
            if self._host.has_ended:
                return
            try:
                different = self._different(idle[start : start + CHECK_BATCH])
            except (BrokerDown, BrokerError):
                return
            for channel in different:
                self._on_difference(channel)

    def _different(self, batch: list[Channel]) -> list[Channel]:
        # Raises BrokerDown, BrokerError.
        before = [each.position.confirmed_at for each in batch]
        answers = [self._broker.submit("position", each.name) for each in batch]
        replies = [each.wait() for each in answers]
        different = []
        for channel, confirmed_at, reply in zip(batch, before, replies, strict=True):
            position = channel.position
            if channel.held is not None or position.confirmed_at != confirmed_at:
                continue
            epoch, offset = cast("tuple[bytes, int]", reply)
            if (epoch.decode("ascii"), offset) == (position.epoch, position.offset):
                position.confirmed_at = time.monotonic()
            else:
                different.append(channel)
        return different
