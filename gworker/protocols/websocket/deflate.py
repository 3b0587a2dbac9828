"""permessage-deflate (RFC 7692 section 7.2): compressing and inflating what was agreed on.

Connections whose ends both forget their context after each message share one `Deflate`. Where
contexts are kept, each connection has its own.

Nothing is inflated beyond the limit of a message, so that a bomb costs what the limit allows. A
message that comes in pieces is inflated when all of it is here: until then only what was sent is
held, and that can move to another process.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any, NamedTuple

from gworker.protocols.websocket.frames import INVALID_DATA, TOO_BIG, Violation

# What the sender leaves out at the end of a message (section 7.2.1).
TAIL = b"\x00\x00\xff\xff"

# Bytes up to which appending the tail is cheaper than inflating it separately.
_SMALL = 4096

# Final blocks (section 7.2.3.4) in one message: each makes a new inflater, and a sender needs one
# at most.
_MAX_FINALS = 16


class Agreement(NamedTuple):
    """What both ends have agreed on, and how we make use of it."""

    level: int
    # Bytes below which a message is sent as it is.
    threshold: int
    # log2 of our window's bytes.
    bits: int
    # Each of our messages stands alone.
    forgets: bool
    peer_bits: int
    peer_forgets: bool

    @property
    def forgets_all(self) -> bool:
        return self.forgets and self.peer_forgets


class Deflate:
    __slots__ = ("_compressor", "_inflater", "agreement", "threshold")

    def __init__(self, agreement: Agreement) -> None:
        self.agreement = agreement
        self.threshold = agreement.threshold
        self._compressor: Any = None
        self._inflater: Any = None  # where the peer keeps its context: the one of all messages

    @staticmethod
    def by(agreement: Agreement) -> Deflate:
        # The one that all connections of this agreement share; a new one if it has a context.
        return _shared(agreement) if agreement.forgets_all else Deflate(agreement)

    def __reduce__(self) -> tuple[object, ...]:
        # How one that keeps no context moves to another process; the others do not move.
        return Deflate.by, (self.agreement,)

    def compress(self, payload: bytes | bytearray) -> bytes:
        # Return the payload of a compressed message. `payload` is not empty.
        compressor = self._compressor
        if compressor is None:
            # zlib has no raw stream with a window of 256 bytes; one that repeats the last byte only
            # fits into any.
            level, bits = self.agreement.level, self.agreement.bits
            strategy = zlib.Z_RLE if bits == 8 else zlib.Z_DEFAULT_STRATEGY
            compressor = zlib.compressobj(level, wbits=-max(bits, 9), strategy=strategy)
            self._compressor = compressor
        # A full flush makes the compressor refer to nothing before it: that is what forgetting
        # means, and costs a tenth of a new compressor.
        how = zlib.Z_FULL_FLUSH if self.agreement.forgets else zlib.Z_SYNC_FLUSH
        data: bytes = compressor.compress(payload) + compressor.flush(how)
        return data[:-4]

    def inflate(self, payload: bytes | bytearray, limit: int) -> bytes:
        """Return the message of a payload that is all here. Violation if it is longer than `limit`,
        or no message."""
        inflater = self._inflater or zlib.decompressobj(-self.agreement.peer_bits)
        pieces = (payload + TAIL,) if len(payload) <= _SMALL else (payload, TAIL)
        data, finals = b"", 0
        for piece in pieces:
            try:
                data += inflater.decompress(piece, limit + 1 - len(data))
                while inflater.eof:  # the sender has ended its stream, and begins another
                    finals += 1
                    if finals > _MAX_FINALS:
                        raise Violation(INVALID_DATA, f"more than {_MAX_FINALS} final blocks")
                    rest = inflater.unused_data
                    inflater = zlib.decompressobj(-self.agreement.peer_bits)
                    data += inflater.decompress(rest, limit + 1 - min(len(data), limit))
            except zlib.error as error:
                text = f"a compressed message cannot be inflated: {error}"
                raise Violation(INVALID_DATA, text) from None
            if len(data) > limit:
                raise Violation(TOO_BIG, "inflated message longer than allowed")
        if not self.agreement.peer_forgets:
            self._inflater = inflater
        return data


_shared = lru_cache(maxsize=64)(Deflate)
