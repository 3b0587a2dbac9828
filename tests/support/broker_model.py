"""What the operations of a broker mean, in the plainest way: lists that are walked.

It knows nothing of how a broker does it. Time is a number that the test moves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

IDEMPOTENCY, LEAVE = 300.0, 3.0

FORGOTTEN = 300.0
"""A leave that was not asked for so long after it was due is told no more."""


@dataclass
class Entry:
    offset: int
    value_key: bytes
    body: bytes
    is_dropped: bool = False  # by size or time
    is_superseded: bool = False  # by a later value of its key


@dataclass
class Channel:
    mode: bytes
    epoch: bytes = b""  # as the broker told it first
    entries: list[Entry] = field(default_factory=list)  # all that there ever were
    ends: float = math.inf  # when all entries go

    @property
    def top(self) -> int:
        return len(self.entries)

    def stored(self) -> list[Entry]:
        return [each for each in self.entries if not (each.is_dropped or each.is_superseded)]


@dataclass
class Member:
    channel: bytes
    process: bytes
    name: bytes
    identity: bytes
    info: bytes
    leave: bytes


@dataclass
class Leave:
    due: float
    channel: bytes
    identity: bytes
    text: bytes


@dataclass
class Value:
    text: bytes
    ends: float


class Model:
    def __init__(self) -> None:
        self.now = 0.0
        self.channels: dict[bytes, Channel] = {}
        self.published: dict[tuple[bytes, bytes], tuple[float, bytes, int]] = {}
        self.members: list[Member] = []
        self.leases: dict[bytes, float] = {}
        self.leaves: list[Leave] = []
        self.values: dict[bytes, Value] = {}
        self.declared: dict[bytes, tuple[bytes, int]] = {}

    def go_by(self, seconds: float) -> None:
        self.now += seconds
        self.leaves = [each for each in self.leaves if each.due + FORGOTTEN > self.now]

    # -- messages

    def duplicate_of(self, channel: bytes, key: bytes) -> tuple[bytes, int] | None:
        """The position of what was published with this key in the last five minutes."""
        when, epoch, offset = self.published.get((channel, key), (-math.inf, b"", 0))
        return (epoch, offset) if key and self.now < when + IDEMPOTENCY else None

    def append(self, channel: Channel, size: int, ttl: float, value_key: bytes, body: bytes) -> int:
        self.expire_entries(channel)
        if channel.mode == b"latest":
            for each in channel.stored():
                each.is_superseded = each.value_key == value_key
        else:
            channel.ends = self.now + ttl if ttl else math.inf
        channel.entries.append(Entry(channel.top + 1, value_key, body))
        for each in channel.stored()[:-size]:
            each.is_dropped = True
        return channel.top

    def expire_entries(self, channel: Channel) -> None:
        if self.now >= channel.ends:
            for each in channel.entries:
                each.is_dropped = True

    def history(
        self, channel: Channel, after: int, before: int, limit: int
    ) -> tuple[list[list[object]], bool, bool]:
        """Stored entries between two offsets, the oldest first; whether nothing between was
        dropped; and whether nothing has ever been."""
        self.expire_entries(channel)
        inside = [each for each in channel.entries if after < each.offset < before]
        stored = [each for each in channel.stored() if after < each.offset < before]
        return (
            [[each.offset, each.body] for each in stored],
            not any(each.is_dropped for each in inside) and not 0 < limit < len(stored),
            not any(each.is_dropped for each in channel.entries),
        )

    # -- presence

    def is_present(self, channel: bytes, identity: bytes) -> bool:
        return any(m.channel == channel and m.identity == identity for m in self.members)

    def enter(self, entering: Member, previous: bytes) -> int:
        channel, identity = entering.channel, entering.identity
        waits = [e for e in self.leaves if (e.channel, e.identity) == (channel, identity)]
        was_there = self.is_present(channel, identity) or waits
        self.leaves = [each for each in self.leaves if each not in waits]
        replaced = [
            each
            for each in self.members
            if each.channel == channel
            and each.name == entering.name
            and each.process in (entering.process, previous)
        ]
        self.members = [each for each in self.members if each not in replaced]
        self.members.append(entering)
        for each in replaced:
            self.leave_if_gone(each)
        return 0 if was_there else 1

    def exit(self, channel: bytes, process: bytes, name: bytes) -> int:
        for each in self.members:
            if (each.channel, each.process, each.name) == (channel, process, name):
                self.members.remove(each)
                return self.leave_if_gone(each)
        return 0

    def leave_if_gone(self, gone: Member) -> int:
        if self.is_present(gone.channel, gone.identity):
            return 0
        waiting = [(each.channel, each.identity) for each in self.leaves]
        if gone.leave and (gone.channel, gone.identity) not in waiting:
            due = self.now + LEAVE
            self.leaves.append(Leave(due, gone.channel, gone.identity, gone.leave))
        return 1

    def shown(self, channel: bytes) -> list[list[bytes]]:
        return sorted(
            [m.name, m.identity, m.info]
            for m in self.members
            if m.channel == channel and self.leases.get(m.process, 0) > self.now
        )

    def renew(self, process: bytes, ttl: float) -> int:
        had = self.leases.get(process, 0) > self.now
        self.leases[process] = self.now + ttl if ttl else math.inf
        return int(had)

    def reap(self, process: bytes) -> int:
        self.leases.pop(process, None)
        held = [each for each in self.members if each.process == process]
        for each in held:
            self.exit(each.channel, process, each.name)
        return len(held)

    def take_due_leaves(self) -> dict[bytes, list[bytes]]:
        """By channel."""
        due: dict[bytes, list[bytes]] = {}
        for each in self.leaves:
            if each.due <= self.now:
                due.setdefault(each.channel, []).append(each.text)
        self.leaves = [each for each in self.leaves if each.due > self.now]
        return due

    # -- data

    def value(self, key: bytes) -> Value | None:
        found = self.values.get(key)
        return found if found and found.ends > self.now else None

    def text(self, key: bytes) -> bytes | None:
        found = self.value(key)
        return found.text if found else None

    def put(self, key: bytes, text: bytes, ttl: float) -> None:
        self.values[key] = Value(text, self.now + ttl if ttl else math.inf)

    def change(self, key: bytes, text: bytes) -> None:
        """Another text, which lives as long as the one before it would have."""
        found = self.value(key)
        self.values[key] = Value(text, found.ends if found else math.inf)

    def delete(self, key: bytes) -> int:
        was_there = self.value(key) is not None
        self.values.pop(key, None)
        return int(was_there)

    def keys(self, prefix: bytes) -> set[bytes]:
        return {key for key in self.values if self.value(key) and key.startswith(prefix)}

    # -- declarations

    def declare(self, pattern: bytes, text: bytes, generation: int) -> bytes:
        known, since = self.declared.get(pattern, (text, generation))
        if known != text and since >= generation:
            return known
        self.declared[pattern] = text, max(since, generation)
        return b""
