"""Unmasking payloads (RFC 6455 section 5.3), by the C function of `websockets` where it works.

`websockets.speedups` is not a documented module, so its absence or a change of its meaning must not
be more than a loss of speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
ApplyMask: TypeAlias = Callable[[Buffer, bytes | bytearray], bytes]


def xor_mask(data: Buffer, mask: bytes | bytearray) -> bytes:
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data) ^ int.from_bytes(key)).to_bytes(size)


def _is_right(function: ApplyMask) -> bool:
    sample = bytes(range(23))
    return all(
        function(sample[:n], b"\x01\xf0\x33\xfe") == xor_mask(sample[:n], b"\x01\xf0\x33\xfe")
        for n in (0, 23)
    )


def _choose() -> ApplyMask:
    try:
        from websockets.speedups import apply_mask
    except ImportError:
        return xor_mask
    return apply_mask if _is_right(apply_mask) else xor_mask


apply_mask: ApplyMask = _choose()
