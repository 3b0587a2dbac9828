"""How a process gets a channel to where the broker is.

What came behind a jump is held back, and the history is read after the last message that was
received. What is not in the history any more is a gap.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import cast

from gworker.broker.interface import Broker
from gworker.errors import BrokerError
from gworker.messages.channels import Channel
from gworker.messages.delivery import Delivery
from gworker.messages.frame import Arrived
from gworker.messages.holds import HeldFrames
from gworker.messages.recovery.positions import Positions
from gworker.messages.recovery.single_flight import SingleFlight
from gworker.messages.stored_history import Page, read_page
from gworker.messages.stream_position import StreamPosition

log = logging.getLogger("gworker")


class CatchUp:
    """give: gives a message to the functions and the members that are here."""

    def __init__(
        self,
        broker: Broker,
        delivery: Delivery,
        reads: SingleFlight,
        positions: Positions,
        give: Callable[[Channel, Arrived], None],
    ) -> None:
        self._broker = broker
        self._delivery = delivery
        self._reads = reads
        self._positions = positions
        self._give = give

    def run(self, channel: Channel, was_interrupted: bool) -> bool:
        """False: something was missed. Raises BrokerDown."""
        if was_interrupted and channel.held is None:
            channel.held = HeldFrames()
        if channel.position.epoch:
            return channel.held is None or self._refill(channel, channel.held)
        if channel.held is None or not channel.held.frames:
            self._positions.find(channel)
        held = channel.held
        if held is not None and not self._give_held(channel, held):
            self._refill(channel, held)
        return not was_interrupted

    def _refill(self, channel: Channel, held: HeldFrames) -> bool:
        is_whole = True
        while True:
            missed, has_more = self._reads.alone(lambda: self._after_last(channel, held))
            if missed is None:
                is_whole = False
            else:
                for each in missed:
                    channel.position.advance(each)
                    self._give(channel, each)
                if missed and has_more:
                    continue
            before = channel.position.epoch, channel.position.offset, len(held.frames)
            if self._give_held(channel, held):
                return is_whole
            after = channel.position.epoch, channel.position.offset, len(held.frames)
            if not missed and before == after:
                # The history does not lead to what came.
                channel.position.epoch, is_whole = "", False

    def _give_held(self, channel: Channel, held: HeldFrames) -> bool:
        """False: there is a jump in what was held back."""
        position = channel.position
        while held.frames:
            first = held.frames[0]
            if position.is_next(first):
                position.advance(first)
                self._give(channel, held.take())
            elif position.is_behind(first):
                return False
            else:  # the history has just shown that this is not another one
                held.take()
        self._delivery.dropped += held.dropped
        channel.held = None
        return True

    def _after_last(self, channel: Channel, held: HeldFrames) -> tuple[list[Arrived] | None, bool]:
        """What came after the last message that was received, and whether there is more than that.
        None: it cannot be had, and the channel goes on from where the broker is. Raises
        BrokerDown."""
        has_more = False
        try:
            found, top, missed, has_more = self._read(channel, held.highest(channel.position.epoch))
        except BrokerError as error:
            log.warning("the history of the group %r cannot be read: %s", channel.text, error)
            found, top, missed = "", 0, None
        if missed is None:
            if not found:
                found, top = self._positions.ask(channel)
            self._reads.clear()
            self._go_on_from(channel.position, held, found, top)
        return missed, has_more

    def _read(self, channel: Channel, highest: int) -> tuple[str, int, list[Arrived] | None, bool]:
        # highest: offset of what is held back.
        position = channel.position
        epoch, offset, digest = position.epoch, position.offset, position.digest
        # The last one is read again: after a failover, another one may be in its place.
        page = self._stored(channel, epoch, max(offset - 1, 0))
        if page.epoch == epoch:
            is_lost = page.top < max(offset, highest) or any(
                at == offset and digest not in (None, hash(body)) for at, body in page.entries
            )
            if is_lost:
                return *self._rotate(channel), None, False
            is_last_alone = page.has_more and page.entries[-1][0] <= offset
            if not page.is_complete or is_last_alone:
                page = self._stored(channel, epoch, offset)
        if page.epoch != epoch or not page.is_complete:
            return page.epoch, page.top, None, False
        missed = [Arrived(epoch, at, memoryview(body)) for at, body in page.entries if at > offset]
        return epoch, page.top, missed, page.has_more

    @staticmethod
    def _go_on_from(position: StreamPosition, held: HeldFrames, epoch: str, offset: int) -> None:
        late = {} if epoch == position.epoch else {position.epoch: sys.maxsize}
        if any(each.epoch not in late for each in held.frames):
            position.epoch = ""
        else:
            position.begin(epoch, offset)
            late[epoch] = offset
        position.late = late

    def _stored(self, channel: Channel, epoch: str, offset: int) -> Page:
        declared = channel.declaration
        return read_page(
            self._broker, channel.text, declared, (epoch, offset), declared.history + 1
        )

    def _rotate(self, channel: Channel) -> tuple[str, int]:
        """The broker has lost the last messages, and others have got their positions: end the
        epoch, so that all that know one of these are told."""
        reply = self._broker.call("rotate", channel.name, channel.position.epoch.encode())
        epoch, offset = cast("tuple[bytes, int]", reply)
        return epoch.decode("ascii"), offset
