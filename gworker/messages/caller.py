"""What the calls need of the process that makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gworker.broker.interface import Answer, Reply
from gworker.messages.declarations import Declaration
from gworker.messages.frame import is_connection, parsed_client_id


class Called(Protocol):
    """What calls need of a broker."""

    def call(self, operation: str, channel: bytes, *arguments: bytes) -> Reply:
        """See `broker.interface.Broker`."""

    def submit(self, operation: str, channel: bytes, *arguments: bytes) -> Answer:
        """See `broker.interface.Broker`."""


class Declared(Protocol):
    """What holds for groups."""

    def of(self, group: str) -> Declaration: ...


class CallingProcess(Protocol):
    """published: so many messages of groups."""

    published: int

    @property
    def broker(self) -> Called: ...
    @property
    def declarations(self) -> Declared: ...
    def client_id_of(self, connection: Any) -> str:
        """Raises TypeError for what is no connection of this process."""

    def is_gone(self, client_id: str) -> bool:
        """True if it is known here that no connection has it."""


class Caller:
    """process: the one that makes the calls; looked for at each call."""

    def __init__(self, process: Callable[[], CallingProcess]) -> None:
        self._process = process


def client_id_of(process: CallingProcess, given: Any) -> str:
    """The client id of a connection, or the one given. Raises TypeError for what is neither."""
    if isinstance(given, str):
        return given
    if not is_connection(given):
        raise TypeError(f"expected a connection or a client id, not {type(given).__name__}")
    return process.client_id_of(given)


def inbox_and_number(given: object) -> tuple[str, str]:
    """Those of a client id; ("", "") of what is none. Raises TypeError."""
    if not isinstance(given, str):
        raise TypeError(f"a client id is a str, not {type(given).__name__}")
    return parsed_client_id(given) or ("", "")
