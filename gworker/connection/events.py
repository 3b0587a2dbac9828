"""What waits for its turn in a connection besides messages."""

from __future__ import annotations

from dataclasses import dataclass

from gworker.errors import ProtocolError
from gworker.protocols.base import Control


class CallCallback(Control):
    """Call one of the user's callbacks."""

    __slots__ = ("arguments",)

    def __init__(self, name: str, *arguments: object) -> None:
        super().__init__(name)
        self.arguments = arguments


@dataclass(slots=True, eq=False, repr=False)
class ProtocolViolation(Control):
    """The peer broke the protocol: send it the error's reply and close."""

    name = "PROTOCOL_VIOLATION"
    error: ProtocolError


@dataclass(slots=True, eq=False, repr=False)
class ConnectionReset(Control):
    """The connection was reset: nothing more can be sent. reason: what its protocol has raised."""

    name = "CONNECTION_RESET"
    reason: str = ""


CONNECTION_RESET = ConnectionReset()


@dataclass(slots=True, eq=False, repr=False)
class CallbackFailed(Control):
    """A callback has raised before the connection was open."""

    name = "CALLBACK_FAILED"
    reason: str


CONTINUE_PARSING = Control("CONTINUE_PARSING")
"""It makes the job run, which asks the protocol for what it has kept back: an answer was sent, the
send buffer has room again, another protocol was put in place, or inflating goes on."""


def describe(error: BaseException | None) -> str:
    """`error` in a line, for a reason."""
    return f"{type(error).__name__}: {error}"
