"""The calls that need a broker and nothing of the process that makes them.

The public functions of `gworker.messages` describe them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

from gworker.broker.interface import Reply
from gworker.messages import control, frame
from gworker.messages.channels import EVERYONE, GROUP, INBOX, USER
from gworker.messages.declarations import Declaration


@dataclass(frozen=True, slots=True)
class Published:
    """position: of the message; "" in a group that keeps none. receivers: processes that it went
    to. duplicate: a message with this idempotency key was published before; the position is that
    of the first one."""

    position: str = ""
    receivers: int = 0
    duplicate: bool = False


class Member(NamedTuple):
    """uid: the user to whom it is bound; None: to nobody. presence: what it shows of itself."""

    client_id: str
    uid: str | None
    presence: Any


class Called(Protocol):
    """What calls need of a broker."""

    def call(self, operation: str, channel: bytes, *arguments: bytes) -> Reply:
        """See `broker.interface.Broker`."""


class Declared(Protocol):
    """What holds for groups."""

    def of(self, group: str) -> Declaration: ...


class Calls:
    """published: so many messages of groups."""

    def __init__(self, broker: Called, declarations: Declared) -> None:
        self.broker = broker
        self.declarations = declarations
        self.published = 0

    def client_id_of(self, connection: Any) -> str:
        raise TypeError(f"expected a client id, not {connection!r}")

    def is_gone(self, client_id: str) -> bool:
        """True if it is known here that no connection has it."""
        return False

    # ---- to groups

    def publish(
        self,
        group: str,
        message: Any,
        *,
        exclude: Any = (),
        exclude_users: Any = (),
        key: str | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """See `messages.publish`."""
        header = self._header(exclude, exclude_users)
        kind, data = frame.serialized(message)
        return self._publish(group, kind, data, header, key, idempotency_key)

    def publish_many(
        self,
        groups: Iterable[str],
        message: Any,
        *,
        exclude: Any = (),
        exclude_users: Any = (),
        key: str | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Published]:
        """See `messages.publish_many`."""
        names = [groups] if isinstance(groups, str) else list(dict.fromkeys(groups))
        for each in names:
            frame.name(each, "a group")
        header = self._header(exclude, exclude_users)
        header[frame.CALL] = secrets.token_urlsafe(9)
        kind, data = frame.serialized(message)
        return {
            group: self._publish(group, kind, data, header, key, idempotency_key) for group in names
        }

    def _header(self, exclude: Any, exclude_users: Any) -> dict[str, Any]:
        header: dict[str, Any] = {}
        if exclude != () and (ids := [self._client_id(each) for each in frame.several(exclude)]):
            header[frame.EXCLUDED] = ids
        if exclude_users != () and (
            users := [frame.user(each) for each in frame.several(exclude_users)]
        ):
            header[frame.EXCLUDED_USERS] = users
        return header

    def _client_id(self, given: Any) -> str:
        if isinstance(given, str):
            return given
        if not frame.is_connection(given):
            raise TypeError(f"expected a connection or a client id, not {type(given).__name__}")
        return self.client_id_of(given)

    def _publish(
        self,
        group: str,
        kind: int,
        data: bytes,
        header: Mapping[str, Any],
        key: str | None,
        idempotency_key: str | None,
    ) -> Published:
        channel = GROUP + frame.name(group, "a group").encode()
        declared = self.declarations.of(group)
        for what, given in (("key", key), ("idempotency_key", idempotency_key)):
            if given is not None and not isinstance(given, str):
                raise TypeError(f"{what} is a str, not {type(given).__name__}")
        if key is not None:
            if declared.mode != "latest":
                raise ValueError(f"key= is for groups of mode latest, and {group!r} is none")
            header = {**header, frame.KEY: key}
        body = frame.body(kind, data, header)
        if not declared.keeps and idempotency_key is None:
            receivers = cast(int, self.broker.call("publish", channel, body))
            self.published += 1
            return Published("", receivers)
        reply = self.broker.call(
            "keep", channel, declared.mode.encode(), b"%d" % declared.history, declared.ttl_ms,
            (idempotency_key or "").encode(), (key or "").encode(), body,
        )  # fmt: skip
        receivers, epoch, offset, is_duplicate = cast("tuple[int, bytes, int, int]", reply)
        self.published += not is_duplicate
        position = frame.position(epoch.decode("ascii"), offset)
        return Published(position, receivers, bool(is_duplicate))

    # ---- to connections and users

    def broadcast(self, message: Any, *, worker: str | None = None, exclude: Any = ()) -> int:
        """See `messages.broadcast`."""
        channel = EVERYONE + ("" if worker is None else frame.name(worker, "a Worker")).encode()
        return self._pass_on(channel, message, self._header(exclude, ()))

    def send(self, client_id: str, message: Any) -> bool:
        """See `messages.send`."""
        inbox, connection = _parts(client_id)
        kind, data = frame.serialized(message)
        body = frame.body(kind, data, {frame.TARGET: connection})
        if not inbox or self.is_gone(client_id):
            return False
        return self.broker.call("publish", INBOX + inbox.encode(), body) != 0

    def send_to_user(self, uid: str | int, message: Any) -> int:
        """See `messages.send_to_user`."""
        return self._pass_on(USER + frame.user(uid).encode(), message, {})

    def _pass_on(self, channel: bytes, message: Any, header: Mapping[str, Any]) -> int:
        body = frame.body(*frame.serialized(message), header)
        return cast(int, self.broker.call("publish", channel, body))

    # ---- orders

    def close(
        self,
        *,
        connection: str | None = None,
        user: str | int | None = None,
        group: str | None = None,
        code: int = 1000,
        reason: str = "",
    ) -> None:
        """See `messages.close`."""
        order = control.close(code, reason)
        if group is not None and connection is None and user is None:
            self._order(GROUP + frame.name(group, "a group").encode(), order)
        elif group is None:
            self._order_to(connection, user, order, "connection, user and group")
        else:
            raise TypeError("exactly one of connection, user and group has to be given")

    def join(
        self, group: str, *, connection: str | None = None, user: str | int | None = None
    ) -> None:
        """See `messages.join`."""
        order = control.join(frame.name(group, "a group"))
        self._order_to(connection, user, order, "connection and user")

    def leave(
        self, group: str, *, connection: str | None = None, user: str | int | None = None
    ) -> None:
        """See `messages.leave`."""
        order = control.leave(frame.name(group, "a group"))
        self._order_to(connection, user, order, "connection and user")

    def disband(self, group: str) -> None:
        """See `messages.disband`."""
        self._order(GROUP + frame.name(group, "a group").encode(), control.DISBAND)

    def _order_to(
        self,
        connection: str | None,
        user: str | int | None,
        order: control.Order,
        choice: str,
    ) -> None:
        if (connection is None) == (user is None):
            raise TypeError(f"exactly one of {choice} has to be given")
        if user is not None:
            self._order(USER + frame.user(user).encode(), order)
            return
        inbox, number = _parts(self._client_id(connection))
        if inbox:
            self._order(INBOX + inbox.encode(), order, {frame.TARGET: number})

    def _order(
        self, channel: bytes, order: control.Order, header: Mapping[str, Any] | None = None
    ) -> None:
        self.broker.call("publish", channel, frame.control(order, header))

    # ---- questions

    def members(self, group: str, limit: int | None = None) -> list[Member]:
        """See `messages.members`."""
        channel = self._present(group)
        most = 0 if limit is None else _at_least_one(limit, "limit")
        return [
            member_of(each)
            for each in cast(
                "list[list[bytes]]", self.broker.call("members", channel, b"%d" % most)
            )
        ]

    def count(self, group: str) -> int:
        """See `messages.count`."""
        return cast(int, self.broker.call("count", self._present(group)))

    def is_online(self, uid: str | int) -> bool:
        """See `messages.is_online`."""
        return cast(int, self.broker.call("count", USER + frame.user(uid).encode())) > 0

    def connections(self, uid: str | int) -> list[str]:
        """See `messages.connections`."""
        reply = self.broker.call("members", USER + frame.user(uid).encode(), b"0")
        return [member_of(each).client_id for each in cast("list[list[bytes]]", reply)]

    def _present(self, group: str) -> bytes:
        if not self.declarations.of(frame.name(group, "a group")).presence:
            raise ValueError(
                f"who is in the group {group!r} is not known: declare it with presence=True"
            )
        return GROUP + group.encode()

    def history(
        self,
        group: str,
        *,
        since: str | None = None,
        limit: int | None = 100,
        reverse: bool = False,
    ) -> list[tuple[str, Any]]:
        """See `messages.history`."""
        declared = self.declarations.of(frame.name(group, "a group"))
        most = 0 if limit is None else _at_least_one(limit, "limit")
        at = ("", 0) if since is None else frame.parsed_position(since)
        if at is None:
            return []
        epoch, _, _, entries = self.stored(group, declared, at, most, reverse)
        return [
            (frame.position(epoch, offset), frame.decoded(body).message) for offset, body in entries
        ]

    def stored(
        self,
        group: str,
        declared: Declaration,
        since: tuple[str, int],
        limit: int = 0,
        reverse: bool = False,
    ) -> tuple[str, int, bool, list[tuple[int, bytes]]]:
        """The epoch, the last offset, whether nothing between is missing, and the messages: see the
        operation `history`."""
        epoch, offset = since
        reply = self.broker.call(
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

    def position(self, group: str) -> str:
        """See `messages.position`."""
        if not self.declarations.of(frame.name(group, "a group")).keeps:
            return ""
        reply = self.broker.call("position", GROUP + group.encode())
        epoch, offset = cast("tuple[bytes, int]", reply)
        return frame.position(epoch.decode("ascii"), offset)


def member_of(given: Sequence[bytes]) -> Member:
    """Of a member's name, identity and info, as a broker has them."""
    member, identity, info = given
    is_bound = identity != member
    return Member(
        member.decode(), identity.decode() if is_bound else None, json.loads(info) if info else None
    )


def _parts(client_id: str) -> tuple[str, str]:
    """The inbox and the connection; ("", "") of what is no client id. Raises TypeError."""
    if not isinstance(client_id, str):
        raise TypeError(f"a client id is a str, not {type(client_id).__name__}")
    return frame.parsed_client_id(client_id) or ("", "")


def _at_least_one(number: int, what: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"{what}={number!r}: expected a whole number from 1")
    return number
