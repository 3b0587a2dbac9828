"""The states of a connection.

    CONNECTING ──► ESTABLISHED ──► AWAITING_CLOSE ──► CLOSING ──► CLOSED
                      │   ▲  └──────────────────────────▲ │           ▲
                      ▼   │                               └───────────┤
                    MIGRATING ────────────────────────────────────────┘

From each state a connection may go straight to CLOSED. MIGRATING goes back to ESTABLISHED if the
other process does not take the socket.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """The life of a connection. The values are what `connection.status` shows."""

    CONNECTING = "connecting"
    RECONNECTING = "reconnecting"
    ESTABLISHED = "established"
    MIGRATING = "migrating"
    AWAITING_CLOSE = "awaiting"
    CLOSING = "closing"
    CLOSED = "closed"

    @property
    def status(self) -> str:
        """What users see."""
        return SHOWN.get(self, str(self.value))


CONNECTING = State.CONNECTING
"""This process dials it."""

ESTABLISHED = State.ESTABLISHED

MIGRATING = State.MIGRATING
"""Another process may take the socket, or has not given it yet."""

AWAITING_CLOSE = State.AWAITING_CLOSE
"""Our goodbye is sent, or waits to be; the peer's is still to come."""

RECONNECTING = State.RECONNECTING
"""It was closed, and is to be dialled again in a while."""

CLOSING = State.CLOSING
"""What waits is sent, then the socket is closed."""

CLOSED = State.CLOSED

SHOWN = {RECONNECTING: "connecting", AWAITING_CLOSE: "closing"}
