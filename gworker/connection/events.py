"""What waits in the inbox of a connection besides messages, so that it has its turn too."""

from __future__ import annotations

from typing import Any

from gworker.errors import ProtocolError
from gworker.protocols.base import Control


class Invoke(Control):
    """Call one of the user's callbacks in its turn."""

    __slots__ = ("arguments",)

    def __init__(self, name: str, *arguments: Any) -> None:
        super().__init__(name)
        self.arguments = arguments


class Refuse(Control):
    """The peer broke the protocol: give it the error's reply and close."""

    __slots__ = ("error",)

    def __init__(self, error: ProtocolError) -> None:
        super().__init__("REFUSE")
        self.error = error


LOST = Control("LOST")
"""The connection was reset: nothing more can be sent."""

RESUME = Control("RESUME")
"""Nothing by itself, it makes the job run: the protocol is asked for what it kept back, once that
may go on.

An answer was sent, the send buffer has room again, another protocol was put in place, or inflating
goes on.
"""
