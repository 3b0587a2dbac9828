"""The scoreboard: a table in shared memory, one row per process, one unsigned 64-bit word per
column.

A worker process writes its own row and nothing else; all processes read all rows. The mapping is
made before the first fork, so that it needs no cleaning up, and a row can still be read when its
process hangs or is dead. The memory file behind it has no name, only a descriptor, by which the
mapping outlives an upgrade of the arbiter (memfd_create(2)). Rows are four cache lines long, so two
processes never write to the same line.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Set
from enum import IntEnum

WORDS = 32  # words per row: 256 bytes, four cache lines

CAPACITY = 4096  # rows. Untouched pages of the mapping cost no memory.


MAP_FIXED = 0x10  # mmap(2); Python does not name it


class Column(IntEnum):
    """What the words of a row are. Counters grow for the life of the process.

    A number keeps its meaning for ever: an arbiter that was upgraded reads the rows of older
    processes.
    """

    BEAT = 0  # time.monotonic_ns() at the last beat of the event loop (heartbeat.py)
    CONNECTIONS = 1  # connections open now
    ACCEPTED = 2
    REQUESTS = 3  # messages given to handlers
    BYTES_READ = 4
    BYTES_WRITTEN = 5
    SEND_FAILURES = 6
    EXCEPTIONS = 7  # exceptions that user callbacks let escape
    TIMERS = 8  # timers that are set now
    LAG_US = 9  # how late a beat was at most in the last seconds, in microseconds
    HANDED_OVER = 10  # connections that a successor has taken
    TURNED_AWAY = 11  # connections that were closed, politely, because this process retires
    # The inode of the listener from which the process accepts now, the same in all processes; 0: it
    # does not.
    LISTENER = 12
    # 13 and 14 had another meaning in 0.1.
    SEND_QUEUE = 15  # bytes that wait for its peers, here and in the kernel, at the last look
    # The messages between processes, as they were at the last beat.
    BROKER = 16  # its state, from 1 on in `BROKER_STATES`; 0: this process uses no messages
    BROKER_LATENCY_US = 17  # how long the last call took
    GROUPS = 18  # that it hears of now
    SUBSCRIPTIONS = 19  # of all kinds: groups, users, inboxes, broadcasts
    PUBLISHED = 20  # to groups
    DELIVERED = 21  # to connections of its own
    DROPPED = 22  # connections, and functions, that did not take one
    GAPS = 23  # groups that may have missed something, each time


# The columns that only grow, and that outlive their process in a slot's totals.
COUNTERS = (
    Column.ACCEPTED,
    Column.REQUESTS,
    Column.BYTES_READ,
    Column.BYTES_WRITTEN,
    Column.SEND_FAILURES,
    Column.EXCEPTIONS,
    Column.PUBLISHED,
    Column.DELIVERED,
    Column.DROPPED,
    Column.GAPS,
)

BROKER_STATES = ("down", "degraded", "up")


Row = memoryview  # a row is a `memoryview` of format "Q": `row[Column.REQUESTS] += 1`


class Scoreboard:
    """The table. Made once by the arbiter, inherited by every worker process.

    descriptor: of a memory file that was kept open through an exec. used: the numbers of the rows
    in it that belong to living processes.
    """

    def __init__(
        self, capacity: int = CAPACITY, descriptor: int = -1, used: Set[int] = frozenset()
    ) -> None:
        if descriptor < 0:
            descriptor = os.memfd_create("gworker-scoreboard")
            os.ftruncate(descriptor, (1 + capacity) * WORDS * 8)
        size = os.fstat(descriptor).st_size
        capacity = size // (WORDS * 8) - 1
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, size, mmap.MAP_SHARED)
        words = memoryview(self._map).cast("Q")
        # The first word of the head is the number of rows that were ever in use.
        self._head, self._table = words[:WORDS], words[WORDS:]
        self._free = [number for number in range(capacity - 1, -1, -1) if number not in used]

    def fileno(self) -> int:
        """The descriptor of the memory file, which has to be kept open through an exec."""
        return self._descriptor

    def make_private(self) -> None:
        """In a process that user code has forked: write to a copy from now on, which no other
        process reads.

        It takes the place of the table in memory (mmap(2), MAP_FIXED), so every row that is in use
        goes there too. Raises OSError.
        """
        system = ctypes.CDLL(None, use_errno=True)
        system.mmap.restype = ctypes.c_void_p
        system.mmap.argtypes = [
            ctypes.c_void_p,
            ctypes.c_size_t,
            *[ctypes.c_int] * 3,
            ctypes.c_long,
        ]
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        access, kind = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | MAP_FIXED
        if system.mmap(address, len(self._map), access, kind, self._descriptor, 0) != address:
            raise OSError(ctypes.get_errno(), "the scoreboard cannot be copied")
        # os.close is gevent's, and waits for the event loop.
        os.closerange(self._descriptor, self._descriptor + 1)

    def take(self) -> int:
        """Return the number of a free row, zeroed. Raises OSError when every row is in use."""
        if not self._free:
            raise OSError(errno.EAGAIN, "the scoreboard is full: too many worker processes")
        number = self._free.pop()
        self.row(number)[:] = memoryview(bytes(WORDS * 8)).cast("Q")
        self._head[0] = max(self._head[0], number + 1)
        return number

    def give_back(self, number: int) -> None:
        self.row(number)[Column.LISTENER] = 0
        self._free.append(number)

    def row(self, number: int) -> Row:
        return self._table[number * WORDS : (number + 1) * WORDS]

    def rows_with(self, column: Column | int, value: int) -> list[Row]:
        """The rows, live, that have `value` in `column` now."""
        words = self._table[column : self._head[0] * WORDS : WORDS].tolist()
        return [self.row(number) for number, word in enumerate(words) if word == value]
