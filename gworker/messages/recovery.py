"""What a member missed, and what a process missed, of the groups that keep their messages.

A member that comes back with a position gets what was published after it, from the history, and
then what comes. While the history is read, frames are held back for it.

A process knows how far it has come in each channel. When a frame is not the one after the last, or
its link was broken, it holds the frames of that channel back and reads the history, in a thread of
its own: the one that reads from the broker may not ask it. What is not in the history any more is a
gap, and the application is told.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, cast

from gworker.broker.interface import CALL_SECONDS, Broker
from gworker.errors import BrokerDown, BrokerError
from gworker.messages import frame
from gworker.messages.channels import GROUP, Channel, Channels
from gworker.messages.declarations import Declaration
from gworker.messages.delivery import TRY_AGAIN_LATER, Delivery
from gworker.messages.frame import Arrived
from gworker.messages.membership import Joined
from gworker.messages.presence import in_background

log = logging.getLogger("gworker")

# Histories that are read at the same time, and threads that read what the process missed.
MOST_READS: Final = 16

# Seconds for which an answer serves those who ask the same.
ANSWER_SECONDS: Final = 1.0

# Frames, and their bytes, that are held back for one member, or of one channel.
MOST_HELD: Final = 10_000
MOST_HELD_BYTES: Final = 16 << 20

# Seconds for which a member may take no more of what it missed.
DRAIN_SECONDS: Final = 10.0

# Seconds without a message after which the position of a group is asked for, so many in one piece.
CHECK_SECONDS: Final = 40.0
CHECK_BATCH: Final = 500

# Seconds until a history that could not be read is asked for again.
AGAIN_SECONDS: Final = 0.2

# Attempts to read a history that is as new as what has been received.
ATTEMPTS: Final = 3


class Content:
    """What connections get of a message, with its position."""

    __slots__ = ("content", "encoded", "epoch", "header", "offset")

    def __init__(
        self, epoch: str, offset: int, header: Mapping[str, Any], content: str | bytes
    ) -> None:
        self.epoch = epoch
        self.offset = offset
        self.header = header
        self.content = content
        self.encoded: dict[Hashable, bytes] = {}  # as of `Delivery.deliver`


class Hold:
    """What is held back for one member that joins.

    contents: None once it gets what comes, but nothing up to the position `epoch`, `offset`. Until
    then that is where the channel was when the hold began. is_waiting: it gets the values of the
    group when the broker is up.
    """

    __slots__ = ("contents", "epoch", "is_waiting", "offset", "resumption", "size")

    def __init__(self, epoch: str, offset: int) -> None:
        self.epoch = epoch
        self.offset = offset
        self.contents: deque[Content] | None = deque()
        self.size = 0
        self.is_waiting = False
        self.resumption: Resumption | None = None  # of a member that has come with a handover

    def add(self, content: Content) -> bool:
        """False: too many are held back."""
        assert self.contents is not None
        self.contents.append(content)
        self.size += len(content.content)
        return len(self.contents) <= MOST_HELD and self.size <= MOST_HELD_BYTES


class Resumption(NamedTuple):
    """How far a member was in the process from which it comes.

    reached: the position of the last message that it has had. since: when that was said, in seconds
    since the epoch. untold: the group, until a gap is told; the same for all that come at once.
    """

    reached: tuple[str, int]
    since: float
    untold: list[str]


class HeldFrames:
    """Frames of a channel that are held back. Beyond the bounds the oldest go: they are in the
    history, or told as a gap."""

    __slots__ = ("dropped", "frames", "size")

    def __init__(self) -> None:
        self.frames: deque[Arrived] = deque()
        self.size = self.dropped = 0

    def add(self, arrived: Arrived) -> None:
        self.frames.append(arrived)
        self.size += len(arrived.body)
        while len(self.frames) > MOST_HELD or self.size > MOST_HELD_BYTES:
            self.take()
            self.dropped += 1

    def take(self) -> Arrived:
        arrived = self.frames.popleft()
        self.size -= len(arrived.body)
        return arrived

    def highest(self, epoch: str) -> int:
        return max((each.offset for each in self.frames if each.epoch == epoch), default=0)


class Missed:
    """A history that was read. is_complete: nothing after the position that was given is
    missing."""

    __slots__ = ("contents", "epoch", "is_complete", "offset")

    def __init__(
        self, epoch: str, offset: int, is_complete: bool, contents: Sequence[Content]
    ) -> None:
        self.epoch = epoch
        self.offset = offset
        self.is_complete = is_complete
        self.contents = contents

    def covers(self, hold: Hold) -> bool:
        """True if it goes to where the hold begins."""
        return not hold.epoch or (self.epoch == hold.epoch and self.offset >= hold.offset)


class _Answer:
    __slots__ = ("at", "done", "error", "value")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.at = 0.0
        self.value: Any = None
        self.error: BrokerDown | BrokerError | None = None


class Questions:
    """What is asked of the broker by many at once: the same is asked once, and few at a time."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, _Answer] = {}
        self._running = threading.BoundedSemaphore(MOST_READS)

    def __bool__(self) -> bool:
        return bool(self._answers)

    def ask(
        self, key: Hashable, do: Callable[[], Any], refused: object = None, keep: bool = True
    ) -> Any:
        """What `do` returns, or will return for another with the same key, or with `keep` has
        returned a moment ago; but not `refused`. Raises BrokerDown, BrokerError."""
        self.drop_old()
        answer = self._answers.get(key)
        if answer is None or (refused is not None and answer.value is refused):
            answer = self._answers[key] = _Answer()
            self._find(key, answer, do, keep)
        else:
            answer.done.wait()
        error = answer.error
        if isinstance(error, BrokerDown):
            raise BrokerDown(str(error), error.uncertain)
        if error is not None:
            raise BrokerError(str(error))
        return answer.value

    def once(self, do: Callable[[], Any]) -> Any:
        """What `do` returns, when it has its turn."""
        if not self._running.acquire(timeout=CALL_SECONDS):
            raise BrokerDown(f"{MOST_READS} histories are being read")
        try:
            return do()
        finally:
            self._running.release()

    def clear(self) -> None:
        """All that is asked from now on is asked anew."""
        self._answers.clear()

    def drop_old(self) -> None:
        until = time.monotonic() - ANSWER_SECONDS
        while self._answers:
            key, answer = next(iter(self._answers.items()))
            if not answer.done.is_set() or answer.at > until:
                return
            del self._answers[key]

    def _find(self, key: Hashable, answer: _Answer, do: Callable[[], Any], keep: bool) -> None:
        answer.error = BrokerDown("it was given up")
        try:
            answer.value = self.once(do)
            answer.error = None
        except (BrokerDown, BrokerError) as error:
            answer.error = error
        finally:
            if not (keep and answer.error is None) and self._answers.get(key) is answer:
                del self._answers[key]
            answer.at = time.monotonic()
            answer.done.set()


class Incident:
    """Messages may have been lost between two moments, in seconds since the epoch.

    groups: those of which it is known. pending: channels whose history is still to be read.
    """

    def __init__(self, since: float, until: float) -> None:
        self.since = since
        self.until = until
        self.groups: list[str] = []
        self.pending: set[Channel] = set()


class Owner(Protocol):
    """The process whose groups they are (`messaging.Messaging`)."""

    broker: Broker
    channels: Channels
    delivery: Delivery
    has_ended: bool

    def hear(self, channels: Sequence[Channel], must: bool = False) -> None:
        """Subscribe, unless that was done. Raises BrokerDown if it must be done."""

    def give(self, channel: Channel, arrived: Arrived) -> None:
        """Give a frame to the functions and the members that are here."""

    def content(self, channel: Channel, arrived: Arrived) -> Content | None:
        """What connections get of it; None: nothing."""

    def is_for(self, connection: Any, header: Mapping[str, Any]) -> bool:
        """False: the message is not for this one."""

    def stored(
        self,
        group: str,
        declared: Declaration,
        since: tuple[str, int],
        limit: int = 0,
        reverse: bool = False,
    ) -> tuple[str, int, bool, list[tuple[int, bytes]]]:
        """See `calls.Calls`."""

    def tell_gap(self, groups: Sequence[str], since: float, until: float = 0.0) -> None: ...
    def spawn(self, function: Callable[..., object], *arguments: object) -> object: ...


class Recovery:
    """Of the groups of one process that keep their messages."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.questions = Questions()
        # Channels whose history has to be read, with what is told if it has not all of it.
        self._due: dict[Channel, Incident | None] = {}
        self._busy: set[Channel] = set()
        self._threads = 0
        self._is_watching = False

    # ---- members

    def join(self, channel: Channel, connection: Any, since: str | None, is_member: bool) -> Joined:
        """Send to one of the members what it missed, and then let it get what comes.

        is_member: it got what came before this. Raises BrokerDown if `since` is given.
        """
        must = since is not None
        if must and self._owner.broker.state == "down":
            raise BrokerDown("the broker is down")
        asked = frame.parsed_position(since)
        is_latest = channel.declaration.mode == "latest"
        if asked is None and (is_member or not is_latest):
            self._owner.hear([channel], must)
            return Joined(position=self.position_of(channel, must))
        hold = channel.holds[connection] = Hold(channel.epoch, channel.offset)
        try:
            self._owner.hear([channel], must=True)
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
                slow = channel.declaration.slow
                self._owner.delivery.send(each.content, [connection], slow)

    def resume(
        self, channel: Channel, connections: Iterable[Any], reached: tuple[str, int], since: float
    ) -> None:
        """Another process has sent them what comes up to that position, and nothing since that
        moment: send what they missed, once the broker is up, or tell a gap. Waits for nothing."""
        untold = [channel.text]
        for connection in connections:
            hold = channel.holds[connection] = Hold(channel.epoch, channel.offset)
            hold.resumption = Resumption(reached, since, untold)
            if self._owner.broker.state == "down":
                self._serve_later(channel, hold)
            else:
                self._owner.spawn(self._serve_now, channel, connection, hold)

    def position_of(self, channel: Channel, must: bool = False) -> str:
        """Where a channel is, as far as this process has received it. Raises BrokerDown if the
        broker must be up for that; else it is "" then."""
        if not channel.epoch:
            try:
                self._find_position(channel)
            except BrokerDown:
                if must:
                    raise
        return frame.position(channel.epoch, channel.offset)

    def live(
        self, channel: Channel, members: Sequence[Any], arrived: Arrived, content: Content
    ) -> list[Any]:
        """Those of `members` that get a frame now. For the others it is held back."""
        holds = channel.holds
        found = []
        for connection in members:
            hold = holds.get(connection)
            if hold is None:
                found.append(connection)
            elif hold.contents is not None:
                if not hold.add(content):
                    del holds[connection]
                    self._close_slow(connection)
            elif not arrived.epoch:
                found.append(connection)
            elif hold.epoch != arrived.epoch or hold.offset < arrived.offset:
                del holds[connection]
                found.append(connection)
        return found

    def _serve(
        self, channel: Channel, connection: Any, hold: Hold, asked: tuple[str, int] | None
    ) -> Joined:
        # Raises BrokerDown.
        try:
            missed, is_recovered = self._missed(channel, hold, asked)
        except BrokerError as error:
            log.warning("the history of the group %r cannot be read: %s", channel.text, error)
            missed, is_recovered = Missed("", 0, False, ()), False
        if not missed.epoch and not channel.epoch:
            self._find_position(channel)
        elif not channel.epoch:
            self._begin(channel, missed.epoch, missed.offset)
        is_wanted = is_recovered or channel.declaration.mode == "latest"
        contents = missed.contents if is_wanted else ()
        if not self._send_missed(channel, connection, hold, contents, missed):
            return Joined()
        at = channel.epoch, channel.offset
        if missed.epoch and (channel.epoch != missed.epoch or channel.offset < missed.offset):
            # Frames may be on their way that it has.
            if channel.epoch in (missed.epoch, hold.epoch):
                at = missed.epoch, missed.offset
            hold.contents = None
            hold.epoch, hold.offset = missed.epoch, missed.offset
        else:
            del channel.holds[connection]
        return Joined(is_recovered, len(contents) if asked else 0, frame.position(*at))

    def _missed(
        self, channel: Channel, hold: Hold, asked: tuple[str, int] | None
    ) -> tuple[Missed, bool]:
        """What a member gets of the history; and whether that is all since its position."""
        if asked is not None:
            missed = self._read(channel, asked, hold)
            if missed.is_complete and (missed.epoch != hold.epoch or missed.covers(hold)):
                return missed, True
            if channel.declaration.mode != "latest":
                return missed, False
        return self._read(channel, ("", 0), hold), False

    def _read(self, channel: Channel, since: tuple[str, int], hold: Hold) -> Missed:
        # At least up to where the hold begins, if the broker has that.
        def read() -> Missed:
            epoch, offset, is_complete, entries = self._owner.stored(
                channel.text, channel.declaration, since, channel.declaration.history
            )
            contents = (
                self._owner.content(channel, Arrived(epoch, at, memoryview(body)))
                for at, body in entries
            )
            return Missed(epoch, offset, is_complete, [each for each in contents if each])

        missed: Missed | None = None
        for _ in range(ATTEMPTS):
            missed = cast(Missed, self.questions.ask((channel, *since), read, missed))
            if missed.covers(hold):
                break
        assert missed is not None
        return missed

    def _send_missed(
        self,
        channel: Channel,
        connection: Any,
        hold: Hold,
        contents: Iterable[Content],
        missed: Missed,
    ) -> bool:
        """Send the history, and what was held back meanwhile. False: it is no member any more, or
        joins anew."""
        for each in contents:
            if not self._send(channel, connection, hold, each):
                return False
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
        if not self._owner.is_for(connection, content.header):
            return True
        if connection.is_full:
            connection.drain(DRAIN_SECONDS)
        if connection.is_full:
            self._close_slow(connection)
            return False
        slow = channel.declaration.slow
        self._owner.delivery.deliver(content.content, [connection], slow, encoded=content.encoded)
        return True

    def _close_slow(self, connection: Any) -> None:
        self._owner.delivery.dropped += 1
        connection.close(code=TRY_AGAIN_LATER)

    def _serve_later(self, channel: Channel, hold: Hold) -> None:
        hold.is_waiting = True
        self._add(channel, None)
        self._work_soon()

    def _serve_now(self, channel: Channel, connection: Any, hold: Hold) -> None:
        resumption = hold.resumption
        try:
            if resumption is None:
                self._serve(channel, connection, hold, None)
                return
            self._owner.hear([channel], must=True)
            joined = self._serve(channel, connection, hold, resumption.reached)
        except BrokerDown:
            if channel.holds.get(connection) is hold:
                self._serve_later(channel, hold)
            return
        if not joined.recovered and resumption.untold and connection in channel.members:
            self._owner.tell_gap([resumption.untold.pop()], resumption.since)

    # ---- where a channel is

    def _begin(self, channel: Channel, epoch: str, offset: int) -> None:
        channel.epoch, channel.offset, channel.digest = epoch, offset, None
        channel.late = {}
        channel.heard_at = time.monotonic()

    def _find_position(self, channel: Channel) -> None:
        # Raises BrokerDown.
        key = channel, "position"
        epoch, offset = self.questions.ask(key, lambda: self._ask_position(channel), keep=False)
        if not channel.epoch:
            self._begin(channel, epoch, offset)

    def _ask_position(self, channel: Channel) -> tuple[str, int]:
        reply = self._owner.broker.call("position", channel.name)
        epoch, offset = cast("tuple[bytes, int]", reply)
        return epoch.decode("ascii"), offset

    # ---- frames that arrive: in the broker's reader

    def admits(self, channel: Channel, arrived: Arrived) -> bool:
        """True: it is the next one. False: it is given later, or was given before."""
        if not arrived.epoch:  # an order, which need not wait
            return True
        if channel.held is None:
            if self._is_next(channel, arrived):
                self._advance(channel, arrived)
                return True
            if self._is_again(channel, arrived):
                return False
            channel.held = HeldFrames()
            self._add(channel, Incident(_time_of_day(channel.heard_at), 0.0))
            self._work_soon()
        channel.held.add(arrived)
        return False

    def _is_next(self, channel: Channel, arrived: Arrived) -> bool:
        if not channel.epoch or self._is_late(channel, arrived):
            return True
        return arrived.epoch == channel.epoch and arrived.offset == channel.offset + 1

    def _is_late(self, channel: Channel, arrived: Arrived) -> bool:
        return arrived.offset <= channel.late.get(arrived.epoch, -1)

    def _is_again(self, channel: Channel, arrived: Arrived) -> bool:
        # The last one.
        return (arrived.epoch, arrived.offset) == (channel.epoch, channel.offset) and (
            channel.digest is None or channel.digest == hash(arrived.body)
        )

    def _advance(self, channel: Channel, arrived: Arrived) -> None:
        if not self._is_late(channel, arrived):
            channel.epoch, channel.offset = arrived.epoch, arrived.offset
            channel.digest = hash(arrived.body)
            channel.late = {}
        channel.heard_at = time.monotonic()

    # ---- what the process missed

    def interrupted(self, channels: Iterable[Channel], since: float, until: float) -> None:
        """They are subscribed again: refill those that keep messages, and tell the rest."""
        self.questions.clear()
        incident = Incident(since, until)
        for channel in channels:
            if channel.declaration.keeps:
                if channel.held is None:
                    channel.held = HeldFrames()
                self._add(channel, incident)
            elif channel.is_needed:
                incident.groups.append(channel.text)
        self._tell(incident)
        self._work_soon()

    def on_state(self, is_up: bool) -> None:
        if is_up:
            for channel in self._kept():
                if not channel.epoch or any(hold.is_waiting for hold in channel.holds.values()):
                    self._add(channel, None)
            self._work_soon()
        else:
            self.questions.clear()
            for incident in {each for each in self._due.values() if each is not None}:
                self._tell_groups(incident)

    def _kept(self) -> list[Channel]:
        return [
            each for each in self._owner.channels if each.kind == GROUP and each.declaration.keeps
        ]

    def _add(self, channel: Channel, incident: Incident | None) -> None:
        # One that is due already is told with the later incident.
        before = self._due.get(channel)
        if incident is None:
            incident = before
        elif before is not None and before is not incident:
            incident.since = min(incident.since, before.since)
            before.pending.discard(channel)
            self._tell(before)
        if incident is not None:
            incident.pending.add(channel)
        self._due[channel] = incident

    def _tell(self, incident: Incident) -> None:
        if not incident.pending:
            self._tell_groups(incident)

    def _tell_groups(self, incident: Incident) -> None:
        groups, incident.groups = incident.groups, []
        if groups:
            self._owner.tell_gap(groups, incident.since, incident.until)

    def _work_soon(self) -> None:
        if self._owner.broker.state == "down":
            return
        wanted = min(MOST_READS, len(self._due) + len(self._busy))
        for _ in range(wanted - self._threads):  # those that start may end meanwhile
            self._threads += 1
            in_background(self._work)

    def _work(self) -> None:
        try:
            while not self._owner.has_ended:
                channel = next((each for each in self._due if each not in self._busy), None)
                if channel is None or self._owner.broker.state == "down":
                    return
                incident = self._due.pop(channel)
                self._busy.add(channel)
                try:
                    is_done = self._settle_or_log(channel, incident)
                finally:
                    self._busy.discard(channel)
                if not is_done:
                    time.sleep(AGAIN_SECONDS)
        finally:
            self._threads -= 1

    def _settle_or_log(self, channel: Channel, incident: Incident | None) -> bool:
        try:
            is_whole = self._settle(channel, incident is not None)
        except BrokerDown:  # once more, with what has happened meanwhile
            later = self._due.get(channel)
            if later is not None and incident is not None and later is not incident:
                later.since = min(later.since, incident.since)
                incident.pending.discard(channel)
                self._tell(incident)
            elif later is None:
                self._due[channel] = incident
            return False
        except Exception:
            log.exception("what the group %r missed could not be found", channel.text)
            channel.held, is_whole = None, False
        if incident is not None:
            # Once it is due for another incident, that one tells it.
            if not is_whole and channel.is_needed:
                incident.groups.append(channel.text)
            if self._due.get(channel) is not incident:
                incident.pending.discard(channel)
            self._tell(incident)
        return True

    def _settle(self, channel: Channel, was_interrupted: bool) -> bool:
        """Get a channel to where the broker is. False: something was missed. Raises BrokerDown."""
        is_whole = True
        if was_interrupted and channel.held is None:
            channel.held = HeldFrames()
        if not channel.epoch:
            is_whole = not was_interrupted
            if channel.held is None or not channel.held.frames:
                self._find_position(channel)
            if channel.held is not None and not self._give_held(channel):
                self._refill(channel)
        elif channel.held is not None:
            is_whole = self._refill(channel)
        for connection, hold in list(channel.holds.items()):
            if hold.is_waiting:
                hold.is_waiting = False
                self._owner.spawn(self._serve_now, channel, connection, hold)
        return is_whole

    def _refill(self, channel: Channel) -> bool:
        is_whole = True
        while True:
            missed = self.questions.once(lambda: self._after_last(channel))
            if missed is None:
                is_whole = False
            else:
                for each in missed:
                    self._advance(channel, each)
                    self._owner.give(channel, each)
            before = channel.epoch, channel.offset, len(channel.held.frames)
            if self._give_held(channel):
                return is_whole
            if not missed and before == (channel.epoch, channel.offset, len(channel.held.frames)):
                channel.epoch, is_whole = "", False  # the history does not lead to what came

    def _give_held(self, channel: Channel) -> bool:
        """False: there is a jump in what was held back."""
        held = channel.held
        while held.frames:
            first = held.frames[0]
            if self._is_next(channel, first):
                self._advance(channel, first)
                self._owner.give(channel, held.take())
            elif first.epoch != channel.epoch or first.offset > channel.offset:
                return False
            else:  # the history has just shown that this is not another one
                held.take()
        self._owner.delivery.dropped += held.dropped
        channel.held = None
        return True

    def _after_last(self, channel: Channel) -> list[Arrived] | None:
        """What came after the last message that was received. None: that cannot be had, and the
        channel goes on from where the broker is. Raises BrokerDown."""
        epoch, offset = channel.epoch, channel.offset
        highest = channel.held.highest(epoch)
        try:
            # The last one is read again: after a failover, another one may be in its place.
            found, top, is_complete, entries = self._stored(channel, epoch, max(offset - 1, 0))
            if found == epoch:
                is_lost = top < max(offset, highest) or any(
                    at == offset and channel.digest not in (None, hash(body))
                    for at, body in entries
                )
                if is_lost:
                    found, top = self._rotate(channel)
                elif not is_complete:
                    found, top, is_complete, entries = self._stored(channel, epoch, offset)
                if found == epoch and is_complete:
                    return [
                        Arrived(epoch, at, memoryview(body)) for at, body in entries if at > offset
                    ]
        except BrokerError as error:
            log.warning("the history of the group %r cannot be read: %s", channel.text, error)
            found, top = "", 0
        if not found:
            found, top = self._ask_position(channel)
        self.questions.clear()
        late = {} if found == epoch else {epoch: sys.maxsize}
        if any(each.epoch not in late for each in channel.held.frames):
            channel.epoch = ""
        else:
            self._begin(channel, found, top)
            late[found] = top
        channel.late = late
        return None

    def _stored(
        self, channel: Channel, epoch: str, offset: int
    ) -> tuple[str, int, bool, list[tuple[int, bytes]]]:
        declared = channel.declaration
        return self._owner.stored(channel.text, declared, (epoch, offset), declared.history + 1)

    def _rotate(self, channel: Channel) -> tuple[str, int]:
        """The broker has lost the last messages, and others have got their positions: end the
        epoch, so that all who know one of these are told."""
        reply = self._owner.broker.call("rotate", channel.name, channel.epoch.encode())
        epoch, offset = cast("tuple[bytes, int]", reply)
        return epoch.decode("ascii"), offset

    # ---- channels in which nothing comes

    def watch(self) -> None:
        """Look now and then whether the channels in which nothing comes are where they were."""
        if not self._is_watching:
            self._is_watching = True
            in_background(self._check_often)

    def _check_often(self) -> None:
        while not self._owner.has_ended and self._kept():
            time.sleep(CHECK_SECONDS)
            self.check()
        self._is_watching = False

    def check(self, seconds: float = CHECK_SECONDS) -> None:
        """Compare the positions of channels in which nothing has come for so long with the
        broker's."""
        until = time.monotonic() - seconds
        idle = [
            each
            for each in self._kept()
            if each.is_heard and each.epoch and each.held is None and each.heard_at <= until
        ]
        for start in range(0, len(idle), CHECK_BATCH):
            if self._owner.has_ended:
                return
            batch = idle[start : start + CHECK_BATCH]
            before = [each.heard_at for each in batch]
            try:
                answers = [self._owner.broker.submit("position", each.name) for each in batch]
                replies = [each.wait() for each in answers]
            except (BrokerDown, BrokerError):
                return
            for channel, heard_at, reply in zip(batch, before, replies, strict=True):
                epoch, offset = cast("tuple[bytes, int]", reply)
                if channel.held is not None or channel.heard_at != heard_at:
                    continue
                if (epoch.decode("ascii"), offset) == (channel.epoch, channel.offset):
                    channel.heard_at = time.monotonic()
                else:
                    channel.held = HeldFrames()
                    self._add(channel, Incident(_time_of_day(heard_at), 0.0))
        self._work_soon()


def _time_of_day(heard_at: float) -> float:
    # Seconds since the epoch; 0: nothing was heard yet.
    return time.time() - (time.monotonic() - heard_at) if heard_at else 0.0
