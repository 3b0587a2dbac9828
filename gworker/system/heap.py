"""What malloc(3) does with memory that was freed."""

from __future__ import annotations

LARGEST = 8 << 20
"""Bytes of the blocks that come from the heap, and half of what it keeps for the next ones."""


def keep_freed_memory() -> None:
    """Have glibc keep up to twice `LARGEST` bytes of freed memory at the end of the heap.

    Otherwise each body or message of a megabyte could get its pages from the kernel anew, which
    costs more than to read it. glibc maps a block from 128 KiB on by itself, and gives it back when
    it is freed; but then it takes blocks up to that size from the heap, and keeps twice as much
    there (mallopt(3), M_MMAP_THRESHOLD). So one block is enough, of which no page is touched. It
    changes nothing where these are set in the environment, or with another C library.
    """
    block = bytes(LARGEST)
    del block
