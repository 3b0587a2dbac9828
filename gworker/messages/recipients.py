"""Which connections of one process a message is for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from gworker.messages.channels import EVERYONE, INBOX, USER, Channel, Channels
from gworker.messages.client_ids import ClientIds
from gworker.messages.frame import CALL, EXCLUDED, EXCLUDED_USERS, TARGET, parsed_client_id
from gworker.messages.host import Host
from gworker.messages.sweeper import Sweeper

# Seconds for which it is remembered which connections have got a message of publish_many.
CALL_SECONDS: Final = 5.0


class Recipients:
    """Those of the messages that come to one process."""

    def __init__(
        self, host: Host, channels: Channels, client_ids: ClientIds, sweeper: Sweeper
    ) -> None:
        self._host = host
        self._channels = channels
        self._client_ids = client_ids
        self._sweeper = sweeper
        # By call of publish_many: since when, and which connections have got a message of it.
        self._calls: dict[str, tuple[float, set[Any]]] = {}
        sweeper.parts.append(self._drop_old_calls)

    def of(self, channel: Channel, header: Mapping[str, Any]) -> list[Any]:
        """The connections that a message of a channel is for. Raises ValueError for a header that
        is none."""
        kind = channel.kind
        if kind == INBOX:
            return self._of_inbox(channel, header)
        if kind != EVERYONE:
            found = list(channel.members)
        else:
            found = list(self._host.connections.values())
            if channel.backlog is not None and (hidden := channel.backlog.hidden):
                found = [each for each in found if each not in hidden]
        return self._chosen(found, header) if header else found

    def among(
        self, connections: list[Any], channel: Channel, header: Mapping[str, Any]
    ) -> list[Any]:
        """Those of `connections` that an earlier message of a channel is for."""
        if channel.kind == EVERYONE:
            found = connections
        elif channel.kind == INBOX:
            found = self._of_inbox(channel, header)
            return [each for each in found if each in connections]
        else:
            found = [each for each in connections if each in channel.members]
        if not header:
            return found
        users = header.get(EXCLUDED_USERS, ())
        return [each for each in self._chosen(found, header) if each.uid not in users]

    def _of_inbox(self, channel: Channel, header: Mapping[str, Any]) -> list[Any]:
        number = header.get(TARGET)
        if number is None:  # a marker, say
            return []
        one = self._client_ids.connection(channel.text, str(number))
        return [one] if one in channel.members else []

    def includes(self, connection: Any, header: Mapping[str, Any]) -> bool:
        """False: the message excludes it."""
        return not header or connection not in self._excluded(header)

    def _chosen(self, found: list[Any], header: Mapping[str, Any]) -> list[Any]:
        excluded = self._excluded(header)
        if (call := header.get(CALL)) is not None:
            excluded |= (reached := self._reached(str(call)))
            reached.update(found)
        return [each for each in found if each not in excluded] if excluded else found

    def _excluded(self, header: Mapping[str, Any]) -> set[Any]:
        found: set[Any] = set()
        for each in header.get(EXCLUDED, ()):
            if (parts := parsed_client_id(each)) is not None:
                found.add(self._client_ids.connection(*parts))
        for each in header.get(EXCLUDED_USERS, ()):
            channel = self._channels.get(USER + each.encode())
            if channel is not None:
                found.update(channel.members)
        return found

    # ---- calls of publish_many

    def calls_of(self, connection: Any) -> list[str]:
        """The calls of which it has got a message."""
        return [call for call, (_, reached) in self._calls.items() if connection in reached]

    def note_call(self, call: str, connection: Any) -> None:
        """It has got a message of that call, in another process."""
        self._reached(call).add(connection)

    def _reached(self, call: str) -> set[Any]:
        self._drop_old_calls()
        known = self._calls.get(call)
        if known is None:
            known = self._calls[call] = (time.monotonic(), set())
            self._sweeper.wake()
        return known[1]

    def _drop_old_calls(self) -> bool:
        until = time.monotonic() - CALL_SECONDS
        while self._calls and next(iter(self._calls.values()))[0] < until:
            del self._calls[next(iter(self._calls))]
        return bool(self._calls)
