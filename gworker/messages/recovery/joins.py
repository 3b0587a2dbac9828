"""Memberships that join a group that keeps its messages: what they missed is sent first.

While the history is read, what comes is held back for them (`holds`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

from gworker.broker.deadline import extend
from gworker.broker.interface import Broker
from gworker.errors import BrokerDown, BrokerError
from gworker.messages.channels import Channel
from gworker.messages.delivery import Delivery
from gworker.messages.distribution import Distribution
from gworker.messages.frame import Arrived, parsed_position, position_text
from gworker.messages.gaps import Gaps
from gworker.messages.holds import Content, Hold, Resumption
from gworker.messages.host import Host
from gworker.messages.membership import Joined
from gworker.messages.recovery.positions import Positions
from gworker.messages.recovery.single_flight import SingleFlight
from gworker.messages.stored_history import read_page
from gworker.messages.subscriptions import Subscriptions

log = logging.getLogger("gworker")

# Seconds for which a member may take no more of what it missed.
DRAIN_SECONDS: Final = 10.0

# Attempts to read a history that is as new as what has been received.
ATTEMPTS: Final = 3


class _Missed:
    """A page of a history that was read. epoch, offset: where the group was. is_complete: nothing
    after the position that was given is missing. next: the position behind which the next page is;
    None: this is the last one."""

    __slots__ = ("contents", "epoch", "is_complete", "next", "offset")

    def __init__(
        self,
        epoch: str,
        offset: int,
        is_complete: bool = False,
        contents: Sequence[Content] = (),
        following: tuple[str, int] | None = None,
    ) -> None:
        self.epoch = epoch
        self.offset = offset
        self.is_complete = is_complete
        self.contents = contents
        self.next = following

    def covers(self, hold: Hold) -> bool:
        """True if it goes to where the hold begins."""
        return not hold.epoch or (self.epoch == hold.epoch and self.offset >= hold.offset)


class Joins:
    """Those of one process.

    queue: has `serve_waiting` called for a channel, once the broker is up.
    """

    def __init__(
        self,
        broker: Broker,
        host: Host,
        subscriptions: Subscriptions,
        distribution: Distribution,
        gaps: Gaps,
        reads: SingleFlight,
        positions: Positions,
        queue: Callable[[Channel], None],
    ) -> None:
        self._broker = broker
        self._host = host
        self._subscriptions = subscriptions
        self._distribution = distribution
        self._delivery: Delivery = distribution.delivery
        self._gaps = gaps
        self._reads = reads
        self._positions = positions
        self._queue = queue

    def join(self, channel: Channel, connection: Any, since: str | None, is_member: bool) -> Joined:
        """Send to one of the members what it missed, and then let it get what comes.

        is_member: it got what came before this. Raises BrokerDown if `since` is given.
        """
        must = since is not None
        if must and self._broker.state == "down":
            raise BrokerDown("the broker is down")
        asked = parsed_position(since)
        is_latest = channel.declaration.mode == "latest"
        if asked is None and (is_member or not is_latest):
            self._subscriptions.add([channel], must)
            return Joined(position=self._positions.of(channel, must))
        hold = channel.holds[connection] = Hold(channel.position)
        try:
            self._subscriptions.add([channel], must=True)
            return self._serve(channel, connection, hold, asked)
        except BaseException as error:  # a gevent.Timeout of the caller, say
            is_held = channel.holds.get(connection) is hold
            if must or not isinstance(error, BrokerDown):
                if is_held:
                    self._release(channel, connection, hold, is_member)
                raise
            if is_held:
                self._serve_later(channel, hold)
            return Joined()

    def _release(self, channel: Channel, connection: Any, hold: Hold, is_member: bool) -> None:
        # is_member: it was one before, and goes on with what was held back.
        del channel.holds[connection]
        if is_member:
            for each in hold.contents or ():
                self._delivery.send(each.content, [connection], channel.declaration.slow)

    def resume(
        self, channel: Channel, connections: Iterable[Any], reached: tuple[str, int], since: float
    ) -> None:
        """Another process has sent them what comes up to that position, and nothing since that
        moment: send what they missed, once the broker is up, or report a gap. Waits for nothing."""
        resumption = Resumption(reached, since, [channel.text])
        for connection in connections:
            hold = channel.holds[connection] = Hold(channel.position, resumption)
            if self._broker.state == "down":
                self._serve_later(channel, hold)
            else:
                self._host.spawn(self._serve_now, channel, connection, hold)

    def serve_waiting(self, channel: Channel) -> None:
        """Serve those that wait until the broker is up."""
        for connection, hold in list(channel.holds.items()):
            if hold.is_waiting:
                hold.is_waiting = False
                self._host.spawn(self._serve_now, channel, connection, hold)

    def _serve_later(self, channel: Channel, hold: Hold) -> None:
        hold.is_waiting = True
        self._queue(channel)

    def _serve_now(self, channel: Channel, connection: Any, hold: Hold) -> None:
        resumption = hold.resumption
        asked = None if resumption is None else resumption.reached
        try:
            if resumption is not None:
                self._subscriptions.add([channel], must=True)
            joined = self._serve(channel, connection, hold, asked)
        except BrokerDown:
            if channel.holds.get(connection) is hold:
                self._serve_later(channel, hold)
            return
        except BrokerError as error:
            log.warning("the group %r is joined without its history: %s", channel.text, error)
            if channel.holds.get(connection) is hold:
                self._release(channel, connection, hold, is_member=True)
            joined = Joined()
        if resumption is None or joined.recovered:
            return
        if resumption.untold and connection in channel.members:
            self._gaps.report([resumption.untold.pop()], resumption.since)

    def _serve(
        self, channel: Channel, connection: Any, hold: Hold, asked: tuple[str, int] | None
    ) -> Joined:
        # Raises BrokerDown.
        try:
            missed, is_recovered = self._missed(channel, hold, asked)
        except BrokerError as error:
            log.warning("the history of the group %r cannot be read: %s", channel.text, error)
            missed, is_recovered = _Missed("", 0), False
        position = channel.position
        if not position.epoch:
            if missed.epoch:
                position.begin(missed.epoch, missed.offset)
            else:
                self._positions.find(channel)
        is_wanted = is_recovered or channel.declaration.mode == "latest"
        count = 0
        page: _Missed | None = missed if is_wanted else None
        while page is not None:
            missed = page
            if not all(self._send(channel, connection, hold, each) for each in page.contents):
                return Joined()
            count += len(page.contents)
            if page.next is None:
                break
            began = time.monotonic()
            page = self._page_after(channel, hold, page)
            extend(time.monotonic() - began)  # each page has the time that was left for the first
            is_recovered = is_recovered and page is not None
        if not self._send_held(channel, connection, hold, missed):
            return Joined()
        at = position.epoch, position.offset
        if missed.epoch and (position.epoch != missed.epoch or position.offset < missed.offset):
            # Frames may be on their way that it has.
            if position.epoch in (missed.epoch, hold.epoch):
                at = missed.epoch, missed.offset
            hold.contents = None
            hold.epoch, hold.offset = missed.epoch, missed.offset
        else:
            del channel.holds[connection]
        return Joined(is_recovered, count if asked else 0, position_text(*at))

    def _missed(
        self, channel: Channel, hold: Hold, asked: tuple[str, int] | None
    ) -> tuple[_Missed, bool]:
        """What a member gets of the history; and whether that is all since its position."""
        if asked is not None:
            missed = self._read(channel, asked, hold)
            if missed.is_complete and (missed.epoch != hold.epoch or missed.covers(hold)):
                return missed, True
            if channel.declaration.mode != "latest":
                return missed, False
        return self._read(channel, ("", 0), hold), False

    def _read(self, channel: Channel, since: tuple[str, int], hold: Hold) -> _Missed:
        # At least up to where the hold begins, if the broker has that.
        def read() -> _Missed:
            declared = channel.declaration
            page = read_page(self._broker, channel.text, declared, since, declared.history)
            contents = (
                self._distribution.content(channel, Arrived(page.epoch, at, memoryview(body)))
                for at, body in page.entries
            )
            return _Missed(
                page.epoch,
                page.top,
                page.is_complete,
                [each for each in contents if each],
                page.last if page.has_more else None,
            )

        missed: _Missed | None = None
        for _ in range(ATTEMPTS):
            missed = cast(_Missed, self._reads.do((channel, *since), read, missed, _size_of))
            if missed.covers(hold):
                break
        assert missed is not None
        return missed

    def _page_after(self, channel: Channel, hold: Hold, page: _Missed) -> _Missed | None:
        """None: it cannot be had. What was sent of the history is not sent again."""
        assert page.next is not None
        try:
            following = self._read(channel, page.next, hold)
        except (BrokerDown, BrokerError) as error:
            log.warning("the history of the group %r cannot be read: %s", channel.text, error)
            return None
        return following if following.is_complete and following.epoch == page.epoch else None

    def _send_held(self, channel: Channel, connection: Any, hold: Hold, missed: _Missed) -> bool:
        """Send what was held back meanwhile, after a history. False: it is no member any more, or
        joins anew."""
        held = hold.contents
        assert held is not None
        while held:
            each = held.popleft()
            hold.size -= len(each.content)
            is_sent = each.epoch == missed.epoch and each.offset <= missed.offset
            if not is_sent and not self._send(channel, connection, hold, each):
                return False
        return channel.holds.get(connection) is hold

    def _send(self, channel: Channel, connection: Any, hold: Hold, content: Content) -> bool:
        if channel.holds.get(connection) is not hold:
            return False
        if not self._distribution.includes(connection, content.header):
            return True
        if connection.is_full:
            began = time.monotonic()
            connection.drain(DRAIN_SECONDS)
            extend(time.monotonic() - began)
        if connection.is_full:
            self._delivery.close_slow(connection)
            return False
        slow = channel.declaration.slow
        self._delivery.deliver(content.content, [connection], slow, encoded=content.encoded)
        return True


def _size_of(missed: _Missed) -> int:
    return sum(len(each.content) for each in missed.contents)
