"""Client ids: names of connections that every process can send to, and that a handover keeps.

A client id is an inbox, a point and the number of the connection in base 36. The inbox is a channel
of the process in which the connection was opened; whichever process has the connection hears of it.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from gworker.messages.channels import INBOX, Channels
from gworker.messages.frame import base36
from gworker.messages.host import Host
from gworker.messages.membership import Membership
from gworker.messages.subscriptions import Subscriptions

ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


class ClientIds:
    """Those of the connections of one process. inbox: of those that were opened here."""

    def __init__(self, host: Host, channels: Channels, subscriptions: Subscriptions) -> None:
        self.inbox = "".join(secrets.choice(ALPHABET) for _ in range(13))
        self._host = host
        self._channels = channels
        self._subscriptions = subscriptions
        self._handed_over: set[str] = set()  # inboxes of which other processes have connections

    def of(self, connection: Any) -> str:
        """Its client id. Waits for the broker at the first time, to be reached by it."""
        membership: Membership | None = connection.membership
        channel = None if membership is None else membership.inbox
        if channel is None and connection.status != "closed":
            channel = self._channels.obtain(INBOX, self.inbox)
            membership = connection.membership = membership or Membership()
            membership.inbox = channel
            channel.members[connection] = None
            self._subscriptions.add([channel])
        inbox = self.inbox if channel is None else channel.text
        return f"{inbox}.{base36(connection.id)}"

    @staticmethod
    def known(connection: Any) -> str | None:
        """Its client id, if something has asked for it. Waits for nothing."""
        membership: Membership | None = connection.membership
        if membership is None or membership.inbox is None:
            return None
        return f"{membership.inbox.text}.{base36(connection.id)}"

    def is_gone(self, client_id: str) -> bool:
        """True if it is known here that no connection has it."""
        inbox, _, number = client_id.partition(".")
        is_ours = inbox == self.inbox and inbox not in self._handed_over
        return is_ours and self.connection(inbox, number) is None

    def connection(self, inbox: str, number: str) -> Any:
        """The one of that client id, if it is here; else None."""
        connection = self._host.connections.get(int(number, 36))
        membership: Membership | None = None if connection is None else connection.membership
        channel = None if membership is None else membership.inbox
        return connection if channel is not None and channel.text == inbox else None

    def hand_over(self, inbox: str) -> None:
        """A connection of this inbox is in another process now."""
        self._handed_over.add(inbox)
