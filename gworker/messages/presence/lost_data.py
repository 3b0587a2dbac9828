"""Whether the broker has lost what it knew of members.

Each of its partitions has an epoch, which it makes anew with its data.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import cast

from gworker.broker.interface import Answer, Broker


class LostData:
    """What one process knows of the partitions that it uses."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._epochs: dict[int, bytes] = {}  # by partition; b"": it is being asked for
        self._lost: set[int] = set()

    def __contains__(self, channel: bytes) -> bool:
        """True: the broker has lost the members of this channel, and has not got them again."""
        return self._broker.partition_of(channel) in self._lost

    def clear(self) -> None:
        """The broker has all members again."""
        self._lost.clear()

    def expect(self, channel: bytes) -> None:
        """`learn` will be called: from now on, data may be lost."""
        self._epochs.setdefault(self._broker.partition_of(channel), b"")

    def learn(self, channel: bytes) -> None:
        """The process uses this channel. Raises BrokerDown, BrokerError."""
        partition = self._broker.partition_of(channel)
        if not self._epochs.get(partition):
            answer = self._ask(partition)
            self._epochs[partition] = b""  # the data may be lost before it is here
            self._epochs[partition] = _epoch(answer)

    def find(self, channels: Iterable[bytes]) -> None:
        """Find out which of these were lost. Raises BrokerDown, BrokerError."""
        for partition in {self._broker.partition_of(each) for each in channels}:
            epoch = _epoch(self._ask(partition))
            if self._epochs.get(partition, epoch) != epoch:
                self._lost.add(partition)
            self._epochs[partition] = epoch

    def _ask(self, partition: int) -> Answer:
        # Ask about a channel that is used for nothing else. Any name will do, if all processes find
        # the same one.
        names = (b"e:%d" % number for number in count())
        name = next(each for each in names if self._broker.partition_of(each) == partition)
        return self._broker.submit("position", name)


def _epoch(answer: Answer) -> bytes:
    return cast("tuple[bytes, int]", answer.wait())[0]
