"""Members of channels, the leases of the processes that hold them, and leaves."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from gworker.broker.interface import FLEETING, Reply
from gworker.broker.store.arguments import seconds_of

# Seconds from the exit of the last member of an identity to its leave.
LEAVE_SECONDS = 3.0

# Seconds after which a leave that was due is dropped: no process has asked for it, so none is there
# to hear of it.
FORGOTTEN_LEAVE_SECONDS = 300.0

# Bytes of leaves in one message; more make a further one.
LEAVES_BYTES = 1 << 18


class _Leave(NamedTuple):
    due: float
    text: bytes


class _Member(NamedTuple):
    identity: bytes
    info: bytes
    leave: bytes


class _Room:
    """The members of a channel. members: by process and name."""

    __slots__ = ("_identities", "members")

    def __init__(self) -> None:
        self.members: dict[bytes, dict[bytes, _Member]] = {}
        self._identities: dict[bytes, int] = {}

    def count_in(self, identity: bytes) -> bool:
        """True if it is the first of this identity."""
        known = self._identities.get(identity, 0)
        self._identities[identity] = known + 1
        return not known

    def count_out(self, identity: bytes) -> bool:
        """True if it was the last of this identity."""
        left = self._identities[identity] - 1
        if left:
            self._identities[identity] = left
        else:
            del self._identities[identity]
        return not left


class Presence:
    """deliver: see `Store`. now: the time, in seconds; `drop_expired` has been called with it."""

    def __init__(self, deliver: Callable[[bytes, bytes], int], now: Callable[[], float]) -> None:
        self._deliver = deliver
        self._now = now
        self._rooms: dict[bytes, _Room] = {}
        self._leases: dict[bytes, float] = {}
        self._rooms_of: dict[bytes, dict[bytes, None]] = {}  # channels by process
        # By channel and identity; all of them wait equally long.
        self._leaves: OrderedDict[tuple[bytes, bytes], _Leave] = OrderedDict()

    def enter(
        self,
        channel: bytes,
        process: bytes,
        previous: bytes,
        member: bytes,
        identity: bytes,
        info: bytes,
        leave: bytes,
    ) -> int:
        """A member is there, with this identity and info, and `process` holds it.

        previous: the process that held it until now, b"" for none. leave: what tells of
        its leave, b"" if nothing does. Returns 1 if no member had this identity, and no leave of it
        was waiting.
        """
        now = self._now()
        room = self._rooms.get(channel)
        if room is None:
            room = self._rooms[channel] = _Room()
        # Counted before those that it replaces are: a replaced identity has not been away.
        is_new = room.count_in(identity)
        if self._leaves.pop((channel, identity), None) is not None:
            is_new = False
        self._remove(room, channel, process, member, now)
        if previous:
            self._remove(room, channel, previous, member, now)
        self._rooms[channel] = room
        room.members.setdefault(process, {})[member] = _Member(identity, info, leave)
        self._rooms_of.setdefault(process, {})[channel] = None
        return int(is_new)

    def exit(self, channel: bytes, process: bytes, member: bytes) -> int:
        """A member is gone, if `process` holds it. Returns 1 if its identity is gone with it.

        If something tells of its leave, that is due in 3 seconds, unless the identity enters again.
        """
        now = self._now()
        room = self._rooms.get(channel)
        return int(room is not None and self._remove(room, channel, process, member, now))

    def members(self, channel: bytes, limit: bytes) -> list[Reply]:
        """Member, identity and info of each, or of `limit` of them (0: all). Members of a process
        without a lease are not shown."""
        found: Iterator[Reply] = (
            [name, member.identity, member.info]
            for held in self._held(channel)
            for name, member in held.items()
        )
        return list(islice(found, int(limit) or None))

    def count(self, channel: bytes) -> int:
        """How many `members` would show."""
        return sum(map(len, self._held(channel)))

    def publish_due_leaves(self, channel: bytes, head: bytes, separator: bytes, tail: bytes) -> int:
        """Publish what tells of the leaves that are due, each once: those of a channel in one
        message, between `head` and `tail`. Returns how many those were.

        They are out when they are no longer here, so that a process that ends loses none.
        """
        now = self._now()
        leaves = self._leaves
        due: dict[bytes, list[bytes]] = {}
        count = 0
        while leaves and next(iter(leaves.values())).due <= now:
            (of, _), leave = leaves.popitem(last=False)
            due.setdefault(of, []).append(leave.text)
            count += 1
        for of, texts in due.items():
            for some in _slices(texts):
                self._deliver(of, FLEETING + head + separator.join(some) + tail)
        return count

    def renew(self, channel: bytes, process: bytes, ttl_ms: bytes) -> int:
        """Give a process a lease; 0 milliseconds last until `reap`. Returns 1 if it had one."""
        now = self._now()
        had = self._leases.get(process, -math.inf) > now
        self._leases[process] = now + (seconds_of(ttl_ms) or math.inf)
        return int(had)

    def reap(self, channel: bytes, process: bytes) -> int:
        """The lease of a process ends, and all of its members leave. Returns how many."""
        now = self._now()
        self._leases.pop(process, None)
        removed = 0
        for name in list(self._rooms_of.get(process, ())):
            room = self._rooms[name]
            for member in list(room.members[process]):
                self._remove(room, name, process, member, now)
                removed += 1
        return removed

    def _held(self, channel: bytes) -> Iterator[dict[bytes, _Member]]:
        """The members of each process with a lease."""
        room = self._rooms.get(channel)
        if room is not None:
            now = self._now()
            for process, held in room.members.items():
                if self._leases.get(process, -math.inf) > now:
                    yield held

    def _remove(self, room: _Room, channel: bytes, process: bytes, name: bytes, now: float) -> bool:
        """Take a member out. True if its identity is gone with it."""
        held = room.members.get(process)
        member = held.pop(name, None) if held is not None else None
        if held is None or member is None:
            return False
        if not held:
            del room.members[process]
            rooms = self._rooms_of[process]
            del rooms[channel]
            if not rooms:
                del self._rooms_of[process]
            if not room.members:
                del self._rooms[channel]
        is_gone = room.count_out(member.identity)
        if is_gone and member.leave:
            self._leaves[channel, member.identity] = _Leave(now + LEAVE_SECONDS, member.leave)
        return is_gone

    def drop_expired(self, now: float) -> None:
        leaves = self._leaves
        while leaves and next(iter(leaves.values())).due <= now - FORGOTTEN_LEAVE_SECONDS:
            leaves.popitem(last=False)


def _slices(texts: list[bytes]) -> Iterator[list[bytes]]:
    start = size = 0
    for place, text in enumerate(texts, 1):
        size += len(text)
        if size >= LEAVES_BYTES or place == len(texts):
            yield texts[start:place]
            start, size = place, 0
