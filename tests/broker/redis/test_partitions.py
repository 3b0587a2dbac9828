"""The tags of partitions and where they lie."""

from __future__ import annotations

from collections import Counter

import pytest

from gworker.broker.redis.partitions import PARTITIONS, SLOT_OF_PARTITION, SLOTS, TAGS, partition_of


def test_each_tag_lies_in_the_middle_of_its_part_of_the_slots() -> None:
    assert list(SLOT_OF_PARTITION) == [
        (2 * partition + 1) * SLOTS // (2 * PARTITIONS) for partition in range(PARTITIONS)
    ]
    assert len(set(TAGS)) == PARTITIONS


@pytest.mark.parametrize("nodes", range(1, 65))
def test_equal_nodes_have_partitions_that_differ_by_one(nodes: int) -> None:
    shares = Counter(slot * nodes // SLOTS for slot in SLOT_OF_PARTITION)
    assert max(shares.values()) - min(shares.values()) <= 1


def test_channels_spread() -> None:
    shares = Counter(partition_of(b"g:room %d" % number) for number in range(128_000))
    assert 700 < min(shares.values()) <= max(shares.values()) < 1300
