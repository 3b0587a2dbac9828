"""What a process missed of the groups that keep their messages, and its members.

A member that comes back with a position gets what was published after it, from the history, and
then what comes (`joins`).

A process knows how far it has come in each channel. When a message is not the one after the last,
or its link was broken, it holds the messages of that channel back and reads the history
(`catch_up`), in a thread of its own (`incidents`): the one that reads from the broker may not ask
it. What is not in the history any more is a gap, and the application is told.
"""

from __future__ import annotations

from collections.abc import Iterable

from gworker.broker.interface import Broker
from gworker.errors import BrokerError
from gworker.messages.channels import Channel, Channels
from gworker.messages.distribution import Distribution
from gworker.messages.frame import Arrived
from gworker.messages.gaps import Gaps
from gworker.messages.holds import HeldFrames
from gworker.messages.host import Host
from gworker.messages.recovery.catch_up import CatchUp
from gworker.messages.recovery.incidents import CatchUpQueue, Incident
from gworker.messages.recovery.joins import Joins
from gworker.messages.recovery.position_check import PositionCheck
from gworker.messages.recovery.positions import Positions
from gworker.messages.recovery.single_flight import SingleFlight
from gworker.messages.subscriptions import Subscriptions
from gworker.messages.sweeper import Sweeper


class Recovery:
    """The recovery of those groups of one process that keep their messages."""

    def __init__(
        self,
        broker: Broker,
        host: Host,
        channels: Channels,
        subscriptions: Subscriptions,
        distribution: Distribution,
        gaps: Gaps,
        sweeper: Sweeper,
    ) -> None:
        self._channels = channels
        self.reads = SingleFlight(sweeper)
        self.positions = Positions(broker, self.reads)
        self.position_check = PositionCheck(broker, host, channels, self._differs)
        self.joins = Joins(
            broker,
            host,
            subscriptions,
            distribution,
            gaps,
            self.reads,
            self.positions,
            lambda channel: self._queue.add([channel]),
        )
        self._catch_up = CatchUp(
            broker, distribution.delivery, self.reads, self.positions, distribution.give
        )
        self._queue = CatchUpQueue(broker, host, gaps, self._run)

    def admits(self, channel: Channel, arrived: Arrived) -> bool:
        """True: it is the next one. False: it is given later, or was given before."""
        if not arrived.epoch:  # an order, which need not wait
            return True
        held = channel.held
        if held is None:
            position = channel.position
            if position.is_next(arrived):
                position.advance(arrived)
                return True
            if position.is_last(arrived):
                return False
            held = self._differs(channel)
        held.add(arrived)
        return False

    def interrupted(self, channels: Iterable[Channel], since: float, until: float) -> None:
        """They are subscribed again: refill those that keep messages, and report the rest."""
        self.reads.clear()
        incident = Incident(since, until)
        keeping = []
        for channel in channels:
            if channel.declaration.keeps:
                if channel.held is None:
                    channel.held = HeldFrames()
                keeping.append(channel)
            elif channel.is_needed:
                incident.groups.append(channel.text)
        self._queue.add(keeping, incident)
        self._queue.report(incident)

    def on_state(self, is_up: bool) -> None:
        """The broker is up, or down."""
        if is_up:
            self._queue.add(each for each in self._channels.keeping if self._waits(each))
        else:
            self.reads.clear()
            self._queue.went_down()

    @staticmethod
    def _waits(channel: Channel) -> bool:
        is_awaited = any(hold.is_waiting for hold in channel.holds.values())
        return not channel.position.epoch or is_awaited

    def _differs(self, channel: Channel) -> HeldFrames:
        # It is not where the broker is.
        held = channel.held = HeldFrames()
        self._queue.add([channel], Incident(channel.position.confirmed_at_time))
        return held

    def _run(self, channel: Channel, was_interrupted: bool) -> bool:
        try:
            is_whole = self._catch_up.run(channel, was_interrupted)
        except BrokerError:  # what it refuses, those that wait need not wait for
            self.joins.serve_waiting(channel)
            raise
        self.joins.serve_waiting(channel)
        return is_whole
