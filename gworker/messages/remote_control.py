"""The calls that have connections closed, or make them join and leave, wherever they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gworker.broker.deadline import Deadline
from gworker.messages.caller import Caller, client_id_of, inbox_and_number
from gworker.messages.channels import GROUP, INBOX, USER
from gworker.messages.control import DISBAND, Order, close_order, join_order, leave_order
from gworker.messages.frame import TARGET, checked_name, order_body, user_name


class RemoteControl(Caller):
    """Those of one process."""

    def close(
        self,
        *,
        connection: str | None = None,
        user: str | int | None = None,
        group: str | None = None,
        code: int = 1000,
        reason: str = "",
    ) -> None:
        """Close a connection (its client id), all of a user, or all members of a group: exactly one
        of the three, else TypeError.

        code, reason: for protocols that say goodbye, as of `Connection.close`; ValueError for
        others.
        """
        order = close_order(code, reason)
        if group is not None and connection is None and user is None:
            self._order(GROUP + checked_name(group, "a group").encode(), order)
        elif group is None:
            self._order_to(connection, user, order, "connection, user and group")
        else:
            raise TypeError("exactly one of connection, user and group has to be given")

    def join(
        self, group: str, *, connection: str | None = None, user: str | int | None = None
    ) -> None:
        """Make a connection (its client id), or all of a user, members of a group: exactly one of
        the two, else TypeError.

        They are a moment later, and what is published meanwhile may pass them by.
        """
        order = join_order(checked_name(group, "a group"))
        self._order_to(connection, user, order, "connection and user")

    def leave(
        self, group: str, *, connection: str | None = None, user: str | int | None = None
    ) -> None:
        """Let a connection, or all of a user, leave a group. See `join`."""
        order = leave_order(checked_name(group, "a group"))
        self._order_to(connection, user, order, "connection and user")

    def disband(self, group: str) -> None:
        """Let all members leave a group."""
        self._order(GROUP + checked_name(group, "a group").encode(), DISBAND)

    def _order_to(
        self,
        connection: str | None,
        user: str | int | None,
        order: Order,
        choice: str,
    ) -> None:
        if (connection is None) == (user is None):
            raise TypeError(f"exactly one of {choice} has to be given")
        if user is not None:
            self._order(USER + user_name(user).encode(), order)
            return
        with Deadline():
            inbox, number = inbox_and_number(client_id_of(self._process(), connection))
            if inbox:
                self._order(INBOX + inbox.encode(), order, {TARGET: number})

    def _order(self, channel: bytes, order: Order, header: Mapping[str, Any] | None = None) -> None:
        self._process().broker.call("publish", channel, order_body(order, header))
