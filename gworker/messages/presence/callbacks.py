"""The calls of on_presence in one process."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from gworker.messages.channels import Channel
from gworker.messages.host import Host
from gworker.messages.queries import Member
from gworker.system import fork_guard


class PresenceCallbacks:
    """It is called with the events of a group one after the other, in a greenlet of its own."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._callback = host.callbacks.get("on_presence")
        self._waiting: dict[Channel, deque[tuple[list[Member], list[Member]]]] = {}

    def changed(self, channel: Channel, joined: Sequence[Any], left: Sequence[Any]) -> None:
        """Memberships have come to a group and gone. Raises ValueError for what are no members."""
        if self._callback is None or not channel.members:
            return
        events = [_member(each) for each in joined], [_member(each) for each in left]
        waiting = self._waiting.get(channel)
        if waiting is not None:
            waiting.append(events)
        else:
            self._waiting[channel] = deque([events])
            self._host.spawn(self._call, channel)

    def _call(self, channel: Channel) -> None:
        waiting, callback = self._waiting[channel], self._callback
        assert callback is not None
        try:
            while waiting and channel.members:
                joined, left = waiting.popleft()
                try:
                    callback(channel.text, joined, left, list(channel.members))
                except BaseException:  # gevent.Timeout, say
                    self._host.report("on_presence of the group %r: exception", channel.text)
                fork_guard.end()
        finally:
            del self._waiting[channel]


def _member(given: Any) -> Member:
    match given:
        case [str(client_id), str() | None as uid, presence]:
            return Member(client_id, uid, presence)
    raise ValueError(f"{given!r} is no member")
