"""Prints how many pages the kernel has to give for 160 MB that are used and freed, 8 MB at a time.

`keep`: after `heap.keep_freed_memory()`.
"""

from __future__ import annotations

import resource
import sys

from gworker.system import heap


def use() -> None:
    assert [bytearray(1_000_000) for _ in range(8)]


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


if "keep" in sys.argv:
    heap.keep_freed_memory()
use()
before = faults()
for _ in range(20):
    use()
print(faults() - before)
