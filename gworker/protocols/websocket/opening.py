"""What a WebSocket holds until it is open, and an open one does without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from gworker.http.forwarded import RequestOrigin
from gworker.http.request import Request


class Opening:
    """What only the handshake needs: see `HeadProtocol`. request: the one that is not decided."""

    __slots__ = ("_options", "_request", "_scanned", "origin", "raw_head")

    def __init__(self) -> None:
        self._options: Mapping[str, Any] = {}
        self._request: Request | None = None
        self._scanned = 0
        self.origin: RequestOrigin = None
        self.raw_head = b""

    def __getstate__(self) -> Any:
        # What pickle(3) copies: not what each process sets anew.
        state: Any = super().__getstate__()
        return state[0], {**state[1], "_options": {}, "origin": None}


class HasOpening(Protocol):
    opening: Opening | None


def of_opening(name: str, otherwise: object) -> Any:
    """An attribute of the `Opening`. Once there is none, it is `otherwise`, and is not set."""

    def get(machine: HasOpening) -> object:
        opening = machine.opening
        return otherwise if opening is None else getattr(opening, name)

    def put(machine: HasOpening, value: object) -> None:
        if machine.opening is not None:
            setattr(machine.opening, name, value)

    return property(get, put)
