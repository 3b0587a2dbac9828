"""Memberships that have gone from one process, until the broker surely knows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from gworker.broker.interface import Answer, Broker
from gworker.errors import BrokerDown, BrokerError
from gworker.messages.background import in_background
from gworker.messages.channels import GROUP
from gworker.messages.presence.due_leaves import leave_of
from gworker.messages.presence.lost_data import LostData
from gworker.messages.queries import member_of

# Rounds for which an exit is remembered that the broker has confirmed: until the leave is
# published, and some more, as a broker that is up again may take a moment to see that it has lost
# its data.
REMEMBERED_ROUNDS: Final = 6


class Entry(NamedTuple):
    """What a broker has of a member."""

    name: bytes
    identity: bytes
    info: bytes


class Exit(NamedTuple):
    """process: whose member it was. was_known: the broker may have had it."""

    channel: bytes
    process: bytes
    entry: Entry
    was_known: bool


class Exits:
    """Those of one process.

    on_recent: called when rounds have to be counted, by `next_round`. on_unsent: called when the
    broker could not be told of one; `announce` does that.
    """

    def __init__(
        self,
        broker: Broker,
        lost: LostData,
        on_recent: Callable[[], None],
        on_unsent: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._lost = lost
        self._on_recent = on_recent
        self._on_unsent = on_unsent
        self._under_way: deque[tuple[Answer, Exit]] = deque()
        self._is_confirming = False
        self._unsent: list[Exit] = []
        # Those of the last rounds with a broker that is up, which may lose them before they are
        # published.
        self._recent: deque[list[Exit]] = deque([[]], REMEMBERED_ROUNDS)

    def add(self, one: Exit) -> None:
        """Tell the broker. Waits for nothing."""
        try:
            self._submit(one)
        except BrokerDown:
            self._not_sent(one)

    @property
    def has_recent(self) -> bool:
        return any(self._recent)

    def next_round(self) -> None:
        """A round with a broker that is up is over."""
        self._recent.append([])

    @property
    def channels(self) -> list[bytes]:
        """Those of which `announce` may have something to tell."""
        return [each.channel for each in (*self._unsent, *self._of_before)]

    @property
    def _of_before(self) -> list[Exit]:
        # Those of the name that this process had with the broker before.
        return [
            each for some in self._recent for each in some if each.process != self._broker.process
        ]

    def announce(self) -> None:
        """Tell the broker of those that it does not know. Raises BrokerDown."""
        again = {each for each in self._of_before if each.channel in self._lost}
        self._unsent += again
        for some in self._recent:
            some[:] = [each for each in some if each not in again]
        while self._unsent:
            self._announce(self._unsent[0])
            del self._unsent[0]

    def _announce(self, one: Exit) -> None:
        if one.was_known and one.channel.startswith(GROUP) and one.channel in self._lost:
            # The broker knows nothing of a member that has gone meanwhile: it comes, and goes.
            again = one._replace(process=self._broker.process)
            leave = leave_of(member_of(one.entry))
            self._broker.submit("enter", one.channel, again.process, b"", *one.entry, leave)
            self._submit(again)
        elif one.process == self._broker.process:
            self._submit(one)

    def _submit(self, one: Exit) -> None:
        call = self._broker.submit("exit", one.channel, one.process, one.entry.name)
        self._under_way.append((call, one))
        if not self._is_confirming:
            self._is_confirming = True
            in_background(self._confirm)

    def _confirm(self) -> None:
        while self._under_way:
            call, one = self._under_way[0]
            try:
                call.wait()
            except (BrokerDown, BrokerError):
                self._not_sent(one)
            else:
                if one.channel.startswith(GROUP):
                    self._recent[-1].append(one)
                    self._on_recent()
            self._under_way.popleft()
        self._is_confirming = False

    def _not_sent(self, one: Exit) -> None:
        self._unsent.append(one)
        self._on_unsent()
