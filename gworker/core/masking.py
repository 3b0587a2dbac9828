"""The mask of WebSocket payloads (RFC 6455 section 5.3)."""

from __future__ import annotations

__all__ = ["apply_mask", "xor_mask"]

Sendable = bytes | bytearray | memoryview


def xor_mask(data: Sendable, mask: bytes | bytearray) -> bytes:
    """Mask or unmask a payload (RFC 6455 section 5.3)."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data) ^ int.from_bytes(key)).to_bytes(size)


try:
    from websockets.speedups import apply_mask
except ImportError:  # no wheel for this machine, or a module of the user has the same name
    apply_mask = xor_mask
