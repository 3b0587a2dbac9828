"""What is held back while a history is read: for members that join, or of a whole channel."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any, Final, NamedTuple

from gworker.messages.frame import Arrived
from gworker.messages.stream_position import StreamPosition

# Messages, and their bytes, that are held back for one member, or of one channel.
MOST_HELD: Final = 10_000
MOST_HELD_BYTES: Final = 16 << 20


class Content:
    """What connections get of a message, with its position."""

    __slots__ = ("content", "encoded", "epoch", "header", "offset")

    def __init__(
        self, epoch: str, offset: int, header: Mapping[str, Any], content: str | bytes
    ) -> None:
        self.epoch = epoch
        self.offset = offset
        self.header = header
        self.content = content
        self.encoded: dict[Hashable, bytes] = {}  # as of `Delivery.deliver`


class Resumption(NamedTuple):
    """How far a member was in the process from which it comes.

    reached: the position of the last message that it has had. since: when that was said, in seconds
    since the epoch. untold: the group, until a gap is told; the same for all that come at once.
    """

    reached: tuple[str, int]
    since: float
    untold: list[str]


class Hold:
    """What is held back for one member that joins.

    contents: None once it gets what comes, but nothing up to the position `epoch`, `offset`. Until
    then that is where the channel was when the hold began. is_waiting: it gets the values of the
    group when the broker is up. resumption: of a member that has come with a handover.
    """

    __slots__ = ("contents", "epoch", "is_waiting", "offset", "resumption", "size")

    def __init__(self, position: StreamPosition, resumption: Resumption | None = None) -> None:
        self.epoch = position.epoch
        self.offset = position.offset
        self.contents: deque[Content] | None = deque()
        self.size = 0
        self.is_waiting = False
        self.resumption = resumption

    def add(self, content: Content) -> bool:
        """False: too many are held back."""
        assert self.contents is not None
        self.contents.append(content)
        self.size += len(content.content)
        return len(self.contents) <= MOST_HELD and self.size <= MOST_HELD_BYTES


class HeldFrames:
    """Frames of a channel that are held back. Beyond the bounds the oldest go: they are in the
    history, or told as a gap."""

    __slots__ = ("dropped", "frames", "size")

    def __init__(self) -> None:
        self.frames: deque[Arrived] = deque()
        self.size = self.dropped = 0

    def add(self, arrived: Arrived) -> None:
        self.frames.append(arrived)
        self.size += len(arrived.body)
        while len(self.frames) > MOST_HELD or self.size > MOST_HELD_BYTES:
            self.take()
            self.dropped += 1

    def take(self) -> Arrived:
        arrived = self.frames.popleft()
        self.size -= len(arrived.body)
        return arrived

    def highest(self, epoch: str) -> int:
        return max((each.offset for each in self.frames if each.epoch == epoch), default=0)
