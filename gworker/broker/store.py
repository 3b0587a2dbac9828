"""What a broker stores, and its operations, as a machine: no I/O, and the clock is handed in.

Each public method is an operation. Its arguments are bytes, and numbers are decimal text, as they
come over the wire. A time to live is in milliseconds, and 0 means none. An operation that cannot
be done raises BrokerError, and an argument that should be a number and is none ValueError.

What expires is dropped when something is stored, and each entry costs O(log n) over its life.
"""

from __future__ import annotations

import heapq
import math
import re
import secrets
import time
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from gworker.broker.interface import FLEETING, KEPT, Reply
from gworker.errors import BrokerError

OPERATIONS = (
    "publish",
    "keep",
    "history",
    "position",
    "rotate",
    "enter",
    "exit",
    "members",
    "count",
    "take_due_leaves",
    "renew",
    "reap",
    "get",
    "set",
    "add",
    "delete",
    "increment",
    "compare_and_set",
    "expire",
    "keys",
    "declare",
    "declarations",
)
"""Names of what can be asked of a broker."""

# Seconds.
IDEMPOTENCY_SECONDS = 300.0
POSITION_SECONDS = 30 * 86400.0
LEAVE_SECONDS = 3.0

# A leave that nobody has taken for so long has nobody to hear of it.
FORGOTTEN_LEAVE_SECONDS = 300.0

# Keys in one answer of `keys`.
KEYS_PAGE = 1000

# What a number is to `increment`: 64 bits with a sign, as in Redis.
_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_LEAST, _GREATEST = -(1 << 63), (1 << 63) - 1

_Key = TypeVar("_Key", bound=Hashable)


class Store:
    """The state of a broker.

    deliver: passes a payload to the subscribers of a channel, and returns how many there are.
    clock: seconds, never backwards.
    """

    def __init__(
        self,
        deliver: Callable[[bytes, bytes], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deliver = deliver
        self._clock = clock
        self._histories: dict[bytes, _History] = {}
        self._ends_of_entries: _Deadlines[bytes] = _Deadlines()
        self._ends_of_positions: _Deadlines[bytes] = _Deadlines()
        # All of them live equally long, so the oldest is the first.
        self._published: OrderedDict[tuple[bytes, bytes], _Publication] = OrderedDict()
        self._rooms: dict[bytes, _Room] = {}
        self._leases: dict[bytes, float] = {}
        self._rooms_of: dict[bytes, dict[bytes, None]] = {}  # channels by process
        # By channel and identity; all of them wait equally long.
        self._leaves: OrderedDict[tuple[bytes, bytes], _Leave] = OrderedDict()
        self._data: dict[bytes, bytes] = {}
        self._ends_of_data: _Deadlines[bytes] = _Deadlines()
        self._names = _SortedNames()
        self._declared: dict[bytes, tuple[bytes, int]] = {}  # text and generation by pattern

    # -- messages and their histories

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
            most, seconds = int(size), _seconds(ttl_ms)
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
            history.epoch = _new_epoch()
        return [history.epoch, history.offset]

    def _history(self, channel: bytes, now: float) -> _History:
        history = self._histories.get(channel)
        if history is None:
            history = self._histories[channel] = _History()
        self._ends_of_positions.set(channel, now + POSITION_SECONDS)
        return history

    # -- presence

    def enter(
        self,
        channel: bytes,
        process: bytes,
        previous: bytes,
        member: bytes,
        identity: bytes,
        info: bytes,
        events: bytes,
    ) -> int:
        """A member is there, with this identity and info, and `process` holds it.

        previous: the process that held it until now, b"" for none. events: 1 if its leave will be
        told. Returns 1 if nobody with this identity was there, and no leave of it was waiting.
        """
        self._now()
        room = self._rooms.get(channel)
        if room is None:
            room = self._rooms[channel] = _Room()
        # Counted before those that it replaces are: a replaced identity has not been away.
        is_new = room.count_in(identity)
        if self._leaves.pop((channel, identity), None) is not None:
            is_new = False
        self._remove(room, channel, process, member)
        if previous:
            self._remove(room, channel, previous, member)
        self._rooms[channel] = room
        room.members.setdefault(process, {})[member] = _Member(identity, info, events == b"1")
        self._rooms_of.setdefault(process, {})[channel] = None
        return int(is_new)

    def exit(self, channel: bytes, process: bytes, member: bytes) -> int:
        """A member is gone, if `process` holds it. Returns 1 if its identity is gone with it.

        If leaves are told, this one is in 3 seconds, unless the identity enters again.
        """
        self._now()
        room = self._rooms.get(channel)
        return int(room is not None and self._remove(room, channel, process, member))

    def members(self, channel: bytes, limit: bytes) -> list[Reply]:
        """Member, identity and info of each, or of `limit` of them (0: all). Members of a process
        without a lease are not shown."""
        self._now()
        found: Iterator[Reply] = (
            [name, member.identity, member.info]
            for held in self._held(channel)
            for name, member in held.items()
        )
        return list(islice(found, int(limit) or None))

    def count(self, channel: bytes) -> int:
        """How many `members` would show."""
        return sum(map(len, self._held(channel)))

    def take_due_leaves(self, channel: bytes) -> list[Reply]:
        """Channel, member, identity and info of those that left 3 seconds ago. Each is given out
        once, and its caller tells it. channel: any in the partition; here there is one."""
        now = self._now()
        leaves = self._leaves
        due: list[Reply] = []
        while leaves and next(iter(leaves.values())).due <= now:
            (of, identity), leave = leaves.popitem(last=False)
            due.append([of, leave.member, identity, leave.info])
        return due

    def renew(self, channel: bytes, process: bytes, ttl_ms: bytes) -> int:
        """Give a process a lease; 0 milliseconds last until `reap`. Returns 1 if it had one."""
        now = self._clock()
        had = self._leases.get(process, -math.inf) > now
        self._leases[process] = now + (_seconds(ttl_ms) or math.inf)
        return int(had)

    def reap(self, channel: bytes, process: bytes) -> int:
        """The lease of a process ends, and all of its members leave. Returns how many."""
        self._now()
        self._leases.pop(process, None)
        removed = 0
        for name in list(self._rooms_of.get(process, ())):
            room = self._rooms[name]
            for member in list(room.members[process]):
                self._remove(room, name, process, member)
                removed += 1
        return removed

    def _held(self, channel: bytes) -> Iterator[dict[bytes, _Member]]:
        """The members of each process with a lease."""
        room = self._rooms.get(channel)
        if room is not None:
            now = self._clock()
            for process, held in room.members.items():
                if self._leases.get(process, -math.inf) > now:
                    yield held

    def _remove(self, room: _Room, channel: bytes, process: bytes, name: bytes) -> bool:
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
        if is_gone and member.events:
            due = self._clock() + LEAVE_SECONDS
            self._leaves[channel, member.identity] = _Leave(due, name, member.info)
        return is_gone

    # -- data

    def get(self, channel: bytes) -> bytes | None:
        self._now()
        return self._data.get(channel)

    def set(self, channel: bytes, value: bytes, ttl_ms: bytes) -> int:
        """Store a value, with a time to live of its own. Returns 1."""
        now, seconds = self._now(), _seconds(ttl_ms)
        self._put(channel, value)
        self._ends_of_data.set(channel, now + seconds if seconds else math.inf)
        return 1

    def add(self, channel: bytes, value: bytes, ttl_ms: bytes) -> int:
        """Store a value if there is none. Returns 1 if there was none."""
        self._now()
        return 0 if channel in self._data else self.set(channel, value, ttl_ms)

    def delete(self, channel: bytes) -> int:
        """Returns 1 if there was a value."""
        self._now()
        self._ends_of_data.remove(channel)
        return int(self._data.pop(channel, None) is not None)

    def increment(self, channel: bytes, delta: bytes) -> int:
        """Add to an integer; none counts as 0. Its time to live stays. Returns the sum.

        BrokerError: the value is no integer, or the sum has more than 64 bits.
        """
        self._now()
        before = self._data.get(channel, b"0")
        if not _INTEGER.fullmatch(before):
            raise BrokerError("the value is not an integer")
        total = int(before) + int(delta)
        if not _LEAST <= total <= _GREATEST:
            raise BrokerError("the sum has more than 64 bits")
        self._put(channel, b"%d" % total)
        return total

    def compare_and_set(
        self, channel: bytes, has_expected: bytes, expected: bytes, value: bytes
    ) -> int:
        """Replace the value if it is `expected`, or with has_expected=0 if there is none. Its time
        to live stays. Returns 1 if it was so."""
        self._now()
        if self._data.get(channel) != (expected if has_expected == b"1" else None):
            return 0
        self._put(channel, value)
        return 1

    def expire(self, channel: bytes, ttl_ms: bytes) -> int:
        """Give a value another time to live. Returns 1 if there is one."""
        now, seconds = self._now(), _seconds(ttl_ms)
        if channel not in self._data:
            return 0
        self._ends_of_data.set(channel, now + seconds if seconds else math.inf)
        return 1

    def keys(self, channel: bytes, prefix: bytes, cursor: bytes) -> list[Reply]:
        """Channels of data that begin with `prefix`: the cursor of the next call (b"" at the end),
        and some of them. A key that is there from the first call to the last is in one of them."""
        self._now()
        page = self._names.page(self._data, prefix, cursor, KEYS_PAGE + 1)
        following = page.pop() if len(page) > KEYS_PAGE else b""
        return [following, list(page)]

    def _put(self, channel: bytes, value: bytes) -> None:
        if channel not in self._data:
            self._names.add(channel, len(self._data))
        self._data[channel] = value

    # -- declarations

    def declare(self, channel: bytes, pattern: bytes, text: bytes, generation: bytes) -> bytes:
        """Declare what `pattern` means. Returns b"", or the text that stands there if that is
        another one, of this generation or a later one."""
        number = int(generation)
        known = self._declared.get(pattern)
        if known is not None:
            if known[0] != text and known[1] >= number:
                return known[0]
            number = max(number, known[1])
        self._declared[pattern] = text, number
        return b""

    def declarations(self, channel: bytes) -> list[Reply]:
        """Pattern and text of each, in the order in which they were declared first."""
        return [[pattern, text] for pattern, (text, _) in self._declared.items()]

    # -- time

    def _now(self) -> float:
        """The time. What has expired until then is dropped first."""
        now = self._clock()
        for channel in self._ends_of_entries.passed(now):
            self._histories[channel].drop_entries()
        for channel in self._ends_of_positions.passed(now):
            if channel in self._ends_of_entries:  # which have longer to live
                self._ends_of_positions.set(channel, now + POSITION_SECONDS)
            else:
                del self._histories[channel]
        for channel in self._ends_of_data.passed(now):
            del self._data[channel]
        _drop_first(self._published, now)
        _drop_first(self._leaves, now - FORGOTTEN_LEAVE_SECONDS)
        return now


class _Publication(NamedTuple):
    epoch: bytes
    offset: int
    due: float


class _Leave(NamedTuple):
    due: float
    member: bytes
    info: bytes


_Ending = TypeVar("_Ending", _Publication, _Leave)


class _Member(NamedTuple):
    identity: bytes
    info: bytes
    events: bool


class _Room:
    """Who is in a channel. members: by process and name."""

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


class _History:
    """What a channel has stored, and its position, which outlives that."""

    __slots__ = ("_entries", "_lost", "_mode", "_values", "epoch", "offset")

    def __init__(self) -> None:
        self.epoch = _new_epoch()
        self.offset = 0
        self._mode = b""
        self._lost = 0  # the greatest offset that is needed and no longer there
        # Offset and body, the oldest first: of recoverable messages, and of values by their key.
        self._entries: deque[tuple[int, bytes]] = deque()
        self._values: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()

    def append(self, mode: bytes, value_key: bytes, body: bytes, size: int) -> int:
        """Returns the offset of the new entry."""
        if mode != self._mode:
            self.drop_entries()
            self._mode = mode
        self.offset += 1
        entry = self.offset, body
        if mode == b"recoverable":
            self._entries.append(entry)
            while len(self._entries) > size:
                self._lost = self._entries.popleft()[0]
        else:
            self._values[value_key] = entry
            self._values.move_to_end(value_key)
            while len(self._values) > size:
                self._lost = self._values.popitem(last=False)[1][0]
        return self.offset

    def drop_entries(self) -> None:
        self._entries.clear()
        self._values.clear()
        self._lost = self.offset

    def between(
        self, mode: bytes, asked: int, limit: int, backwards: bool
    ) -> tuple[list[Reply], bool]:
        """Entries after `asked`, or before it; and whether these are all that ever were."""
        if mode != self._mode:
            return [], (asked <= 1 if backwards else asked >= self.offset)
        found: Iterable[tuple[int, bytes]]
        stored = self._entries if mode == b"recoverable" else self._values.values()
        if backwards:
            found = (entry for entry in reversed(stored) if entry[0] < asked)
            is_whole = not self._lost or asked <= 1
        else:
            found = (entry for entry in stored if entry[0] > asked)
            is_whole = self._lost <= asked
        entries: list[Reply] = [
            list(entry) for entry in islice(found, limit + 1 if limit else None)
        ]
        if limit and len(entries) > limit:
            entries.pop()
            is_whole = False
        return entries, is_whole


class _Deadlines(Generic[_Key]):
    """When each key ends. One that is set later and later costs no more memory than once."""

    def __init__(self) -> None:
        self._ends: dict[_Key, float] = {}
        # At least one for each key, not later than its end. A number tells equal times apart.
        self._heap: list[tuple[float, int, _Key]] = []
        self._looked_at: dict[_Key, float] = {}  # the earliest in the heap
        self._count = 0

    def __contains__(self, key: _Key) -> bool:
        return key in self._ends

    def set(self, key: _Key, end: float) -> None:
        """End at this time; inf is never."""
        if end == math.inf:
            self._ends.pop(key, None)
            return
        self._ends[key] = end
        if end < self._looked_at.get(key, math.inf):
            self._push(key, end)
            if len(self._heap) > 2 * len(self._ends) + 64:
                self._build()

    def remove(self, key: _Key) -> None:
        self._ends.pop(key, None)

    def passed(self, now: float) -> Iterator[_Key]:
        """Those that have ended. They are removed."""
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            if self._looked_at.get(key) == when:
                del self._looked_at[key]
            end = self._ends.get(key)
            if end is None:
                continue
            if end <= now:
                del self._ends[key]
                yield key
            elif key not in self._looked_at:
                self._push(key, end)

    def _push(self, key: _Key, end: float) -> None:
        self._looked_at[key] = end
        self._count += 1
        heapq.heappush(self._heap, (end, self._count, key))

    def _build(self) -> None:
        self._heap = [(end, n, key) for n, (key, end) in enumerate(self._ends.items())]
        self._count = len(self._heap)
        self._looked_at = dict(self._ends)
        heapq.heapify(self._heap)


class _SortedNames:
    """Names in order, for who walks them. It costs nothing before the first walk."""

    def __init__(self) -> None:
        self._sorted: list[bytes] | None = None  # some of them may be gone, or be there twice
        self._added: list[bytes] = []

    def add(self, name: bytes, known: int) -> None:
        """A name is there that was not. known: how many are."""
        if self._sorted is not None:
            self._added.append(name)
            if len(self._sorted) + len(self._added) > 2 * known + 1000:
                self._sorted = None
                self._added = []

    def page(
        self, names: dict[bytes, bytes], prefix: bytes, start: bytes, size: int
    ) -> list[bytes]:
        """At most `size` of `names` that begin with `prefix`, from `start` on."""
        if self._sorted is None:
            self._sorted = sorted(names)
        elif self._added:
            self._sorted += self._added
            self._sorted.sort()  # the greater part of it is in order already
            self._added = []
        page: list[bytes] = []
        for index in range(bisect_left(self._sorted, max(prefix, start)), len(self._sorted)):
            name = self._sorted[index]
            if not name.startswith(prefix) or len(page) == size:
                break
            if name in names and not (page and page[-1] == name):
                page.append(name)
        return page


def _drop_first(entries: OrderedDict[tuple[bytes, bytes], _Ending], now: float) -> None:
    """Drop those that are due, of entries in that order."""
    while entries and next(iter(entries.values())).due <= now:
        entries.popitem(last=False)


def _new_epoch() -> bytes:
    return secrets.token_hex(4).encode()


def _seconds(milliseconds: bytes) -> float:
    number = int(milliseconds)
    if number < 0:
        raise BrokerError(f"a time to live is not {number} milliseconds")
    return number / 1000
