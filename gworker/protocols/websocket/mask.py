"""Masking payloads (RFC 6455 section 5.3): the function of `websockets`, the one in C if it can be
loaded."""

from __future__ import annotations

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

__all__ = ["apply_mask"]
