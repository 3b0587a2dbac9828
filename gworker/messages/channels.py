"""The channels that one process hears of: which receivers there are for what arrives.

A channel is known to a process for as long as it has members or functions here, and a moment
longer, so that one that is left and joined again costs the broker nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from gworker.messages.backlog import Backlog
from gworker.messages.declarations import DEFAULT, Declaration, Declarations
from gworker.messages.functions import Functions
from gworker.messages.holds import HeldFrames, Hold
from gworker.messages.stream_position import StreamPosition

# Kinds of channels, with which their names begin. No process subscribes to DATA.
GROUP, USER, INBOX, EVERYONE, DATA = b"g:", b"u:", b"i:", b"b:", b"d:"

# Seconds for which a channel without members is still subscribed.
IDLE_SECONDS: Final = 1.0


class Channel:
    """One channel in one process.

    name: its name with the broker. text: of the group or the user. members: connections, in the
    order in which they joined. functions: what is called with its messages. is_subscribed: the
    broker sends its messages. received: so many frames since then. position: how far it is, if it
    keeps its messages. backlog: its last messages, while connections come from a predecessor; else
    None. held: what is held back while its history is read; else None. holds: of members that are
    not to get all that comes.
    """

    __slots__ = (
        "backlog", "declaration", "functions", "held", "holds", "is_subscribed", "members", "name",
        "position", "received", "text",
    )  # fmt: skip

    def __init__(self, kind: bytes, text: str, declaration: Declaration = DEFAULT) -> None:
        self.name = kind + text.encode()
        self.text = text
        self.declaration = declaration
        self.members: dict[Any, None] = {}
        self.functions: Functions | None = None
        self.is_subscribed = False
        self.backlog: Backlog | None = None
        self.received = 0
        self.position = StreamPosition()
        self.held: HeldFrames | None = None
        self.holds: dict[Any, Hold] = {}

    def __contains__(self, connection: Any) -> bool:
        """True for a member that gets what comes."""
        return connection in self.members and connection not in self.holds

    def __repr__(self) -> str:
        return f"<Channel {self.name!r}>"

    def drop(self, connection: Any) -> None:
        """It gets nothing of this channel any more."""
        self.members.pop(connection, None)
        self.holds.pop(connection, None)

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
    """Those of one process, by name. worker: the name of its Worker."""

    def __init__(self, declarations: Declarations, worker: str) -> None:
        self._declarations = declarations
        self._worker = worker
        self._all: dict[bytes, Channel] = {}
        self.groups = 0  # so many of them
        self._idle: dict[Channel, float] = {}  # since when, in monotonic seconds

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def get(self, name: bytes) -> Channel | None:
        return self._all.get(name)

    def obtain(self, kind: bytes, text: str) -> Channel:
        """The channel, known from now on."""
        name = kind + text.encode()
        channel = self._all.get(name)
        if channel is None:
            declared = self._declarations.of(text) if kind == GROUP else DEFAULT
            channel = self._all[name] = Channel(kind, text, declared)
            self.groups += kind == GROUP
        return channel

    @property
    def everyone(self) -> list[Channel]:
        """Those that all connections of this process belong to."""
        return [self.obtain(EVERYONE, text) for text in ("", self._worker)]

    @property
    def keeping(self) -> list[Channel]:
        """The groups that keep their messages."""
        return [each for each in self if each.kind == GROUP and each.declaration.keeps]

    @property
    def has_idle(self) -> bool:
        return bool(self._idle)

    def set_idle(self, channel: Channel) -> None:
        """It is not needed any more, for now."""
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
