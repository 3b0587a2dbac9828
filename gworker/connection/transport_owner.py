"""What a transport tells its owner, and why it does not read."""

from __future__ import annotations

from typing import Final, Protocol

from gworker.core.poller import Job


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

    ON_PURPOSE: Final = USER | HANDOVER
    """The others end by themselves, or by what the peer does."""


class TransportOwner(Protocol):
    """What a transport calls. A call may close the transport."""

    def data_received(self, data: bytes) -> Job | None:
        """`data` was read; b"" says that the peer has finished sending. Returns the job that is to
        begin."""

    def reset_received(self) -> None:
        """The peer has reset the connection: no data follows."""

    def write_failed(self) -> None:
        """`write` found the peer gone: close."""

    def connection_lost(self) -> None:
        """The event loop found the peer gone, or something went wrong there: close."""

    def write_progress(self) -> None:
        """The peer has taken a part of what waits for it."""

    def buffer_full(self) -> None:
        """What waits has reached `max_send_buffer_size`."""

    def buffer_drained(self, was_full: bool) -> None:
        """Nothing waits any more. was_full: `buffer_full` was called before."""
