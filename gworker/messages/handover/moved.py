"""What a process says of connections that have moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gworker.messages.backlog import Position
from gworker.messages.membership import Belongings


class Moved(NamedTuple):
    """What a process knew of connections when it stopped to send to them.

    process: its name with the broker. at: in seconds since the epoch. positions: by channel.
    belongings: by the connections' ids. offsets: (epoch, offset) of the last message that members
    have had, by channel that keeps its messages.
    """

    process: bytes
    at: float
    positions: Mapping[bytes, Position]
    belongings: Mapping[int, Belongings]
    offsets: Mapping[bytes, tuple[str, int]]
