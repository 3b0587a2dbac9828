"""What one process does with a message: its functions and members get it, an order is obeyed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gworker.messages.channels import Channel
from gworker.messages.delivery import Delivery
from gworker.messages.frame import (
    BINARY,
    CONTROL,
    Arrived,
    Frame,
    decoded,
    position_text,
    serialized,
)
from gworker.messages.functions import Functions
from gworker.messages.holds import Content
from gworker.messages.host import Host
from gworker.messages.recipients import Recipients

log = logging.getLogger("gworker")


class Distribution:
    """obey: called with a channel, those of its connections that an order is for, and the order."""

    def __init__(
        self,
        host: Host,
        delivery: Delivery,
        recipients: Recipients,
        obey: Callable[[Channel, list[Any], bytes], None],
    ) -> None:
        self.delivery = delivery
        self._host = host
        self._recipients = recipients
        self._obey = obey
        self._under_way = 0  # of the broker's reader, and of what was missed
        self._after: list[Callable[[], None]] = []
        self._unreadable = 0

    def give(self, channel: Channel, arrived: Arrived) -> None:
        """Give a message to the functions and the members that are here, and obey an order."""
        self._under_way += 1
        try:
            self._give(channel, arrived)
        except ValueError as error:
            self.note_unreadable(channel, error)
        finally:
            self._under_way -= 1
            if self._after and not self._under_way:
                self._call_after()

    def _give(self, channel: Channel, arrived: Arrived) -> None:
        message = decoded(arrived.body)
        members = self._recipients.of(channel, message.header)
        if message.kind == CONTROL:
            self._obey(channel, members, message.data)
            return
        if channel.functions is not None:
            self._give_to_functions(channel, channel.functions, message, len(arrived.body))
        if not members:
            return
        content = self.wrapped(channel, message, arrived)
        if content is None:
            self.delivery.dropped += len(members)
            return
        if channel.holds:
            held = Content(arrived.epoch, arrived.offset, message.header, content)
            members = self._live(channel, members, arrived, held)
        still = channel if channel.members else None
        self.delivery.deliver(content, members, channel.declaration.slow, still)

    def _give_to_functions(
        self, channel: Channel, functions: Functions, message: Frame, size: int
    ) -> None:
        try:
            is_taken = functions.add(message.message, size)
        except ValueError as error:  # its JSON: connections get the text all the same
            self.note_unreadable(channel, error)
            is_taken = False
        self.delivery.dropped += not is_taken

    def _live(
        self, channel: Channel, members: Sequence[Any], arrived: Arrived, content: Content
    ) -> list[Any]:
        # Those of `members` that get a message now. For the others it is held back.
        holds = channel.holds
        found = []
        for connection in members:
            hold = holds.get(connection)
            if hold is None:
                found.append(connection)
            elif hold.contents is not None:
                if not hold.add(content):
                    del holds[connection]
                    self.delivery.close_slow(connection)
            elif not arrived.epoch:
                found.append(connection)
            elif hold.epoch != arrived.epoch or hold.offset < arrived.offset:
                del holds[connection]
                found.append(connection)
        return found

    def content(self, channel: Channel, arrived: Arrived) -> Content | None:
        """What connections get of a message that was kept; None: nothing."""
        try:
            message = decoded(arrived.body)
            content = self.wrapped(channel, message, arrived)
        except ValueError as error:
            self.note_unreadable(channel, error)
            return None
        if content is None:
            self.delivery.dropped += 1
            return None
        return Content(arrived.epoch, arrived.offset, message.header, content)

    def includes(self, connection: Any, header: Mapping[str, Any]) -> bool:
        """False: the message excludes it."""
        return self._recipients.includes(connection, header)

    def wrapped(self, channel: Channel, message: Frame, arrived: Arrived) -> str | bytes | None:
        """What connections get of a message; None: `wrap` has failed. Raises ValueError."""
        wrap = channel.declaration.wrap
        if wrap is None:
            return message.content
        position = position_text(arrived.epoch, arrived.offset)
        try:
            kind, data = serialized(wrap(message.message, position))
        except BaseException:  # it would end the reader of the broker
            self._host.report("wrap of the groups %r: exception", channel.declaration.pattern)
            return None
        return data if kind == BINARY else data.decode()

    def note_unreadable(self, channel: Channel, error: ValueError) -> None:
        """A message of a channel is none."""
        self._unreadable += 1
        if self._unreadable == 1:
            log.warning("a message of %r cannot be read, and is dropped: %s", channel.name, error)

    def call_between(self, function: Callable[[], None]) -> None:
        """Call `function`, which waits for nothing, while no message is being given."""
        if self._under_way:
            self._after.append(function)
        else:
            function()

    def _call_after(self) -> None:
        functions, self._after = self._after, []
        for function in functions:
            try:
                function()
            except Exception:
                self._host.report("connections that move: exception")
