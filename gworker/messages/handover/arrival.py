"""Connections that come from one predecessor, in the process to which they move."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gworker.messages.channels import GROUP, Channel, Channels
from gworker.messages.gaps import Gaps
from gworker.messages.handover.moved import Moved
from gworker.messages.handover.successor import Successor
from gworker.messages.host import Host
from gworker.messages.membership import Belongings
from gworker.messages.recovery.joins import Joins


class Arrival:
    """What comes from one predecessor. Its calls come from the event loop, and wait for nothing."""

    def __init__(
        self, host: Host, channels: Channels, successor: Successor, joins: Joins, gaps: Gaps
    ) -> None:
        self._host = host
        self._everyone = channels.everyone
        self._successor = successor
        self._joins = joins
        self._gaps = gaps
        self._wanted: set[str] = set()  # markers
        self._obtain = channels.obtain
        self._kept: set[Channel] = set()  # their messages are kept for it
        self._told: set[str] = set()  # groups of which a gap was told
        self._keep(self._everyone)

    def mark(self, marker: str, names: Sequence[bytes]) -> None:
        """Connections of these channels are to come."""
        self._wanted.add(marker)
        self._host.spawn(self._mark, marker, names)

    def _mark(self, marker: str, names: Sequence[bytes]) -> None:
        self._successor.start()
        if marker in self._wanted:
            channels = [self._obtain(name[:2], name[2:].decode()) for name in names]
            self._keep(channels)
            self._successor.mark(channels, marker)

    def _keep(self, channels: Iterable[Channel]) -> None:
        for channel in channels:
            self._successor.keep(channel, self)
            self._kept.add(channel)

    def expect(self, connections: Iterable[Any]) -> None:
        """They are here, but it is still the predecessor that sends to them."""
        for channel in self._everyone:
            if channel.backlog is not None:
                channel.backlog.hidden.update(connections)

    def adopt(self, connections: Sequence[Any], moved: Moved) -> None:
        """The predecessor sends to them no longer. What they are sent here has to wait until they
        go on."""
        if self._host.has_ended:  # user code has forked this process: they are the parent's
            return
        found: dict[Channel, list[Any]] = {}
        for connection in connections:
            belongings = moved.belongings.get(connection.id)
            if belongings is not None:
                for channel in self._successor.adopt(connection, belongings):
                    found.setdefault(channel, []).append(connection)
        for channel, members in found.items():
            self._begin(channel, members, moved)
        for channel in self._everyone:
            self._begin(channel, list(connections), moved)
        if found:
            self._successor.announce(found, moved.process)

    def adopt_from_dead(
        self, connections: Sequence[Any], belongings: Mapping[int, Belongings]
    ) -> None:
        """The predecessor has died, and has not said how far they were."""
        self.adopt(connections, Moved(b"", time.time(), {}, belongings, {}))

    def _begin(self, channel: Channel, connections: list[Any], moved: Moved) -> None:
        backlog = channel.backlog
        place = None if backlog is None else backlog.place(moved.positions.get(channel.name))
        if backlog is not None and place is not None and place > backlog.count:
            backlog.wait(place, connections)
            return
        reached = moved.offsets.get(channel.name) if place is None else None
        if reached is not None:
            self._joins.resume(channel, connections, reached, moved.at)
            self._successor.show(channel, connections)
            return
        if backlog is not None and place is not None:
            self._successor.show(channel, connections)
            for payload in backlog.behind(place):
                self._successor.replay(channel, payload, connections)
            return
        self._successor.show_behind_marker(channel, connections)
        if channel.kind == GROUP and channel.text not in self._told:
            self._told.add(channel.text)
            self._gaps.report([channel.text], moved.at)

    def release(self) -> None:
        """Those that could move have moved; others are announced anew."""
        self._wanted.clear()
        channels, self._kept = self._kept, set()
        for channel in channels:
            if channel.backlog is not None:
                channel.backlog.users.discard(self)
                self._successor.drop_backlog(channel)
