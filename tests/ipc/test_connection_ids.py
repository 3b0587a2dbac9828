"""Ids of connections: blocks that processes take without waiting for each other."""

from __future__ import annotations

import os
from itertools import chain, islice, pairwise

from gworker.ipc.connection_ids import LARGE, SMALL, SMALL_BLOCKS, ConnectionIds, block


def test_blocks_follow_each_other_from_1_on() -> None:
    blocks = [block(number) for number in range(SMALL_BLOCKS + 3)]
    assert blocks[0] == range(1, SMALL + 1)
    assert all(one.stop == next_one.start for one, next_one in pairwise(blocks))
    assert [len(each) for each in blocks[SMALL_BLOCKS - 1 :]] == [SMALL, LARGE, LARGE, LARGE]


def test_one_process_counts() -> None:
    ids = ConnectionIds()
    ids.open()
    assert list(islice(ids.numbers(), 2 * SMALL + 1)) == list(range(1, 2 * SMALL + 2))


def test_a_block_is_taken_when_it_is_needed() -> None:
    """A process that has no connections uses up no numbers."""
    ids = ConnectionIds()
    ids.open()
    idle, busy = ids.numbers(), ids.numbers()
    assert next(busy) == 1
    assert next(idle) == SMALL + 1
    assert next(busy) == 2


def in_child(ids: ConnectionIds, blocks: int) -> tuple[int, int]:
    """A process that takes blocks as quickly as it can: its pid, and where it tells their first
    numbers."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ids.open()
            firsts = islice(ids.numbers(), 0, blocks * SMALL, SMALL)
            os.write(writer, b"".join(b"%d " % first for first in firsts))
        finally:
            os._exit(0)
    os.close(writer)
    return pid, reader


def test_processes_take_different_blocks_at_the_same_time() -> None:
    ids, blocks = ConnectionIds(), 200
    children = [in_child(ids, blocks) for _ in range(4)]
    taken = []
    for pid, reader in children:
        with open(reader) as told:
            taken.append([int(word) for word in told.read().split()])
        os.waitpid(pid, 0)
    assert sorted(chain(*taken)) == list(range(1, 4 * blocks * SMALL, SMALL))


def test_the_memory_is_kept_through_an_exec() -> None:
    before, after = ConnectionIds(), ConnectionIds()
    before.open()
    assert next(before.numbers()) == 1
    after.adopt(os.dup(before.fileno()))
    after.open()
    assert next(after.numbers()) == SMALL + 1
