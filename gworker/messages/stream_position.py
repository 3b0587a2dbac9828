"""How far one process is in a channel that keeps its messages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gworker.messages.frame import Arrived

_NONE: Final[Mapping[str, int]] = MappingProxyType({})


class StreamPosition:
    """epoch, offset: of the last message; ("", 0) before the first, and in a channel that keeps
    none. digest: the hash of its body; None: it is not known. late: messages of these epochs, up to
    these offsets, that are on their way and new although the channel is further. confirmed_at: when
    the position was the broker's, in monotonic seconds.
    """

    __slots__ = ("confirmed_at", "digest", "epoch", "late", "offset")

    def __init__(self) -> None:
        self.epoch = ""
        self.offset = 0
        self.digest: int | None = None
        self.late = _NONE
        self.confirmed_at = 0.0

    def begin(self, epoch: str, offset: int) -> None:
        """The channel is there now."""
        self.epoch, self.offset, self.digest = epoch, offset, None
        self.late = _NONE
        self.confirmed_at = time.monotonic()

    def is_next(self, arrived: Arrived) -> bool:
        """True: nothing is missing between the last message and this one."""
        if not self.epoch or self._is_late(arrived):
            return True
        return arrived.epoch == self.epoch and arrived.offset == self.offset + 1

    def is_last(self, arrived: Arrived) -> bool:
        """True: it is the last one once more."""
        return (arrived.epoch, arrived.offset) == (self.epoch, self.offset) and (
            self.digest is None or self.digest == hash(arrived.body)
        )

    def is_behind(self, arrived: Arrived) -> bool:
        """True: the channel is not there yet."""
        return arrived.epoch != self.epoch or arrived.offset > self.offset

    def advance(self, arrived: Arrived) -> None:
        """This message is the last one, unless it is a late one."""
        if not self._is_late(arrived):
            self.epoch, self.offset = arrived.epoch, arrived.offset
            self.digest = hash(arrived.body)
            self.late = _NONE
        self.confirmed_at = time.monotonic()

    def _is_late(self, arrived: Arrived) -> bool:
        return arrived.offset <= self.late.get(arrived.epoch, -1)

    @property
    def confirmed_at_time(self) -> float:
        """`confirmed_at` in seconds since the epoch; 0: it was never confirmed."""
        if not self.confirmed_at:
            return 0.0
        return time.time() - (time.monotonic() - self.confirmed_at)
