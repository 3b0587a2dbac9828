"""What waits for its turn in a connection besides messages."""

from __future__ import annotations

from gworker.errors import ProtocolError
from gworker.protocols.base import Control


class CallCallback(Control):
    """Call one of the user's callbacks."""

    __slots__ = ("arguments",)

    def __init__(self, name: str, *arguments: object) -> None:
        super().__init__(name)
        self.arguments = arguments


class ProtocolViolation(Control):
    """The peer broke the protocol: send it the error's reply and close."""

    __slots__ = ("error",)

    def __init__(self, error: ProtocolError) -> None:
        super().__init__("PROTOCOL_VIOLATION")
        self.error = error


class ConnectionReset(Control):
    """The connection was reset: nothing more can be sent. reason: what its protocol has raised."""

    __slots__ = ("reason",)

    def __init__(self, reason: str = "") -> None:
        super().__init__("CONNECTION_RESET")
        self.reason = reason


CONNECTION_RESET = ConnectionReset()


class CallbackFailed(Control):
    """A callback has raised before the connection was open."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        super().__init__("CALLBACK_FAILED")
        self.reason = reason


CONTINUE_PARSING = Control("CONTINUE_PARSING")
"""It makes the job run, which asks the protocol for what it has kept back: an answer was sent, the
send buffer has room again, another protocol was put in place, or inflating goes on."""


def describe(error: BaseException | None) -> str:
    """`error` in a line, for a reason."""
    return f"{type(error).__name__}: {error}"
