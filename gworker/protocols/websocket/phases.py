"""Where a WebSocket stands, and the table of what brings it from one phase to the next.

    HANDSHAKE ──► DECIDING ──► OPEN ── close() ──► CLOSING
        │            │           │ Close frame,       │ Close frame,
        │            │           ▼ EOF, error         ▼ EOF, error
        └────────────┴──► OVER ◄── close() ── ENDED  OVER

A server decides about a request in DECIDING; a client has no such phase. In CLOSING our Close frame
was sent: data from the peer is dropped, its Close frame is awaited. In ENDED the peer is done but
we are not: the answers to its last messages may still be encoded, then `close()` returns the echo
of its Close frame, so that nothing ever follows that.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Phase(Enum):
    HANDSHAKE = "handshake"
    DECIDING = "deciding"
    OPEN = "open"
    CLOSING = "closing"
    ENDED = "ended"
    OVER = "over"


class Step(Enum):
    ASKED = "the request that opens it is read"
    AGREED = "the handshake is over"
    CLOSED = "our Close frame, or what stands for it, is sent"
    DEAF = "nothing is read any more"


TRANSITIONS: Final[dict[Step, dict[Phase, Phase]]] = {
    Step.ASKED: {Phase.HANDSHAKE: Phase.DECIDING},
    Step.AGREED: {Phase.HANDSHAKE: Phase.OPEN, Phase.DECIDING: Phase.OPEN},
    Step.CLOSED: {Phase.OPEN: Phase.CLOSING, Phase.ENDED: Phase.OVER},
    Step.DEAF: {**dict.fromkeys(Phase, Phase.OVER), Phase.OPEN: Phase.ENDED},
}
