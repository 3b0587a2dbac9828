"""Frames to the connections of one process: the hot loop of a room.

A message is encoded once for all connections that encode it alike. A large room is served in slices
of the event loop's time; the greenlet that reads from the broker waits between them, so nothing
overtakes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Hashable, Sequence
from typing import Any, Final

from gworker.core import send_to_all

log = logging.getLogger("gworker")

# Seconds of work after which others have their turn.
SLICE_SECONDS: Final = 0.005

# Connections between two looks at the clock.
CHUNK: Final = 64

# The close code for one that does not take what it is sent (IANA: Try Again Later).
TRY_AGAIN_LATER: Final = 1013

_CANNOT_CARRY: Final = b""


class Delivery:
    """delivered, dropped: connections that a message was given to, and was not.

    pause: lets others have their turn. report: counts and logs the exception that is being handled.
    """

    def __init__(self, pause: Callable[[], object], report: Callable[..., None]) -> None:
        self.delivered = self.dropped = 0
        self._pause = pause
        self._report = report
        self._worked = 0.0  # seconds since the last pause
        self._cannot_carry: set[str] = set()  # names of protocols of which that was logged

    def deliver(
        self,
        content: str | bytes,
        members: Sequence[Any],
        slow: str,
        still: Container[Any] | None = None,
        encoded: dict[Hashable, bytes] | None = None,
    ) -> None:
        """Send to `members`. slow: what happens to one that is full. still: those that leave it
        while others have their turn get nothing. encoded: what the content is in each encoding, of
        one that is sent more than once."""
        begun = time.monotonic()
        worked = self._worked
        encoded = {} if encoded is None else encoded
        size = len(members)
        start = 0
        while True:
            part = members if size <= CHUNK else members[start : start + CHUNK]
            if start and still is not None:
                part = [each for each in part if each in still]
            self._send(content, part, slow, encoded)
            start += CHUNK
            now = time.monotonic()
            self._worked = worked + now - begun
            if self._worked >= SLICE_SECONDS:
                self._pause()
                self._worked = worked = 0.0
                begun = time.monotonic()
            if start >= size:
                return

    def send(self, content: str | bytes, members: Sequence[Any], slow: str) -> None:
        """Send to a few, in one go."""
        self._send(content, members, slow, {})

    def close_slow(self, connection: Any) -> None:
        """It takes too little of what it is sent: it may come back, and recover."""
        self.dropped += 1
        connection.close(code=TRY_AGAIN_LATER)

    def _send(
        self, content: str | bytes, members: Sequence[Any], slow: str, encoded: dict[Any, bytes]
    ) -> None:
        # What is simple is framed for each anew, which costs less than to ask how it is encoded.
        taken, others = send_to_all(members, content)
        refused = len(members) - taken - len(others)
        rest = iter(others)
        while True:
            try:
                for connection in rest:
                    if not connection.accepts_unsolicited and not connection.is_opening:
                        continue  # it ends
                    if connection.is_full:
                        refused += 1
                        if slow == "close":
                            connection.close(code=TRY_AGAIN_LATER)
                        continue
                    kind = connection.encoding
                    if kind is None:
                        took = self._send_alone(connection, content)
                    else:
                        payload = encoded.get(kind)
                        if payload is None:
                            payload = encoded[kind] = self._encoded(connection, content)
                        took = payload is not _CANNOT_CARRY and connection.send(payload, raw=True)
                    if took:
                        taken += 1
                    else:
                        refused += 1
                break
            except BaseException:  # of a user's protocol: it would end the reader of the broker
                refused += 1
                self._report("a message of a group could not be sent")
        self.delivered += taken
        self.dropped += refused

    def _send_alone(self, connection: Any, content: str | bytes) -> bool:
        # Its protocol encodes for itself.
        try:
            return bool(connection.send(content))
        except (TypeError, ValueError) as error:
            self._note(connection, error)
            return False

    def _encoded(self, connection: Any, content: str | bytes) -> bytes:
        try:
            return bytes(connection.encode(content))
        except (TypeError, ValueError) as error:
            self._note(connection, error)
            return _CANNOT_CARRY

    def _note(self, connection: Any, error: Exception) -> None:
        protocol = connection.protocol
        if protocol not in self._cannot_carry:
            self._cannot_carry.add(protocol)
            log.warning(
                "%r cannot carry a message that was published, and does not get it: %s",
                connection,
                error,
            )
