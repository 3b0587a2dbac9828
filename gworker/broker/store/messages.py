"""What is published, and what is stored of it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from gworker.broker.interface import FLEETING, KEPT, Reply
from gworker.broker.store.arguments import seconds_of
from gworker.broker.store.deadlines import Deadlines
from gworker.broker.store.history import History, new_epoch
from gworker.errors import BrokerError

# Seconds.
IDEMPOTENCY_SECONDS = 300.0
POSITION_SECONDS = 30 * 86400.0


class _Publication(NamedTuple):
    epoch: bytes
    offset: int
    due: float


class Messages:
    """deliver: passes a payload to the subscribers of a channel, and returns how many there are.
    now: the time, in seconds; `drop_expired` has been called with it.
    """

    def __init__(self, deliver: Callable[[bytes, bytes], int], now: Callable[[], float]) -> None:
        self._deliver = deliver
        self._now = now
        self._histories: dict[bytes, History] = {}
        self._ends_of_entries: Deadlines[bytes] = Deadlines()
        self._ends_of_positions: Deadlines[bytes] = Deadlines()
        # All of them live equally long, so the oldest is the first.
        self._published: OrderedDict[tuple[bytes, bytes], _Publication] = OrderedDict()

    def publish(self, channel: bytes, body: bytes) -> int:
        """Pass a message on. Returns how many processes it went to."""
        return self._deliver(channel, FLEETING + body)

    def keep(
        self,
        channel: bytes,
        mode: bytes,
        size: bytes,
        ttl_ms: bytes,
        idempotency_key: bytes,
        value_key: bytes,
        body: bytes,
    ) -> list[Reply]:
        """Publish a message, and store it as `mode` says: fleeting, recoverable or latest.

        size: entries (recoverable) or keys (latest) that are stored at most. ttl_ms: recoverable
        entries are dropped when nothing has been stored for so long.
        Returns receivers, epoch, offset, and 1 if a message with this idempotency key was
        published within 5 minutes. Then nothing is published, and the position is the first one's.
        """
        now = self._now()
        if idempotency_key:
            before = self._published.get((channel, idempotency_key))
            if before is not None:
                return [0, before.epoch, before.offset, 1]
        epoch, offset = b"", 0
        if mode == b"fleeting":
            receivers = self._deliver(channel, FLEETING + body)
        elif mode in (b"recoverable", b"latest"):
            most, seconds = int(size), seconds_of(ttl_ms)
            history = self._history(channel, now)
            epoch = history.epoch
            offset = history.append(mode, value_key, body, most)
            if mode == b"latest":
                seconds = 0.0
            self._ends_of_entries.set(channel, now + seconds if seconds else math.inf)
            position = epoch + offset.to_bytes(8, "big")
            receivers = self._deliver(channel, KEPT + position + body)
        else:
            raise BrokerError(f"no such mode: {mode!r}")
        if idempotency_key:
            self._published[channel, idempotency_key] = _Publication(
                epoch, offset, now + IDEMPOTENCY_SECONDS
            )
        return [receivers, epoch, offset, 0]

    def history(
        self,
        channel: bytes,
        mode: bytes,
        epoch: bytes,
        offset: bytes,
        limit: bytes,
        reverse: bytes,
    ) -> list[Reply]:
        """Stored messages: all (epoch b""), or those after `offset`; with reverse=1 those before
        it, the newest first. limit: at most so many of them; 0 is all.

        Returns epoch, last offset, 1 if nothing between is missing, and pairs of offset and body.
        Of more than PAGE_BYTES it returns the first ones, and 1 if nothing before these is missing.
        There are more then, as the last offset shows.
        Nothing is returned from another epoch, and that is never complete. A channel that has no
        position has the epoch b"".
        """
        self._now()
        most, asked, backwards = int(limit), int(offset), reverse == b"1"
        history = self._histories.get(channel)
        if history is None:
            return [b"", 0, int(not epoch), []]
        whole: list[Reply] = [history.epoch, history.offset]
        if not epoch:
            asked = history.offset + 1 if backwards else 0
        elif epoch != history.epoch or asked > history.offset + backwards:
            return [*whole, 0, []]
        entries, is_complete = history.between(mode, asked, most, backwards)
        return [*whole, int(is_complete), entries]

    def position(self, channel: bytes) -> list[Reply]:
        """Epoch and last offset. A channel gets an epoch here if it has none."""
        history = self._history(channel, self._now())
        return [history.epoch, history.offset]

    def rotate(self, channel: bytes, epoch: bytes) -> list[Reply]:
        """Messages of this epoch are lost, and others stand at their offsets: end it, unless that
        was done. Offsets go on, and what is stored stays. Returns as `position` does."""
        history = self._history(channel, self._now())
        if history.epoch == epoch:
            history.epoch = new_epoch()
        return [history.epoch, history.offset]

    def _history(self, channel: bytes, now: float) -> History:
        history = self._histories.get(channel)
        if history is None:
            history = self._histories[channel] = History()
        self._ends_of_positions.set(channel, now + POSITION_SECONDS)
        return history

    def drop_expired(self, now: float) -> None:
        for channel in self._ends_of_entries.passed(now):
            self._histories[channel].drop_entries()
        for channel in self._ends_of_positions.passed(now):
            if channel in self._ends_of_entries:  # which have longer to live
                self._ends_of_positions.set(channel, now + POSITION_SECONDS)
            else:
                del self._histories[channel]
        published = self._published
        while published and next(iter(published.values())).due <= now:
            published.popitem(last=False)
