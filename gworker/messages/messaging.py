"""Messages in one process: what its connections and functions are members of, and what arrives.

The broker's reader calls in here, and delivers to all local members itself: so what a channel
brings stays in its order, and a process that is busy holds the broker back. What a connection joins
or leaves while the broker is down is done here, and announced when it is up.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

from gworker.broker.deadline import Deadline
from gworker.broker.interface import Broker, State
from gworker.errors import BrokerDown, BrokerError
from gworker.messages.announcer import Announcer
from gworker.messages.background import in_background
from gworker.messages.calls import Calls
from gworker.messages.channels import GROUP, Channel, Channels
from gworker.messages.client_ids import ClientIds
from gworker.messages.control import obey
from gworker.messages.declarations import Declarations, declared
from gworker.messages.delivery import Delivery
from gworker.messages.distribution import Distribution
from gworker.messages.frame import checked_name, parsed_payload
from gworker.messages.functions import Function, Functions
from gworker.messages.gaps import Gaps
from gworker.messages.handover.handover import Handover
from gworker.messages.handover.successor import Successor
from gworker.messages.host import Host
from gworker.messages.memberships import Memberships
from gworker.messages.orders import Orders
from gworker.messages.presence.presence import Presence
from gworker.messages.recipients import Recipients
from gworker.messages.recovery.recovery import Recovery
from gworker.messages.single_binds import SingleBinds
from gworker.messages.subscriptions import Subscriptions
from gworker.messages.sweeper import Sweeper

# Seconds that a first use waits for the broker. It goes on without.
FIRST_USE_SECONDS: Final = 2.0


class Messaging:
    """The messages of one process. It implements `broker.interface.Listener` and
    `caller.CallingProcess`, and makes the parts that do the work.

    calls: what can be asked of it. members: what its connections join. state: of the broker.
    is_ready: it has been started. published: messages of groups.
    """

    def __init__(self, broker: Broker, host: Host, declarations: Declarations = declared) -> None:
        self.broker: Broker = broker
        self.declarations: Declarations = declarations
        self.calls = Calls(lambda: self)
        self.state: State = "down"
        self.is_ready = False
        self.published = 0
        self._host = host
        self._starting = threading.Lock()

        self.channels = Channels(declarations, host.worker)
        self.delivery = Delivery(host.pause, host.report)
        self.gaps = Gaps(broker, host)
        sweeper = Sweeper(host)
        self.subscriptions = Subscriptions(
            broker, host, self.channels, sweeper, self._watch_positions
        )
        client_ids = ClientIds(host, self.channels, self.subscriptions)
        self.client_id_of = client_ids.of
        self.is_gone = client_ids.is_gone
        recipients = Recipients(host, self.channels, client_ids, sweeper)
        self.distribution = Distribution(host, self.delivery, recipients, self._obey)
        self.recovery = Recovery(
            broker,
            host,
            self.channels,
            self.subscriptions,
            self.distribution,
            self.gaps,
            sweeper,
        )
        self.presence = Presence(broker, host, self.channels, client_ids.of, self._announce)
        single_binds = SingleBinds(broker, host, self.channels, client_ids, self._announce_later)
        self._announcer = Announcer(broker, host, declarations, self.presence, single_binds)
        self.members = Memberships(
            broker,
            host,
            self.channels,
            self.subscriptions,
            self.presence,
            self.recovery.joins,
            single_binds,
        )
        self.handover = self._make_handover(client_ids, recipients)
        self._orders = Orders(host, client_ids, self.members, self.presence, self.handover)

    def _make_handover(self, client_ids: ClientIds, recipients: Recipients) -> Handover:
        successor = Successor(
            broker=self.broker,
            host=self._host,
            channels=self.channels,
            subscriptions=self.subscriptions,
            presence=self.presence,
            members=self.members,
            recipients=recipients,
            distribution=self.distribution,
            known_client_id=client_ids.known,
            start=self.start,
        )
        return Handover(
            broker=self.broker,
            host=self._host,
            channels=self.channels,
            client_ids=client_ids,
            recipients=recipients,
            members=self.members,
            joins=self.recovery.joins,
            gaps=self.gaps,
            successor=successor,
        )

    # ---- its life

    def start(self, wait: float = FIRST_USE_SECONDS, must_be_up: bool = False) -> None:
        """Connect, once, within `wait` seconds. Raises ConfigError if a declaration differs from
        what another process has declared, BrokerError if the broker is not fit; BrokerDown, after
        `wait` seconds, only if it must be up."""
        with self._starting:
            if self.is_ready or self._host.has_ended:
                return
            with Deadline(wait):
                self._connect(wait, must_be_up)
            self.is_ready = True

    def _connect(self, wait: float, must_be_up: bool) -> None:
        try:
            self.broker.start(self, wait)
            self._announcer.declare()
        except BrokerDown:
            if must_be_up:
                raise
            self._announcer.is_due = True
        self.subscriptions.add(self.channels.everyone)

    def end(self) -> None:
        """The process ends."""
        self._host.has_ended = True
        if self.is_ready:
            self.presence.end()
            self.broker.close()

    def let_go(self) -> None:
        """In a process that user code has forked: all of this is the parent's."""
        self._host.has_ended = True
        self.broker.let_go()

    def process_died(self, pid: int) -> bool:
        """Another process of this instance has ended. A broker that does not see that by itself
        is told. False: it is down, or refuses to hear it."""
        try:
            self.broker.process_died(pid)
        except (BrokerDown, BrokerError):
            return False
        return True

    # ---- functions

    def subscribe(self, group: str, function: Function) -> None:
        """See `messages.subscribe`."""
        text = checked_name(group, "a group")
        if not callable(function):
            raise TypeError(f"subscribe() takes a function, not {type(function).__name__}")
        channel = self.channels.obtain(GROUP, text)
        if channel.functions is None:
            channel.functions = Functions(text, self._host.spawn, self._host.report)
        if function not in channel.functions.all:
            channel.functions.all.append(function)
        with Deadline():
            self.subscriptions.add([channel])
            if channel.declaration.keeps:
                self.recovery.positions.of(channel)

    def unsubscribe(self, group: str) -> None:
        """See `messages.unsubscribe`."""
        channel = self.channels.get(GROUP + checked_name(group, "a group").encode())
        if channel is not None and channel.functions is not None:
            channel.functions.clear()
            channel.functions = None
            self.subscriptions.release(channel)

    # ---- what the broker tells, in its reader (`interface.Listener`)

    def on_message(self, channel: bytes, payload: bytes) -> None:
        found = self.channels.get(channel)
        if found is None:  # it was left a moment ago
            return
        found.received += 1
        if found.backlog is not None:
            self.handover.note(found, payload)
        try:
            arrived = parsed_payload(payload)
        except ValueError as error:
            self.distribution.note_unreadable(found, error)
            return
        if not found.declaration.keeps or self.recovery.admits(found, arrived):
            self.distribution.give(found, arrived)

    def on_state(self, state: State) -> None:
        before, self.state = self.state, state
        if before != state:
            self._host.notify("on_broker_state", state)
        if state != "down":
            self.gaps.close()
            self._announcer.broker_is_up()
            if not all(each.is_subscribed for each in self.channels):
                in_background(self.subscriptions.add_all)
        self.recovery.on_state(state != "down")

    def on_interrupted(self, channels: Sequence[bytes], since: float, until: float) -> None:
        for name in channels:
            channel = self.channels.get(name)
            if channel is not None:
                self.handover.interrupt(channel)
        self.recovery.interrupted(self.channels.of_groups(channels), since, until)

    def on_fenced(self) -> None:
        self._announcer.start()

    # ---- what its parts call, some of which are made before others

    def _obey(self, channel: Channel, connections: list[Any], order: bytes) -> None:
        obey(self._orders, channel, connections, order)

    def _watch_positions(self) -> None:
        self.recovery.position_check.start()

    def _announce(self) -> None:
        self._announcer.start()

    def _announce_later(self) -> None:
        self._announcer.is_due = True
