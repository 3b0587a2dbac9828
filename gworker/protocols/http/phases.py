"""Where an HTTP connection stands, and the table of what brings it from one phase to the next.

READING ── head complete ──► BODY ── body complete ──► ANSWERING ── final response ──► READING
   │            └─── no body, or one that is streamed ─────▲  │ └── body unread ► DRAINING ─▲
   └── EOF, error, close() ──► OVER ◄── last response ────────┘
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Phase(Enum):
    READING = "reading"
    BODY = "body"
    ANSWERING = "answering"
    DRAINING = "draining"
    OVER = "over"


class Step(Enum):
    BODY_BEGUN = "the head is complete, the body is to be read"
    HANDED_OUT = "the driver has got the request"
    ANSWERED = "all of the answer is encoded, all of the request is read"
    ANSWERED_EARLY = "all of the answer is encoded, the rest of the body is to be dropped"
    DRAINED = "the rest of the body is dropped"
    ENDED = "no further exchange"


TRANSITIONS: Final[dict[Step, dict[Phase, Phase]]] = {
    Step.BODY_BEGUN: {Phase.READING: Phase.BODY},
    Step.HANDED_OUT: {Phase.READING: Phase.ANSWERING, Phase.BODY: Phase.ANSWERING},
    Step.ANSWERED: {Phase.ANSWERING: Phase.READING},
    Step.ANSWERED_EARLY: {Phase.ANSWERING: Phase.DRAINING},
    Step.DRAINED: {Phase.DRAINING: Phase.READING},
    Step.ENDED: dict.fromkeys(Phase, Phase.OVER),
}
