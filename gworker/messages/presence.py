"""Who is in the groups that are declared with presence: what the broker is told of the members
here, and the events that all members hear.

A join is told by the process that has it, a leave by the first process that finds it due, 3 seconds
later. Both go to the channel of the group, so that all processes see them in one order.
"""

from __future__ import annotations

import _thread
import json
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Final, NamedTuple, cast

from gworker.broker.interface import Answer, Broker
from gworker.errors import BrokerDown, BrokerError
from gworker.messages import control, frame
from gworker.messages.calls import Member, member_of
from gworker.messages.channels import GROUP, USER, Channel, Channels
from gworker.messages.membership import Membership
from gworker.system import fork_guard

log = logging.getLogger("gworker")

# Seconds in which joins of a group are collected: they are told in one frame.
COLLECTED_SECONDS: Final = 0.05

# Seconds between two looks for leaves that are due.
ROUND_SECONDS: Final = 1.0

# Partitions of which one look asks, in turn. All 128 of a Redis are asked of within 8 seconds, and
# by each process of the cluster; those of its own leaves a process asks of when they are due.
MOST_ASKED: Final = 16

# Seconds after which a leave is due, and a little more for its way to the broker.
LEAVE_SECONDS: Final = 3.1

# Rounds for which a leave is remembered that the broker has heard of: until it is told, and some
# more, as a broker that is up again may take a moment to see that it has lost its data.
REMEMBERED_ROUNDS: Final = 6

# Seconds between two announcements to a broker that is up and misses some.
AGAIN_SECONDS: Final = 5.0

# Leaves in one answer of a broker, which may have more of them then.
FULL_ANSWER: Final = 1000

# Announcements that are sent before they are waited for.
BATCH: Final = 200

# Bytes of the members in one frame; more make a further one.
FRAME_BYTES: Final = 1 << 18

# A broker that refuses, as it is full, say, is told again as one that is down: by and by.
UNTOLD: Final = (BrokerDown, BrokerError)

_UNKNOWN: Final = b""


def in_background(work: Callable[..., object], *arguments: object) -> None:
    """Run `work` in a thread, or greenlet, of its own.

    `threading.Thread.start` waits until it runs, which nothing may do in the event loop.
    """
    _thread.start_new_thread(work, arguments)


class _Entry(NamedTuple):
    # What a broker has of a member.
    name: bytes
    identity: bytes
    info: bytes


class _Entering(NamedTuple):
    # One that is under way.
    channel: Channel
    connection: Any
    entry: _Entry
    answer: Answer


class _Exit(NamedTuple):
    # process: whose member it was. was_known: the broker may have had it.
    channel: bytes
    process: bytes
    entry: _Entry
    was_known: bool


class _Events:
    """What is to be told of one group: members by their identity. Leaves come first."""

    __slots__ = ("joined", "left")

    def __init__(self) -> None:
        self.joined: dict[bytes, Member] = {}
        self.left: dict[bytes, Member] = {}

    def leave(self, identity: bytes, member: Member) -> None:
        # One that nobody has seen come is not told to go.
        if self.joined.pop(identity, None) is None:
            self.left[identity] = member

    def add(self, later: _Events) -> None:
        for identity, member in later.left.items():
            self.leave(identity, member)
        self.joined.update(later.joined)

    def frames(self) -> list[bytes]:
        bodies = []
        joined: list[Member] = []
        left: list[Member] = []
        size = 0
        for members, part in ((self.left.values(), left), (self.joined.values(), joined)):
            for member in members:
                part.append(member)
                size += len(json.dumps(member))
                if size >= FRAME_BYTES:
                    bodies.append(frame.control(control.presence(joined, left)))
                    joined.clear()
                    left.clear()
                    size = 0
        if joined or left:
            bodies.append(frame.control(control.presence(joined, left)))
        return bodies


class Presence:
    """What one process tells and hears of members.

    client_id_of: of a connection. spawn: runs a function in a greenlet of its own. callback: the
    on_presence of this process. report: counts and logs the exception that is being handled.
    announce_soon: has `announce` called.
    is_dirty: the broker has to be told something that it was not.
    """

    def __init__(
        self,
        broker: Broker,
        channels: Channels,
        client_id_of: Callable[[Any], str],
        spawn: Callable[..., object],
        report: Callable[..., None],
        callback: Callable[..., object] | None,
        announce_soon: Callable[[], object],
    ) -> None:
        self.is_dirty = False
        self._announce_soon = announce_soon
        self._announced_at = 0.0  # in monotonic seconds
        self._broker = broker
        self._channels = channels
        self._client_id_of = client_id_of
        self._spawn = spawn
        self._report = report
        self._callback = callback
        self._has_ended = False

        # Members that the broker has not confirmed, and whether it may have them all the same.
        self._unconfirmed: dict[tuple[Channel, Any], bool] = {}
        self._exits: deque[tuple[Answer, _Exit]] = deque()  # that are under way
        self._is_confirming = False
        self._untold: list[_Exit] = []
        # Of the last rounds with a broker that is up: it may lose them before anybody is told.
        self._recent: deque[list[_Exit]] = deque([[]], REMEMBERED_ROUNDS)
        # By partition: what tells whether the broker has lost its data since.
        self._epochs: dict[int, bytes] = {}
        self._lost: set[int] = set()  # partitions of which all has to be told anew, silently

        self._events: dict[bytes, _Events] = {}  # to be told, by channel
        self._is_collecting = False
        self._waiting: dict[Channel, deque[tuple[list[Member], list[Member]]]] = {}

        self._groups: dict[Channel, None] = {}  # with members here
        self._due: dict[int, tuple[float, bytes]] = {}  # by partition: when, and a channel of it
        self._is_looking = False
        self._turn = random.SystemRandom().randrange(128)

    def end(self) -> None:
        """The process ends: what is collected goes out with the last that is sent."""
        self._has_ended = True
        for channel, events in self._events.items():
            for body in events.frames():
                self._broker.post("publish", channel, body)

    # ---- members here

    def enter(
        self, channel: Channel, connection: Any, membership: Membership, previous: bytes = b""
    ) -> None:
        """A connection is a member of a group, or of a user, and the broker has heard it; if it is
        down, it will. previous: the process that held the member."""
        if channel.kind == GROUP:
            self._groups[channel] = None
            self._look_later()
        try:
            self._learn_epoch(channel)
            if not self._is_still_there(channel, connection):
                return
            entering = self._entering(channel, connection, membership, previous)
            is_new = entering.answer.wait() == 1
        except UNTOLD as error:
            self._is_untold()
            if connection in channel.members:
                is_uncertain = isinstance(error, BrokerDown) and error.uncertain
                known = self._unconfirmed.get((channel, connection), False)
                self._unconfirmed[channel, connection] = known or is_uncertain
        else:
            self._entered(entering, is_new, False)

    def _is_still_there(self, channel: Channel, connection: Any) -> bool:
        # One that has gone has been told to: nobody would tell that it goes a second time. Its
        # client id may have to be heard of first, which takes a moment, too.
        self._client_id_of(connection)
        return connection in channel.members

    def _entering(
        self, channel: Channel, connection: Any, membership: Membership, previous: bytes = b""
    ) -> _Entering:
        entry = self._entry(channel, connection, membership)
        events = b"1" if channel.kind == GROUP else b"0"
        process = self._broker.process
        answer = self._broker.submit("enter", channel.name, process, previous, *entry, events)
        return _Entering(channel, connection, entry, answer)

    def _entry(self, channel: Channel, connection: Any, membership: Membership) -> _Entry:
        name = self._client_id_of(connection).encode()
        identity = name if membership.user is None else membership.user.text.encode()
        return _Entry(name, identity, membership.info(channel))

    def _entered(self, entering: _Entering, is_new: bool, is_silent: bool) -> None:
        # is_silent: unless the broker had not heard of it.
        channel = entering.channel
        is_uncertain = self._unconfirmed.pop((channel, entering.connection), None)
        is_told = is_new and not is_silent if is_uncertain is None else is_new or is_uncertain
        if is_told and channel.kind == GROUP:
            events = self._events.setdefault(channel.name, _Events())
            events.joined[entering.entry.identity] = member_of(entering.entry)
            self._collect()

    def submit_moved(
        self, moved: Mapping[Channel, Sequence[Any]], previous: bytes
    ) -> list[_Entering]:
        """Members of the process `previous` are here now. It waits for nothing: `finish_moved` does
        that, with what this returns."""
        under_way = []
        for channel, connections in moved.items():
            if not (channel.declaration.presence or channel.kind == USER):
                continue
            if channel.kind == GROUP:
                self._groups[channel] = None
                self._look_later()
                partition = self._broker.partition_of(channel.name)
                self._epochs.setdefault(partition, _UNKNOWN)  # `finish_moved` asks for it
            for connection in connections:
                membership: Membership | None = connection.membership
                if membership is None:
                    continue
                try:
                    under_way.append(self._entering(channel, connection, membership, previous))
                except BrokerDown:  # the broker has it, of another process
                    self._is_untold()
        return under_way

    def finish_moved(self, under_way: list[_Entering]) -> None:
        try:
            for each in under_way:
                each.answer.wait()
                self._learn_epoch(each.channel)
        except UNTOLD:
            self._is_untold()

    def exit(self, channel: Channel, connection: Any, membership: Membership) -> None:
        """A connection is a member no longer. It waits for nothing."""
        was_known = self._unconfirmed.pop((channel, connection), True)
        entry = self._entry(channel, connection, membership)
        self._exit(_Exit(channel.name, self._broker.process, entry, was_known))

    def _exit(self, one: _Exit) -> None:
        try:
            self._submit_exit(one)
        except BrokerDown:
            self._exited_not(one)

    def _exited_not(self, one: _Exit) -> None:
        self._untold.append(one)
        self._is_untold()

    def _submit_exit(self, one: _Exit) -> None:
        call = self._broker.submit("exit", one.channel, one.process, one.entry.name)
        self._exits.append((call, one))
        if one.channel.startswith(GROUP):
            self._look_at(one.channel)
        if not self._is_confirming:
            self._is_confirming = True
            self._start(self._confirm_exits)

    def _confirm_exits(self) -> None:
        while self._exits:
            call, one = self._exits[0]
            try:
                call.wait()
            except UNTOLD:
                self._exited_not(one)
            else:
                if one.channel.startswith(GROUP):
                    self._recent[-1].append(one)
            self._exits.popleft()
        self._is_confirming = False

    # ---- after the broker was down, or has lost what it knew of this process

    def announce(self, is_current: Callable[[], bool]) -> None:
        """Tell the broker of all members here. Raises BrokerDown, BrokerError."""
        self.is_dirty = False
        self._announced_at = time.monotonic()
        try:
            self._find_lost()
            self._announce_exits()
            if self._announce_members(is_current):
                self._lost.clear()
        except UNTOLD:
            self._is_untold()
            raise
        if self._events:
            self._collect()

    def _find_lost(self) -> None:
        # Partitions of which the broker has lost the data since this process first used them.
        names = [channel.name for channel in self._groups]
        before = [
            each for some in self._recent for each in some if each.process != self._broker.process
        ]
        names += [each.channel for each in (*self._untold, *before)]
        for partition in {self._broker.partition_of(each) for each in names}:
            epoch = self._epoch(self._ask_epoch(partition))
            if self._epochs.get(partition, epoch) != epoch:
                self._lost.add(partition)
            self._epochs[partition] = epoch
        again = {each for each in before if self._is_lost(each.channel)}
        self._untold += again
        for some in self._recent:
            some[:] = [each for each in some if each not in again]

    def _learn_epoch(self, channel: Channel) -> None:
        partition = self._broker.partition_of(channel.name)
        if channel.kind == GROUP and not self._epochs.get(partition):
            answer = self._ask_epoch(partition)
            self._epochs[partition] = _UNKNOWN  # until it is here: the data may be lost before
            self._epochs[partition] = self._epoch(answer)

    def _ask_epoch(self, partition: int) -> Answer:
        # Of a channel that nobody uses. Any name will do, if all processes find the same one.
        names = (b"e:%d" % number for number in count())
        name = next(each for each in names if self._broker.partition_of(each) == partition)
        return self._broker.submit("position", name)

    @staticmethod
    def _epoch(answer: Answer) -> bytes:
        return cast("tuple[bytes, int]", answer.wait())[0]

    def _announce_exits(self) -> None:
        while self._untold:
            one = self._untold[0]
            if one.was_known and one.channel.startswith(GROUP) and self._is_lost(one.channel):
                # The broker knows nothing of a member that has gone meanwhile: it comes, and goes.
                again = one._replace(process=self._broker.process)
                self._broker.submit("enter", one.channel, again.process, b"", *one.entry, b"1")
                self._submit_exit(again)
            elif one.process == self._broker.process:
                self._submit_exit(one)
            del self._untold[0]

    def _is_lost(self, channel: bytes) -> bool:
        return self._broker.partition_of(channel) in self._lost

    def _announce_members(self, is_current: Callable[[], bool]) -> bool:
        under_way: list[_Entering] = []
        for channel in self._channels:
            if not (channel.declaration.presence or channel.kind == USER):
                continue
            for connection in list(channel.members):
                if not is_current() or self._has_ended:
                    return False
                membership: Membership | None = connection.membership
                if membership is None or not self._is_still_there(channel, connection):
                    continue
                under_way.append(self._entering(channel, connection, membership))
                if len(under_way) >= BATCH:
                    self._finish(under_way)
        self._finish(under_way)
        return True

    def _finish(self, under_way: list[_Entering]) -> None:
        # A broker that has lost its data takes those that stayed for new ones.
        for each in under_way:
            is_new = each.answer.wait() == 1
            self._entered(each, is_new, self._is_lost(each.channel.name))
        under_way.clear()

    # ---- events: those that are told

    def _collect(self) -> None:
        if not self._is_collecting and not self._has_ended:
            self._is_collecting = True
            self._start(self._tell_collected)

    def _tell_collected(self) -> None:
        time.sleep(COLLECTED_SECONDS)
        self._is_collecting = False
        self._tell()

    def _tell(self) -> None:
        events, self._events = self._events, {}
        untold = dict(events)
        calls = []
        try:
            for channel, each in events.items():
                answers = [self._broker.submit("publish", channel, body) for body in each.frames()]
                calls.append((channel, answers))
            for channel, answers in calls:
                for answer in answers:
                    answer.wait()
                del untold[channel]
        except UNTOLD:
            self._is_untold()
            for channel, each in self._events.items():
                untold.setdefault(channel, _Events()).add(each)
            self._events = untold

    # ---- leaves that are due

    def look_for_leaves(self) -> None:
        """Another process has lost its members: their leaves are due soon."""
        for channel in self._groups:
            self._look_at(channel.name)

    def _look_at(self, channel: bytes) -> None:
        # The leave of a member that goes now is due later than those that have gone before.
        when = time.monotonic() + LEAVE_SECONDS
        self._due.setdefault(self._broker.partition_of(channel), (when, channel))
        self._look_later()

    def _is_untold(self) -> None:
        # A broker that is down will be told when it is up; one that has missed a call, by and by.
        self.is_dirty = True
        self._look_later()

    def _look_later(self) -> None:
        if not self._is_looking and not self._has_ended:
            self._is_looking = True
            self._start(self._look)

    def _look(self) -> None:
        while (self._groups or self._due or self.is_dirty or any(self._recent)) and (
            not self._has_ended
        ):
            time.sleep(ROUND_SECONDS)
            for channel in [each for each in self._groups if not each.members]:
                del self._groups[channel]
            if self._broker.state != "down" and not self._has_ended:
                self._take_leaves()
                self._recent.append([])
                if self.is_dirty and time.monotonic() - self._announced_at >= AGAIN_SECONDS:
                    self._announced_at = time.monotonic()
                    self._announce_soon()
        self._is_looking = False

    def _take_leaves(self) -> None:
        used = {self._broker.partition_of(each.name): each.name for each in self._groups}
        asked = self._next_of(used)
        now = time.monotonic()
        for partition in [each for each, (when, _) in self._due.items() if when <= now]:
            asked[partition] = self._due.pop(partition)[1]
        try:
            calls = [self._broker.submit("take_due_leaves", each) for each in asked.values()]
            for channel, call in zip(asked.values(), calls, strict=True):
                leaves = cast("list[list[bytes]]", call.wait())
                for of, *member in leaves:
                    self._events.setdefault(of, _Events()).leave(member[1], member_of(member))
                if len(leaves) >= FULL_ANSWER:
                    self._due[self._broker.partition_of(channel)] = now, channel
        except BrokerDown:
            pass  # what it has is due later
        except Exception:
            log.exception("who has left groups could not be asked")
        if any(each.left for each in self._events.values()):
            self._tell()  # at once: who is back now is told as a join later

    def _next_of(self, used: dict[int, bytes]) -> dict[int, bytes]:
        # The partitions whose turn it is.
        ordered = sorted(used)
        self._turn = self._turn % max(1, len(ordered))
        chosen = (ordered[self._turn :] + ordered[: self._turn])[:MOST_ASKED]
        self._turn += len(chosen)
        return {each: used[each] for each in chosen}

    # ---- events: those that are heard

    def changed(self, channel: Channel, joined: Sequence[Any], left: Sequence[Any]) -> None:
        """Members have come to a group and gone. Raises ValueError for what are no members."""
        if self._callback is None or not channel.members:
            return
        events = [_member(each) for each in joined], [_member(each) for each in left]
        waiting = self._waiting.get(channel)
        if waiting is not None:
            waiting.append(events)
        else:
            self._waiting[channel] = deque([events])
            self._spawn(self._call, channel)

    def _call(self, channel: Channel) -> None:
        waiting = self._waiting[channel]
        callback = cast("Callable[..., object]", self._callback)
        try:
            while waiting and channel.members:
                joined, left = waiting.popleft()
                try:
                    callback(channel.text, joined, left, list(channel.members))
                except BaseException:  # gevent.Timeout, say
                    self._report("on_presence of the group %r: exception", channel.text)
                fork_guard.end()
        finally:
            del self._waiting[channel]

    def _start(self, work: Callable[[], None]) -> None:
        in_background(work)


def _member(given: Any) -> Member:
    match given:
        case [str(client_id), str() | None as uid, presence]:
            return Member(client_id, uid, presence)
    raise ValueError(f"{given!r} is no member")
