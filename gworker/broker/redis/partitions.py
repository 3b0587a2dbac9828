"""Which partition of the cluster a channel belongs to, and the tag that puts it there.

All names of a partition carry the same tag, so that they lie in one slot of a Redis cluster: a
script may touch all of them, and one command subscribes to many of their channels. The slots are
⌊(i + ½) · 16384 / 128⌋, which leaves a cluster of any size with partitions that differ by one at
most. A single server has the same names, so that nothing is renamed when a cluster replaces it.
"""

from __future__ import annotations

from binascii import crc_hqx

PARTITIONS = 128

# The hash slots of a Redis cluster ("Redis cluster specification", key distribution model).
SLOTS = 16384

# The first word of four digits or small letters, in alphabetical order, that has the slot.
TAGS = (
    b"09f2 0hyd 0no4 07yz 08t3 0ike 0v25 0kh3 01kj 1696 0fbl 0792 00yk 04lm 0g4e 0cek "
    b"0qkg 0d8y 0jc9 03uw 0i6f 08m8 066x 02gv 05gg 016i 07d1 03q7 041n 08ix 0628 02c6 "
    b"0938 0hhf 039v 07hx 08e1 0a7w 0ol7 06zy 01zh 05on 0f7f 07l8 00hi 049g 0gao 0c0a "
    b"0h5e 0dms 07qs 03du 0ajt 0882 06cr 02vt 052m 01cc 07u3 0fje 04dd 005j 06g2 02r4 "
    b"03ml 07xj 0ddj 0hxt 0g15 06jk 0083 0acm 0njd 0b2r 01jz 0q34 0g5u 0kmc 085k 0in5 "
    b"07aa 030o 05b7 0139 067h 02ff 04p6 00e0 0boq 0fzw 05fw 017y 0c9x 0ghv 04tv 00ap "
    b"038f 07ih 0duh 0hiv 02no 0c51 00m9 0a6g 0f6v 0bgx 096h 0hm6 0oig 0c1q 00iy 048w "
    b"074k 03ee 05s5 01f3 06bb 023l 04a4 00t2 0j3c 0fku 05wu 01bs 0clr 0gyt 04et 004z"
).split()


def partition_of(channel: bytes) -> int:
    """The partition of a channel: its number, below `PARTITIONS`."""
    return crc_hqx(channel, 0) % PARTITIONS


def slot_of(tag: bytes) -> int:
    """The hash slot of the names that carry this tag in braces."""
    return crc_hqx(tag, 0) % SLOTS


SLOT_OF_PARTITION = tuple(slot_of(tag) for tag in TAGS)
