"""The states of a connection, and the reasons why it is not read.

    CONNECTING ──► ESTABLISHED ──► AWAITING_CLOSE ──► CLOSING ──► CLOSED
                      │   ▲  └──────────────────────────▲ │           ▲
                      ▼   │                               └───────────┤
                    MIGRATING ────────────────────────────────────────┘

From ESTABLISHED it goes to DETACHED when its user takes the socket, and to CLOSING when that is
closed. From each state a connection may go straight to CLOSED. MIGRATING goes back to ESTABLISHED
if the other process does not take the socket.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """The life of a connection. The values are what `connection.status` shows, but for SHOWN."""

    CONNECTING = "connecting"  # this process dials it
    RECONNECTING = "reconnecting"  # it was closed, and is to be dialled again in a while
    ESTABLISHED = "established"
    MIGRATING = "migrating"  # another process may take the socket, or has not given it yet
    AWAITING_CLOSE = "awaiting"  # our goodbye is sent, or waits to be; the peer's is still to come
    CLOSING = "closing"  # what waits is sent, then the socket is closed
    CLOSED = "closed"
    DETACHED = "detached"  # the user has its socket

    @property
    def status(self) -> str:
        """What users see."""
        return SHOWN.get(self, str(self.value))


CONNECTING, RECONNECTING, ESTABLISHED, MIGRATING, AWAITING_CLOSE, CLOSING, CLOSED, DETACHED = State

SHOWN = {RECONNECTING: "connecting", AWAITING_CLOSE: "closing"}


class PauseReason:
    """Why reading is paused: bits of `Transport.pause_reasons`."""

    BACKPRESSURE: Final = 1  # enough waits for the handler
    USER: Final = 2  # pause_recv()
    WRITE_BLOCKED: Final = 4  # the peer does not take what is due to it
    HANDOVER: Final = 8  # the successor reads on
    DETACHED: Final = 16  # another process may have the socket
    CLOSED: Final = 32
    GONE: Final = DETACHED | CLOSED
    ALL: Final = BACKPRESSURE | USER | WRITE_BLOCKED | HANDOVER

    # The others end by themselves, or by what the peer does.
    ON_PURPOSE: Final = USER | HANDOVER
