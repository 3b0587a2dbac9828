"""Ids of connections: 1, 2, 3, … and never the same twice in an instance.

A connection keeps its id when it moves to another process, so processes cannot count each for
itself. They take blocks of ids. A block is a byte that is appended to a memory file of the
instance: the kernel lets one append happen after the other, and says where the byte went (write(2),
O_APPEND). So no process waits for another one, and a process that is killed leaves nothing half
done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain

# Ids in one block. The first ones are small, so that the ids of a small instance are.
SMALL, LARGE = 1000, 1_000_000
SMALL_BLOCKS = 1000


class ConnectionIds:
    """The memory file of an instance. The arbiter makes it; each worker process opens it itself."""

    def __init__(self) -> None:
        self._memory = os.memfd_create("gworker-connection-ids")
        self._file = -1  # as this process has opened it: each has to see its own position

    def fileno(self) -> int:
        return self._memory

    def adopt(self, descriptor: int) -> None:
        """Go on with the memory file that was kept open through an exec."""
        os.close(self._memory)
        self._memory = descriptor

    def open(self) -> None:
        """In a worker process, while it may open what is the arbiter's."""
        self._file = self.opened()

    def opened(self) -> int:
        """A descriptor with a position of its own, for one worker process."""
        return os.open(f"/proc/self/fd/{self._memory}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def use(self, descriptor: int) -> None:
        """In a worker process that may not open it: `opened`, which the arbiter has sent."""
        self._file = descriptor

    def let_go(self) -> None:
        """In a process that user code has forked: it would share its parent's position."""
        for descriptor in (self._file, self._memory):
            os.closerange(descriptor, descriptor + 1)

    def numbers(self) -> Iterator[int]:
        """Ids for this process, without end. A block is taken when its first id is asked for."""
        return chain.from_iterable(iter(self._take_block, None))

    def _take_block(self) -> range:
        os.write(self._file, b".")
        return block(os.lseek(self._file, 0, os.SEEK_CUR) - 1)


def block(number: int) -> range:
    """The ids of a block; blocks are counted from 0."""
    if number < SMALL_BLOCKS:
        first, size = number * SMALL, SMALL
    else:
        first, size = SMALL_BLOCKS * SMALL + (number - SMALL_BLOCKS) * LARGE, LARGE
    return range(first + 1, first + size + 1)
