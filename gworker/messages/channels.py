"""The channels that one process hears of: who is there for what arrives.

A channel is known to a process for as long as it has members or functions here, and a moment
longer, so that one that is left and joined again costs the broker nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from gworker.messages.declarations import DEFAULT, Declaration
from gworker.messages.functions import Functions

if TYPE_CHECKING:
    from gworker.messages.positions import Backlog

# Kinds of channels, with which their names begin. Nobody subscribes to DATA.
GROUP, USER, INBOX, EVERYONE, DATA = b"g:", b"u:", b"i:", b"b:", b"d:"

# Seconds for which a channel without members is still subscribed.
IDLE_SECONDS: Final = 1.0


class Channel:
    """One channel in one process.

    name: its name with the broker. text: of the group or the user. members: connections, in the
    order in which they joined. functions: what is called with its messages. is_heard: the broker
    sends its messages. received: so many frames since then. epoch, offset: of the last message of a
    channel that keeps them; ("", 0) elsewhere, and before the first. backlog: its last messages,
    while connections come from a predecessor; else None. The rest is `recovery.Recovery`'s. digest:
    the hash of the last message's body; None: it is not known. late: messages of these epochs, up
    to these offsets, that are on their way and new although the channel is further. heard_at: when
    the position was right, in monotonic seconds. held: `HeldFrames` while its history is
    read; else None. holds: a `Hold` for each member that is not to get all that comes.
    """

    __slots__ = (
        "backlog", "declaration", "digest", "epoch", "functions", "heard_at", "held", "holds",
        "is_heard", "late", "members", "name", "offset", "received", "text",
    )  # fmt: skip

    def __init__(self, kind: bytes, text: str, declaration: Declaration = DEFAULT) -> None:
        self.name = kind + text.encode()
        self.text = text
        self.declaration = declaration
        self.members: dict[Any, None] = {}
        self.functions: Functions | None = None
        self.is_heard = False
        self.backlog: Backlog | None = None
        self.received = 0
        self.epoch = ""
        self.offset = 0
        self.digest: int | None = None
        self.late: dict[str, int] = {}
        self.heard_at = 0.0
        self.held: Any = None
        self.holds: dict[Any, Any] = {}

    def __contains__(self, connection: Any) -> bool:
        """True for a member that gets what comes."""
        return connection in self.members and connection not in self.holds

    def __repr__(self) -> str:
        return f"<Channel {self.name!r}>"

    @property
    def kind(self) -> bytes:
        return self.name[:2]

    @property
    def is_needed(self) -> bool:
        """True while something here is to get its messages."""
        return (
            bool(self.members)
            or self.functions is not None
            or self.backlog is not None
            or self.kind == EVERYONE
        )


class Channels:
    """Those of one process, by name."""

    def __init__(self) -> None:
        self._all: dict[bytes, Channel] = {}
        self.groups = 0  # so many of them
        self._idle: dict[Channel, float] = {}  # since when, in monotonic seconds

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def get(self, name: bytes) -> Channel | None:
        return self._all.get(name)

    def obtain(self, kind: bytes, text: str, declaration: Declaration = DEFAULT) -> Channel:
        """The channel, known from now on."""
        name = kind + text.encode()
        channel = self._all.get(name)
        if channel is None:
            channel = self._all[name] = Channel(kind, text, declaration)
            self.groups += kind == GROUP
        return channel

    @property
    def has_idle(self) -> bool:
        return bool(self._idle)

    def left(self, channel: Channel) -> None:
        """Something of it has gone: it may not be needed any more."""
        if not channel.is_needed:
            self._idle[channel] = time.monotonic()

    def take_idle(self) -> list[bytes]:
        """Forget those that have not been needed for IDLE_SECONDS, and return their names."""
        until = time.monotonic() - IDLE_SECONDS
        due = [channel for channel, since in self._idle.items() if since <= until]
        names = []
        for channel in due:
            del self._idle[channel]
            if not channel.is_needed and self._all.get(channel.name) is channel:
                del self._all[channel.name]
                self.groups -= channel.kind == GROUP
                names.append(channel.name)
        return names

    def of_groups(self, names: Iterable[bytes]) -> list[Channel]:
        """Those of `names` that are groups."""
        found = (self._all.get(name) for name in names if name.startswith(GROUP))
        return [channel for channel in found if channel is not None]
