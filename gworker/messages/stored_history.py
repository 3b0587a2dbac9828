"""What the broker keeps of a group."""

from __future__ import annotations

from typing import cast

from gworker.broker.interface import Reply
from gworker.messages.caller import Called
from gworker.messages.channels import GROUP
from gworker.messages.declarations import Declaration


def read_history(
    broker: Called,
    group: str,
    declared: Declaration,
    since: tuple[str, int],
    limit: int = 0,
    reverse: bool = False,
) -> tuple[str, int, bool, list[tuple[int, bytes]]]:
    """The epoch, the last offset, whether nothing between is missing, and the messages: see the
    operation `history`. Raises BrokerDown, BrokerError."""
    epoch, offset = since
    reply = broker.call(
        "history", GROUP + group.encode(), declared.mode.encode(), epoch.encode(),
        b"%d" % offset, b"%d" % limit, b"%d" % bool(reverse),
    )  # fmt: skip
    found, top, is_complete, entries = cast("tuple[bytes, int, int, list[Reply]]", reply)
    return (
        found.decode("ascii"),
        top,
        bool(is_complete),
        [(entry[0], entry[1]) for entry in cast("list[tuple[int, bytes]]", entries)],
    )
