"""Messages in one process: what its connections and functions are members of, and what arrives.

The broker's reader calls in here, and delivers to all local members itself: so what a channel
brings stays in its order, and a process that is busy holds the broker back. What a connection joins
or leaves while the broker is down is done here, and announced when it is up.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gworker.broker.interface import Broker, State
from gworker.errors import BrokerDown, BrokerError, ConfigError
from gworker.messages import control, frame
from gworker.messages.calls import Calls
from gworker.messages.channels import EVERYONE, GROUP, INBOX, USER, Channel, Channels
from gworker.messages.declarations import Declarations, conflict, declared
from gworker.messages.delivery import SLICE_SECONDS, Delivery
from gworker.messages.frame import Frame
from gworker.messages.functions import Function, Functions
from gworker.messages.membership import Belongings, Joined, Membership, presence_text
from gworker.messages.positions import Arrival, Departure
from gworker.messages.presence import Presence, in_background
from gworker.messages.recovery import Content, Recovery

log = logging.getLogger("gworker")

# Seconds that a first use waits for the broker. It goes on without.
FIRST_USE_SECONDS: Final = 2.0

# Seconds for which it is remembered who has got a message of publish_many.
CALL_SECONDS: Final = 5.0

# Seconds between two looks at what is not needed any more.
SWEEP_SECONDS: Final = 0.5

ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(slots=True)
class Host:
    """What a process is to its messages.

    connections: its open ones, by id. worker: the name of its Worker. callbacks: its on_presence,
    on_gap and on_broker_state. spawn: runs a function with arguments in a greenlet of its own;
    what it raises is reported. pause: lets others have their turn. report: counts and logs the
    exception that is being handled. generation: of the application.
    """

    connections: Mapping[int, Any]
    worker: str
    spawn: Callable[..., object]
    pause: Callable[[], object]
    report: Callable[..., None]
    callbacks: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    generation: int = 1


class Messaging(Calls):
    """The messages of one process. It implements `broker.interface.Listener`.

    gaps: how often groups may have missed something. has_ended: it does nothing more. For the rest
    see `Delivery` and `Calls`.
    """

    def __init__(self, broker: Broker, host: Host, declarations: Declarations = declared) -> None:
        super().__init__(broker, declarations)
        self.broker: Broker = broker
        self.declarations: Declarations = declarations
        self.channels = Channels()
        self.delivery = Delivery(host.pause, host.report)
        self.presence = Presence(
            broker,
            self.channels,
            self.client_id_of,
            host.spawn,
            host.report,
            host.callbacks.get("on_presence"),
            self._announce_soon,
        )
        self.recovery = Recovery(self)
        self.gaps = 0
        self.state: State = "down"
        self.is_ready = False
        self.inbox = "".join(secrets.choice(ALPHABET) for _ in range(13))
        self._host = host
        self._starting = threading.Lock()
        self.has_ended = False
        self._is_sweeping = False
        self._announcement = 0  # the number of the last one: an earlier one gives up
        self._is_dirty = False  # something was not told, as the broker was down
        self._calls: dict[str, tuple[float, set[Any]]] = {}  # of publish_many: when, and who
        self._has_moved: set[str] = set()  # inboxes of which other processes have connections
        self.departures: list[Departure] = []
        self._deliveries = 0  # under way: of the reader, and of what was missed
        self._after_delivery: list[Callable[[], None]] = []
        self._open_gaps: dict[str, float] = {}  # groups, and since when; to be told when it is up
        # What the parts of it need of its process.
        self.spawn: Callable[..., object] = host.spawn
        self.report: Callable[..., None] = host.report
        self._unreadable = 0

    # ---- its life

    def start(self, wait: float = FIRST_USE_SECONDS, must_be_up: bool = False) -> None:
        """Connect, once. Raises ConfigError if a declaration differs from what another process has
        declared, BrokerError if the broker is not fit; BrokerDown, after `wait` seconds, only if it
        must be up."""
        with self._starting:
            if self.is_ready or self.has_ended:
                return
            try:
                self.broker.start(self, wait)
                self._declare()
            except BrokerDown:
                if must_be_up:
                    raise
                self._is_dirty = True
            self.hear(self.everyone)
            self.is_ready = True

    def end(self) -> None:
        """The process ends."""
        self.has_ended = True
        if self.is_ready:
            self.presence.end()
            self.broker.close()

    def let_go(self) -> None:
        """In a process that user code has forked: all of this is the parent's."""
        self.has_ended = True
        self.broker.let_go()

    def process_died(self, pid: int) -> bool:
        """Another process of this instance has ended. A broker that does not see that by itself
        is told. False: it is down, or refuses to hear it."""
        try:
            self.broker.process_died(pid)
        except (BrokerDown, BrokerError):
            return False
        self.presence.look_for_leaves()
        return True

    def _declare(self) -> None:
        generation = b"%d" % self._host.generation
        for one in self.declarations:
            other = self.broker.call(
                "declare", b"", one.pattern.encode(), one.text.encode(), generation
            )
            if isinstance(other, bytes) and other:
                raise ConfigError(conflict(one, other.decode()))

    def _declare_again(self) -> None:
        try:
            self._declare()
        except ConfigError as error:  # a newer generation was faster: its successor will agree
            log.warning("%s", error)

    # ---- what connections ask for

    def client_id_of(self, connection: Any) -> str:
        membership: Membership | None = connection.membership
        channel = None if membership is None else membership.inbox
        if channel is None and connection.status != "closed":
            channel = self.channels.obtain(INBOX, self.inbox)
            membership = connection.membership = membership or Membership()
            membership.inbox = channel
            channel.members[connection] = None
            self.hear([channel])
        inbox = self.inbox if channel is None else channel.text
        return f"{inbox}.{frame.base36(connection.id)}"

    def is_gone(self, client_id: str) -> bool:
        inbox, _, number = client_id.partition(".")
        is_ours = inbox == self.inbox and inbox not in self._has_moved
        return is_ours and self._connection(inbox, number) is None

    def _connection(self, inbox: str, number: str) -> Any:
        # The one of that client id, if it is here; else None.
        connection = self._host.connections.get(int(number, 36))
        membership: Membership | None = None if connection is None else connection.membership
        channel = None if membership is None else membership.inbox
        return connection if channel is not None and channel.text == inbox else None

    def join_group(
        self, connection: Any, group: str, since: str | None = None, presence: Any = None
    ) -> Joined:
        text = frame.name(group, "a group")
        info = presence_text(presence)
        membership = self._membership(connection)
        if membership is None:
            return Joined()
        if since is not None and self.broker.state == "down":
            raise BrokerDown("the broker is down")
        channel = self.channels.obtain(GROUP, text, self.declarations.of(text))
        is_member = channel in membership.channels
        shown = membership.info(channel)
        is_told = is_member and shown == info
        membership.channels[channel] = channel.members[connection] = None
        membership.set_info(channel, info)
        joined = Joined()
        try:
            if channel.declaration.keeps:
                joined = self.recovery.join(channel, connection, since, is_member)
                self._sweep_later()
            else:
                self.hear([channel], must=since is not None)
        except BaseException:  # BrokerDown, or a gevent.Timeout of the caller: it is what it was
            if not is_member and membership.leave(channel):
                self._drop(channel, connection)
            elif channel in membership.channels:
                membership.set_info(channel, shown)
            raise
        if channel.declaration.presence and not is_told and connection in channel.members:
            self.enter(channel, connection, membership)
        return joined

    def leave_group(self, connection: Any, group: str) -> None:
        membership: Membership | None = connection.membership
        channel = self.channels.get(GROUP + frame.name(group, "a group").encode())
        if channel is not None and membership is not None and channel in membership.channels:
            self._remove(channel, connection, membership)
            membership.leave(channel)

    def bind(self, connection: Any, uid: str | int, single: bool = False) -> None:
        text = frame.user(uid)
        membership = self._membership(connection)
        if membership is None:
            return
        channel = membership.user
        if channel is None or channel.text != text:
            if channel is not None:
                self._unbind(connection, membership)
            channel = self.channels.obtain(USER, text)
            membership.user = channel
            membership.is_single = single
            channel.members[connection] = None
            self.hear([channel])
            for each in (channel, *membership.channels):
                if each is channel or (each.declaration.presence and membership.user is channel):
                    self.enter(each, connection, membership)
        if single and membership.user is channel:
            membership.is_single = True
            self._send_single(channel, connection)

    def _send_single(self, channel: Channel, connection: Any) -> None:
        kept = self.client_id_of(connection)
        try:
            self.broker.call("publish", channel.name, frame.control(control.single(kept)))
        except BrokerDown:  # the others are told when it is up
            self._is_dirty = True
            others = [each for each in channel.members if each is not connection]
            self.each(others, lambda one: one.close(code=control.ELSEWHERE))

    def unbind(self, connection: Any) -> None:
        membership: Membership | None = connection.membership
        if membership is None or membership.user is None:
            return
        self._unbind(connection, membership)
        for channel in list(membership.channels):
            if channel.declaration.presence:
                self.enter(channel, connection, membership)

    def _unbind(self, connection: Any, membership: Membership) -> None:
        channel = membership.user
        membership.is_single = False
        if channel is not None:
            self._remove(channel, connection, membership)
            membership.user = None

    def forget(self, connection: Any) -> None:
        """It has ended: it leaves all. Waits for nothing."""
        membership: Membership | None = connection.membership
        if membership is None or self.has_ended:
            return
        for channel in membership.channels:
            self._remove(channel, connection, membership)
        self._unbind(connection, membership)
        if membership.inbox is not None:
            self._remove(membership.inbox, connection, membership)
        connection.membership = None

    def _membership(self, connection: Any) -> Membership | None:
        # Raises TypeError for what cannot be a member; None: it has ended.
        if not connection.may_join:
            raise TypeError(
                f"{connection!r}: a peer of the {connection.protocol} protocol gets answers only, "
                "and cannot join a group or be bound to a user"
            )
        if connection.status == "closed":
            return None
        membership: Membership | None = connection.membership
        if membership is None:
            membership = connection.membership = Membership()
        return membership

    # ---- what the broker is told

    def hear(self, channels: Sequence[Channel], must: bool = False) -> None:
        """Subscribe, unless that was done. While the broker is down, it is done later, or raises
        BrokerDown if it must be done now."""
        missing = [each for each in channels if not each.is_heard]
        if not missing:
            return
        try:
            self.broker.subscribe([each.name for each in missing])
        except BrokerDown:
            if must:
                raise
            return
        for each in missing:
            each.is_heard = True
        if any(each.declaration.keeps for each in missing):
            self.recovery.watch()

    def _hear_all(self) -> None:
        self.hear(list(self.channels))

    def enter(
        self, channel: Channel, connection: Any, membership: Membership, previous: bytes = b""
    ) -> None:
        """See `Presence.enter`."""
        self.presence.enter(channel, connection, membership, previous)

    def _remove(self, channel: Channel, connection: Any, membership: Membership) -> None:
        # Of what is held here; its membership is the caller's.
        self._drop(channel, connection)
        if channel.declaration.presence or channel.kind == USER:
            self.presence.exit(channel, connection, membership)

    def _drop(self, channel: Channel, connection: Any) -> None:
        channel.members.pop(connection, None)
        channel.holds.pop(connection, None)
        self.left(channel)

    def left(self, channel: Channel) -> None:
        self.channels.left(channel)
        self._sweep_later()

    def _sweep_later(self) -> None:
        if not self._is_sweeping:
            self._is_sweeping = True
            in_background(self._sweep)

    @property
    def _has_old(self) -> bool:
        return bool(self.channels.has_idle or self._calls or self.recovery.questions)

    def _sweep(self) -> None:
        while self._has_old and not self.has_ended:
            time.sleep(SWEEP_SECONDS)
            self.recovery.questions.drop_old()
            self._drop_old_calls()
            names = self.channels.take_idle()
            if names and not self.has_ended:
                self.broker.unsubscribe(names)
        self._is_sweeping = False

    # ---- functions

    def subscribe(self, group: str, function: Function) -> None:
        text = frame.name(group, "a group")
        if not callable(function):
            raise TypeError(f"subscribe() takes a function, not {type(function).__name__}")
        channel = self.channels.obtain(GROUP, text, self.declarations.of(text))
        if channel.functions is None:
            channel.functions = Functions(text, self._host.spawn, self._host.report)
        if function not in channel.functions.all:
            channel.functions.all.append(function)
        self.hear([channel])
        if channel.declaration.keeps:
            self.recovery.position_of(channel)

    def unsubscribe(self, group: str) -> None:
        channel = self.channels.get(GROUP + frame.name(group, "a group").encode())
        if channel is not None and channel.functions is not None:
            channel.functions.clear()
            channel.functions = None
            self.left(channel)

    # ---- what arrives: in the broker's reader

    def on_message(self, channel: bytes, payload: bytes) -> None:
        found = self.channels.get(channel)
        if found is None:  # it was left a moment ago
            return
        found.received += 1
        if found.backlog is not None:
            self.show(found, found.backlog.add(payload))
            self.drop_backlog(found)
        try:
            arrived = frame.arrived(payload)
        except ValueError as error:
            self._note_unreadable(found, error)
            return
        if not found.declaration.keeps or self.recovery.admits(found, arrived):
            self.give(found, arrived)

    def _note_unreadable(self, channel: Channel, error: ValueError) -> None:
        self._unreadable += 1
        if self._unreadable == 1:
            log.warning("a message of %r cannot be read, and is dropped: %s", channel.name, error)

    def give(self, channel: Channel, arrived: frame.Arrived) -> None:
        """Give a message to the functions and the members that are here, and obey an order."""
        self._deliveries += 1
        try:
            self._give(channel, arrived)
        except ValueError as error:
            self._note_unreadable(channel, error)
        finally:
            self._deliveries -= 1
            if self._after_delivery and not self._deliveries:
                self._call_after_delivery()

    def _give(self, channel: Channel, arrived: frame.Arrived) -> None:
        message = frame.decoded(arrived.body)
        targets = self._targets(channel, message.header)
        if message.kind == frame.CONTROL:
            control.obey(self, channel, targets, message.data)
            return
        functions = channel.functions
        if functions is not None and not functions.add(message.message):
            self.delivery.dropped += 1
        if not targets:
            return
        content = self._content(channel, message, frame.position(arrived.epoch, arrived.offset))
        if content is None:
            return
        if channel.holds:
            held = Content(arrived.epoch, arrived.offset, message.header, content)
            targets = self.recovery.live(channel, targets, arrived, held)
        still = channel if channel.members else None
        self.delivery.deliver(content, targets, channel.declaration.slow, still)

    def content(self, channel: Channel, arrived: frame.Arrived) -> Content | None:
        """What connections get of a message that was kept; None: nothing."""
        try:
            message = frame.decoded(arrived.body)
            content = self._content(channel, message, frame.position(*arrived[:2]))
        except ValueError as error:
            self._note_unreadable(channel, error)
            return None
        if content is None:
            return None
        return Content(arrived.epoch, arrived.offset, message.header, content)

    def is_for(self, connection: Any, header: Mapping[str, Any]) -> bool:
        """False: the message leaves it out."""
        return not header or connection not in self._left_out(header)

    def _targets(self, channel: Channel, header: Mapping[str, Any]) -> list[Any]:
        # The connections that a message of a channel is for.
        kind = channel.kind
        if kind == INBOX:
            number = header.get(frame.TARGET)
            if number is None:  # a marker, say
                return []
            if not isinstance(number, str):
                raise ValueError("it is for no connection")
            one = self._connection(channel.text, number)
            return [one] if one in channel.members else []
        if kind != EVERYONE:
            found = list(channel.members)
        else:
            found = list(self._host.connections.values())
            if channel.backlog is not None and (hidden := channel.backlog.hidden):
                found = [each for each in found if each not in hidden]
        return self._chosen(found, header) if header else found

    def _chosen(self, found: list[Any], header: Mapping[str, Any]) -> list[Any]:
        left_out = self._left_out(header)
        if (call := header.get(frame.CALL)) is not None:
            left_out |= (seen := self._seen(str(call)))
            seen.update(found)
        return [each for each in found if each not in left_out] if left_out else found

    def _left_out(self, header: Mapping[str, Any]) -> set[Any]:
        found: set[Any] = set()
        for each in header.get(frame.EXCLUDED, ()):
            if (parts := frame.parsed_client_id(each)) is not None:
                found.add(self._connection(*parts))
        for each in header.get(frame.EXCLUDED_USERS, ()):
            channel = self.channels.get(USER + each.encode())
            if channel is not None:
                found.update(channel.members)
        return found

    def _seen(self, call: str) -> set[Any]:
        # Who has got a message of that call of publish_many.
        self._drop_old_calls()
        known = self._calls.get(call)
        if known is None:
            known = self._calls[call] = (time.monotonic(), set())
            self._sweep_later()
        return known[1]

    def _drop_old_calls(self) -> None:
        until = time.monotonic() - CALL_SECONDS
        while self._calls and next(iter(self._calls.values()))[0] < until:
            del self._calls[next(iter(self._calls))]

    def _content(self, channel: Channel, message: Frame, position: str) -> str | bytes | None:
        # What connections get of a message; None: that failed.
        wrap = channel.declaration.wrap
        if wrap is None:
            return message.content
        try:
            kind, data = frame.serialized(wrap(message.message, position))
        except BaseException:  # it would end the reader of the broker
            self._host.report("wrap of the groups %r: exception", channel.declaration.pattern)
            return None
        return data if kind == frame.BINARY else data.decode()

    # ---- connections that move: from the event loop, without waiting (`positions`)

    @property
    def everyone(self) -> list[Channel]:
        """The channels that all connections of this process hear."""
        return [self.channels.obtain(EVERYONE, text) for text in ("", self._host.worker)]

    def arrival(self) -> Arrival:
        """For the connections that come from one predecessor."""
        return Arrival(self)

    def departure(
        self, announce: Callable[[str, Sequence[bytes]], None], on_marked: Callable[[], None]
    ) -> Departure:
        """For the connections that go to one successor: see `Departure`."""
        return Departure(self, announce, on_marked)

    def channel(self, kind: bytes, text: str) -> Channel:
        """A channel, known from now on."""
        if kind == GROUP:
            return self.channels.obtain(kind, text, self.declarations.of(text))
        return self.channels.obtain(kind, text)

    def marked(self, channel: Channel, marker: str) -> None:
        if channel.backlog is not None:
            channel.backlog.mark(marker)
        for departure in self.departures:
            departure.marked(channel, marker)

    def after_delivery(self, function: Callable[[], None]) -> None:
        """Call `function`, which waits for nothing, while no message is being delivered."""
        if self._deliveries:
            self._after_delivery.append(function)
        else:
            function()

    def _call_after_delivery(self) -> None:
        functions, self._after_delivery = self._after_delivery, []
        for function in functions:
            try:
                function()
            except Exception:
                self.report("connections that move: exception")

    def give_away(self, connection: Any) -> Belongings:
        """Another process has it now: it is a member of nothing here. The broker is not told."""
        membership: Membership = connection.membership
        calls = [each for each, (_, seen) in self._calls.items() if connection in seen]
        for channel in membership.all_channels:
            self._drop(channel, connection)
        if membership.inbox is not None:
            self._has_moved.add(membership.inbox.text)
        connection.membership = None
        return membership.belongings(calls)

    def adopt(self, connection: Any, belongings: Belongings) -> Iterable[Channel]:
        """It is what it was in its last process. It gets messages once it is shown (`show`)."""
        membership: Membership = connection.membership or Membership()
        connection.membership = membership
        for group, info in belongings.groups:
            channel = self.channel(GROUP, group)
            membership.channels[channel] = None
            membership.set_info(channel, info)
        if belongings.uid is not None:
            membership.user = self.channel(USER, belongings.uid)
            membership.is_single = belongings.is_single
        if belongings.inbox:
            membership.inbox = self.channel(INBOX, belongings.inbox)
        for call in belongings.calls:
            self._seen(call).add(connection)
        return list(membership.all_channels)

    def show(self, channel: Channel, connections: Iterable[Any]) -> None:
        """They get the messages of the channel from now on."""
        if channel.kind == EVERYONE:
            if channel.backlog is not None:
                channel.backlog.hidden.difference_update(connections)
            return
        for connection in connections:
            membership: Membership | None = connection.membership
            if membership is not None and channel in membership.all_channels:
                channel.members[connection] = None

    def drop_backlog(self, channel: Channel) -> None:
        """Keep its messages no longer, unless they are needed."""
        if channel.backlog is not None and not channel.backlog.is_needed:
            channel.backlog = None
            self.left(channel)

    def replay(
        self, channel: Channel, payload: bytes, connections: list[Any], obeying: control.Obeying
    ) -> None:
        """Do with some of a channel's connections what a message says that came before."""
        try:
            epoch, offset, body = frame.arrived(payload)
            message = frame.decoded(body)
            header = message.header
            targets = [each for each in connections if self._still_hears(channel, each)]
            if channel.kind == INBOX:
                one = self._connection(channel.text, str(header.get(frame.TARGET)))
                targets = [one] if one in targets else []
            elif header:
                users = header.get(frame.EXCLUDED_USERS, ())
                targets = [each for each in self._chosen(targets, header) if each.uid not in users]
            if message.kind == frame.CONTROL:
                control.obey(obeying, channel, targets, message.data)
                return
        except ValueError:  # it was told when it came
            return
        if targets:
            content = self._content(channel, message, frame.position(epoch, offset))
            if content is not None:
                self.delivery.send(content, targets, channel.declaration.slow)

    def _still_hears(self, channel: Channel, connection: Any) -> bool:
        return channel.kind == EVERYONE or connection in channel.members

    def announce_moved(self, moved: Mapping[Channel, Sequence[Any]], process: bytes) -> None:
        """Hear of these channels, and tell the broker whose members were those of `process`."""
        under_way = self.presence.submit_moved(moved, process)
        if under_way or not all(channel.is_heard for channel in moved):
            self.spawn(self._finish_moved, list(moved), under_way)

    def _finish_moved(self, channels: Sequence[Channel], under_way: list[Any]) -> None:
        self.start()
        self.hear(channels)
        self.presence.finish_moved(under_way)

    def tell_gap(self, groups: Sequence[str], since: float, until: float = 0.0) -> None:
        """Messages since then may be missing; until 0: until now, or until the broker is up."""
        self.gaps += len(groups)
        if not until and self.broker.state == "down":
            self._open_gaps.update((each, self._open_gaps.get(each, since)) for each in groups)
        else:
            self.tell("on_gap", list(groups), since, until or time.time())

    def _tell_open_gaps(self) -> None:
        gaps, self._open_gaps = self._open_gaps, {}
        if gaps:
            self.tell("on_gap", list(gaps), min(gaps.values()), time.time())

    # ---- what orders do (`control.Obeying`)

    def each(self, connections: Iterable[Any], do: Callable[[Any], object]) -> None:
        until = time.monotonic() + SLICE_SECONDS
        for one in connections:
            try:
                do(one)
            except Exception:
                self._host.report("%r: an order could not be obeyed", one)
            if time.monotonic() >= until:
                self._host.pause()
                until = time.monotonic() + SLICE_SECONDS

    def join_soon(self, connection: Any, group: str) -> None:
        # Not in the reader of the broker, which would wait for itself.
        self._host.spawn(self.join_group, connection, group)

    def members_changed(self, channel: Channel, joined: Sequence[Any], left: Sequence[Any]) -> None:
        self.presence.changed(channel, joined, left)

    # ---- how the broker is

    def on_state(self, state: State) -> None:
        before, self.state = self.state, state
        if before != state:
            self.tell("on_broker_state", state)
        if state != "down":
            self._tell_open_gaps()
        if state != "down" and (self._is_dirty or self.presence.is_dirty):
            self._announce_soon()
        if state != "down" and not all(each.is_heard for each in self.channels):
            in_background(self._hear_all)
        self.recovery.on_state(state != "down")

    def on_interrupted(self, channels: Sequence[bytes], since: float, until: float) -> None:
        for name in channels:
            self._interrupt(self.channels.get(name))
        self.recovery.interrupted(self.channels.of_groups(channels), since, until)

    def _interrupt(self, channel: Channel | None) -> None:
        # Where connections that move are in it is known no longer.
        if channel is None:
            return
        for departure in self.departures:
            departure.interrupt(channel)
        if channel.backlog is not None:
            self.show(channel, channel.backlog.interrupt())
            self.drop_backlog(channel)

    def on_fenced(self) -> None:
        self._announce_soon()

    def tell(self, name: str, *arguments: object) -> None:
        callback = self._host.callbacks.get(name)
        if callback is not None:
            self._host.spawn(callback, *arguments)

    def _announce_soon(self) -> None:
        self._announcement += 1
        self._is_dirty = False
        number = self._announcement
        in_background(self._announce, number)

    def _announce(self, number: int) -> None:
        # Tell the broker all that it has to know of this process.
        try:
            self._declare_again()
            self.presence.announce(lambda: number == self._announcement and not self.has_ended)
            self._announce_single()
        except BrokerDown:
            self._is_dirty = True  # once more when it is up
        except BrokerError as error:  # once more in a few seconds
            log.warning("the broker refuses to hear what this process has: %s", error)
        except Exception:
            log.exception("the broker could not be told what this process has")

    def _announce_single(self) -> None:
        for channel in self.channels:
            if channel.kind == USER:
                for connection in list(channel.members):
                    membership: Membership | None = connection.membership
                    if membership is not None and membership.is_single:
                        self._send_single(channel, connection)
