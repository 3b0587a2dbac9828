"""The calls that ask what groups and users have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from gworker.broker.deadline import Deadline
from gworker.messages.caller import Caller, CallingProcess
from gworker.messages.channels import GROUP, USER
from gworker.messages.frame import checked_name, decoded, parsed_position, position_text, user_name
from gworker.messages.stored_history import read_pages


class Member(NamedTuple):
    """uid: the user to whom it is bound; None: to none. presence: what it shows of itself."""

    client_id: str
    uid: str | None
    presence: Any


class Queries(Caller):
    """Those of one process."""

    def members(self, group: str, limit: int | None = None) -> list[Member]:
        """The members of a group, or `limit` of them. ValueError unless it is declared with
        presence=True.

        It walks all of them, which takes long in a large group.
        """
        process = self._process()
        most = 0 if limit is None else _at_least_one(limit, "limit")
        with Deadline():
            reply = process.broker.call("members", _present(process, group), b"%d" % most)
        return [member_of(each) for each in cast("list[list[bytes]]", reply)]

    def count(self, group: str) -> int:
        """How many connections are in a group. ValueError unless it is declared with
        presence=True."""
        process = self._process()
        with Deadline():
            return cast(int, process.broker.call("count", _present(process, group)))

    def is_online(self, uid: str | int) -> bool:
        """True if a connection is bound to this user."""
        channel = USER + user_name(uid).encode()
        return cast(int, self._process().broker.call("count", channel)) > 0

    def connections(self, uid: str | int) -> list[str]:
        """The client ids of the connections that are bound to a user."""
        reply = self._process().broker.call("members", USER + user_name(uid).encode(), b"0")
        return [member_of(each).client_id for each in cast("list[list[bytes]]", reply)]

    def history(
        self,
        group: str,
        *,
        since: str | None = None,
        limit: int | None = 100,
        reverse: bool = False,
    ) -> list[tuple[str, Any]]:
        """The messages that a group keeps, with their positions, the oldest first.

        since: those after this position; with `reverse` those before it, the newest first. Of a
        position that is malformed, or of another group, there are none. limit: at most so many;
        None: all.
        """
        process = self._process()
        checked_name(group, "a group")
        most = 0 if limit is None else _at_least_one(limit, "limit")
        at = ("", 0) if since is None else parsed_position(since)
        if at is None:
            return []
        with Deadline():
            declared = process.declarations.of(group)
            return [
                (position_text(page.epoch, offset), decoded(body).message)
                for page in read_pages(process.broker, group, declared, at, most, reverse)
                for offset, body in page.entries
            ]

    def position(self, group: str) -> str:
        """Where a group is now; "" for one that keeps nothing."""
        process = self._process()
        checked_name(group, "a group")
        with Deadline():
            if not process.declarations.of(group).keeps:
                return ""
            reply = process.broker.call("position", GROUP + group.encode())
        epoch, offset = cast("tuple[bytes, int]", reply)
        return position_text(epoch.decode("ascii"), offset)


def member_of(given: Sequence[bytes]) -> Member:
    """The member with this name, identity and info, as a broker has them."""
    member, identity, info = given
    is_bound = identity != member
    return Member(
        member.decode(), identity.decode() if is_bound else None, json.loads(info) if info else None
    )


def _present(process: CallingProcess, group: str) -> bytes:
    if not process.declarations.of(checked_name(group, "a group")).presence:
        raise ValueError(
            f"the members of the group {group!r} are not known: declare it with presence=True"
        )
    return GROUP + group.encode()


def _at_least_one(number: int, what: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"{what}={number!r}: expected a whole number from 1")
    return number
