"""Drives a protocol as a connection does, without any I/O, and writes down what happened.

The one claim behind most tests here: what a protocol makes of its input does not depend on how the
input was cut into reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from gworker.errors import ProtocolError
from gworker.http import Request
from gworker.protocols import EOF, MORE, NEED_DATA, PAUSED, Handshake, Protocol
from gworker.protocols.http.streaming import RequestStarted

DATE = re.compile(rb"(?<=\n)Date: [^\r\n]*\r\n")


@dataclass
class Transcript:
    events: list[Any] = field(
        default_factory=list
    )  # messages; requests as tuples; ends with EOF if it came
    output: bytes = b""  # what the protocol owed, answered and replied
    error: str | None = None

    def outcome(self) -> tuple[Any, ...]:
        """What must not depend on the cut, the clock aside. Two faults of one head may be found in
        either order, so neither the words of an error nor of an HTTP error reply count, but its
        status does."""
        output = (
            self.output.partition(b"\r\nContent-Type: text/plain")[0] if self.error else self.output
        )
        return self.events, DATE.sub(b"", output), self.error is None


class Drive:
    """`drive(protocol, pieces)` feeds the pieces; `drive.every_way(make, data, check)` feeds data
    in several cuts."""

    answer: Any = "ok"

    def __call__(
        self, protocol: Protocol, pieces: Iterable[bytes], end: bool = False
    ) -> Transcript:
        transcript = Transcript()
        for piece in [*pieces, b""] if end else pieces:
            if piece or end:
                protocol.receive_data(piece)
            if not self.drain(protocol, transcript):
                break
        return transcript

    def drain(self, protocol: Protocol, transcript: Transcript) -> bool:
        """Take all events; False when it is over."""
        try:
            return self._drain(protocol, transcript)
        except ProtocolError as error:
            transcript.error = str(error)
            transcript.output += protocol.data_to_send() + error.reply
            assert protocol.next_event() is EOF
            return False

    def _drain(self, protocol: Protocol, transcript: Transcript) -> bool:
        while True:
            event = protocol.next_event()
            if protocol.has_output:
                transcript.output += protocol.data_to_send()
                assert not protocol.has_output
            if event is NEED_DATA:
                return True
            if event is MORE:
                continue
            assert event is not PAUSED
            if isinstance(event, RequestStarted):
                event = event.request
            if isinstance(event, Handshake):
                protocol.accept_handshake()
            elif isinstance(event, Request):
                transcript.events.append((event.method, event.target, event.body))
                transcript.output += protocol.encode(self.answer)
            else:
                transcript.events.append(event)
            if event is EOF:
                assert protocol.next_event() is EOF
                transcript.output += protocol.close()
                return False

    def every_way(self, make: Callable[[], Protocol], data: bytes, end: bool = False) -> Transcript:
        """Feed `data` whole, byte by byte, and in threes; the transcripts must agree. Returns
        it."""
        whole = self(make(), [data], end)
        for size in (1, 3):
            cut = self(make(), [data[at : at + size] for at in range(0, len(data), size)], end)
            assert cut.outcome() == whole.outcome(), f"in pieces of {size}"
        return whole

    def cut(
        self, make: Callable[[], Protocol], data: bytes, cuts: Iterable[int], end: bool = False
    ) -> Transcript:
        """Feed `data` cut at the given places."""
        places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        pieces = [data[a:b] for a, b in pairwise(places)]
        return self(make(), [piece for piece in pieces if piece], end)
