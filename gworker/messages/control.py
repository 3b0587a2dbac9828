"""Orders to the processes that hear of a channel, and how a process does what they say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from gworker.messages.channels import Channel
from gworker.messages.delivery import SLICE_SECONDS
from gworker.messages.frame import parsed_json
from gworker.messages.host import Host
from gworker.protocols.websocket.frames import close_payload

Order = Mapping[str, Any]

# The close code for a connection whose user is at another one now.
ELSEWHERE: Final = 4001

DISBAND: Final[Order] = {"do": "disband"}


def close_order(code: int, reason: str) -> Order:
    """Raises ValueError for what a WebSocket may not say (RFC 6455, 7.4): its members may be
    some. Raises TypeError for a code that is no int, and a reason that is no str."""
    if not isinstance(code, int):
        raise TypeError(f"a close code is an int, not {type(code).__name__}")
    if not isinstance(reason, str):
        raise TypeError(f"the reason of a close is a str, not {type(reason).__name__}")
    close_payload(code, reason)
    return {"do": "close", "code": code, "reason": reason}


def join_order(group: str) -> Order:
    return {"do": "join", "group": group}


def leave_order(group: str) -> Order:
    return {"do": "leave", "group": group}


def single_order(client_id: str) -> Order:
    """The user of the channel is at this connection alone."""
    return {"do": "single", "keep": client_id}


def presence_order(joined: Sequence[Any], left: Sequence[Any]) -> Order:
    """Members, each a client id, a user or None, and what it shows. Those that left did so before
    the others joined."""
    return {"do": "presence", "joined": joined, "left": left}


def marker_order(text: str) -> Order:
    """A place among the messages of a channel (`positions`)."""
    return {"do": "marker", "marker": text}


class Obeying(Protocol):
    """What a process does with its connections."""

    def known_client_id(self, connection: Any) -> str | None:
        """None: nothing has asked for it. Waits for nothing."""

    def join_soon(self, connection: Any, group: str) -> None: ...
    def leave_group(self, connection: Any, group: str) -> None: ...
    def members_changed(
        self, channel: Channel, joined: Sequence[Any], left: Sequence[Any]
    ) -> None: ...
    def marked(self, channel: Channel, marker: str) -> None: ...
    def each(self, connections: Iterable[Any], do: Callable[[Any], object]) -> None:
        """Call `do` with each, in slices. What it raises costs no other."""


def obey(process: Obeying, channel: Channel, targets: list[Any], data: bytes) -> None:
    """Do with `targets` what came on a channel. An order of a later version is left alone.

    Raises ValueError for what is no order.
    """
    order = parsed_json(data)
    match order:
        case {"do": "close", "code": int(code), "reason": str(reason)}:
            process.each(targets, lambda one: one.close(code=code, reason=reason))
        case {"do": "join", "group": str(group)}:
            process.each(targets, lambda one: process.join_soon(one, group))
        case {"do": "leave", "group": str(group)}:
            process.each(targets, lambda one: process.leave_group(one, group))
        case {"do": "disband"}:
            process.each(targets, lambda one: process.leave_group(one, channel.text))
        case {"do": "single", "keep": str(kept)}:
            close_others(process, targets, kept)
        case {"do": "presence", "joined": list(joined), "left": list(left)}:
            process.members_changed(channel, joined, left)
        case {"do": "marker", "marker": str(text)}:
            process.marked(channel, text)
        case {"do": str()}:
            pass
        case _:
            raise ValueError("it is no order")


def for_each(host: Host, connections: Iterable[Any], do: Callable[[Any], object]) -> None:
    """Call `do` with each, in slices. What it raises costs no other."""
    until = time.monotonic() + SLICE_SECONDS
    for one in connections:
        try:
            do(one)
        except Exception:
            host.report("%r: an order could not be obeyed", one)
        if time.monotonic() >= until:
            host.pause()
            until = time.monotonic() + SLICE_SECONDS


def close_others(process: Obeying, bound: Iterable[Any], kept: str) -> None:
    """Close those that were bound before `kept`. One whose own order is still to come was bound
    after it."""
    others = []
    for connection in bound:
        membership = connection.membership
        if membership is None:
            continue
        if process.known_client_id(connection) == kept:
            membership.is_single = False
        elif not membership.is_single:
            others.append(connection)
    process.each(others, lambda one: one.close(code=ELSEWHERE))
