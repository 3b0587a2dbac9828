"""Which channels are wanted, where each is subscribed, and what was lost meanwhile.

A channel is wanted from `subscribe` to `unsubscribe`. While it is, it is missing, or placed on the
link of the server to which it belongs, which confirms it. A link that breaks or is replaced, and a
slot that moves, make its channels missing; they are placed again as soon as there is a link, and
then the listener is told between which moments messages may have been lost.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial

from gworker.broker.deadline import step_end
from gworker.broker.interface import Listener
from gworker.broker.link.input import MakeReadable
from gworker.broker.redis.command import Command
from gworker.broker.redis.messages import MessageLink
from gworker.broker.redis.nodes import Nodes
from gworker.broker.redis.operations import Names
from gworker.broker.redis.partitions import partition_of
from gworker.broker.redis.topology import Address, Servers
from gworker.errors import BrokerDown

# Seconds without a message after which a link has to show that it still gets them, and in which it
# has to.
PROBE_IDLE_SECONDS, PROBE_ANSWER_SECONDS = 30.0, 10.0

# Seconds after which a link that is not up is replaced.
REPLACE_SECONDS = 5.0

# Seconds between two looks at whether a subscription that is waited for can still succeed.
LOOK_SECONDS = 0.25


class _Wanted:
    """link: where it is placed. lost_at: when its messages began to be lost, 0 if none were, in
    seconds since the epoch."""

    __slots__ = ("is_confirmed", "link", "lost_at")

    def __init__(self) -> None:
        self.link: MessageLink | None = None
        self.is_confirmed = False
        self.lost_at = 0.0

    def lose(self, moment: float) -> None:
        if self.is_confirmed:
            self.lost_at = moment
        self.link = None
        self.is_confirmed = False


class _Wait:
    """Waits until several channels are confirmed."""

    def __init__(self, channels: Collection[bytes]) -> None:
        self.missing = set(channels)
        self.done = threading.Event()


class Subscriptions:
    """It implements `messages.Owner`.

    tell: calls a method of the listener, by its name. wake: called when `watch` has something to
    do. make_readable: see `link.Link`.
    """

    def __init__(
        self,
        nodes: Nodes,
        servers: Servers,
        names: Names,
        tell: Callable[..., None],
        wake: Callable[[], None],
        make_readable: MakeReadable | None,
    ) -> None:
        self._nodes = nodes
        self._servers = servers
        self._names = names
        self._probe_name = b"probe:" + secrets.token_hex(8).encode()
        self._tell = tell
        self._wake = wake
        self._make_readable = make_readable
        self._listener: Listener | None = None
        self._lock = threading.Lock()  # of all that follows; nothing waits while it is held
        self._wanted: dict[bytes, _Wanted] = {}
        self._missing: dict[bytes, None] = {}
        self._waits: list[_Wait] = []
        self._links: dict[Address, MessageLink] = {}
        self._is_used = False

    def start(self, listener: Listener) -> None:
        """listener: gets each message, in the thread of its link."""
        self._listener = listener

    # -- what the broker calls

    def subscribe(self, channels: Sequence[bytes]) -> None:
        """Raises BrokerDown if they are not confirmed in time; they stay wanted."""
        with self._lock:
            for channel in channels:
                if channel not in self._wanted:
                    self._wanted[channel] = _Wanted()
                    self._missing[channel] = None
            waited = [c for c in channels if not self._wanted[c].is_confirmed]
            if not waited:
                return
            wait = _Wait(waited)
            self._waits.append(wait)
            self._is_used = True
        try:
            self.follow()
            self._wait_for(wait, step_end() - 0.2)
        finally:
            with self._lock:
                self._waits.remove(wait)

    def _wait_for(self, wait: _Wait, until: float) -> None:
        channels = list(wait.missing)
        while not wait.done.wait(min(LOOK_SECONDS, max(0.0, until - time.monotonic()))):
            owners = {self._owner_of(channel) for channel in channels}
            if time.monotonic() >= until or not self._nodes.are_reachable(owners):
                raise BrokerDown(f"not subscribed: {self._nodes.reason}")

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        placed: dict[MessageLink, list[bytes]] = {}
        with self._lock:
            for channel in channels:
                self._missing.pop(channel, None)
                wanted = self._wanted.pop(channel, None)
                if wanted is not None and wanted.link is not None:
                    placed.setdefault(wanted.link, []).append(self._names.of(channel))
            # Under the lock: a later subscription must not overtake it.
            for link, names in placed.items():
                link.unsubscribe(names)

    def follow(self) -> None:
        """Have a link to each master, and all channels where they belong, from the first
        subscription on."""
        if not self._is_used:
            return
        masters = self._nodes.topology.masters
        with self._lock:
            new = [address for address in masters if address not in self._links]
            made = [self._new_link(address) for address in new]
            gone = [link for address, link in self._links.items() if address not in masters]
            for link in gone:
                del self._links[link.address]
            self._lose_moved(time.time())
            self._place()
        for link in made:
            link.start()
        for link in gone:
            link.close()

    def watch(self) -> None:
        """Place what is missing, replace links that do not work."""
        if not self._is_used:
            return
        for link in list(self._links.values()):
            if link.is_deaf(PROBE_ANSWER_SECONDS):
                self._nodes.look_soon()
                self._replace(link)
            elif not link.is_up:
                if time.monotonic() - link.changed_at > REPLACE_SECONDS:
                    self._replace(link)
            elif link.is_quiet(PROBE_IDLE_SECONDS):
                self._probe(link)
        if self._missing:
            with self._lock:
                self._place()

    def is_lost(self, address: Address) -> bool:
        """The link to a server does not work."""
        link = self._links.get(address)
        return link is not None and link.is_lost

    def close(self) -> None:
        for link in list(self._links.values()):
            link.close()

    def let_go(self) -> None:
        # Without the lock: a thread of the parent may have held it.
        for link in list(self._links.values()):
            link.let_go()

    # -- where channels are

    def _owner_of(self, channel: bytes) -> Address | None:
        return self._nodes.topology.owners[partition_of(channel)]

    def _lose_moved(self, now: float) -> None:
        # Under the lock. Their server ends the subscriptions by itself when it hears that the slot
        # is another's, and refuses to be told so from then on.
        for channel, wanted in self._wanted.items():
            link = wanted.link
            if link is not None and (
                self._owner_of(channel) != link.address or self._links.get(link.address) is not link
            ):
                wanted.lose(now)
                self._missing[channel] = None

    def _lose(self, link: MessageLink) -> None:
        # Under the lock.
        moment = time.time() - (time.monotonic() - link.heard_at)
        for channel, wanted in self._wanted.items():
            if wanted.link is link:
                wanted.lose(moment)
                self._missing[channel] = None

    def _place(self) -> None:
        # Under the lock. All that is missing, on those links that are up.
        found: dict[MessageLink, dict[bytes, _Wanted]] = {}
        for channel in self._missing:
            owner = self._owner_of(channel)
            link = self._links.get(owner) if owner is not None else None
            if link is not None and link.is_up:
                found.setdefault(link, {})[self._names.of(channel)] = self._wanted[channel]
        for link, placed in found.items():
            for name, wanted in placed.items():
                wanted.link = link
                del self._missing[name[self._names.start :]]
            try:
                link.subscribe(placed, partial(self._placed, link, link.session, placed))
            except BrokerDown:
                for name, wanted in placed.items():
                    wanted.link = None
                    self._missing[name[self._names.start :]] = None

    def _placed(
        self,
        link: MessageLink,
        session: int,
        placed: dict[bytes, _Wanted],
        names: Sequence[bytes],
        error: Exception | None,
    ) -> None:
        """These of the placed ones are subscribed, or could not be."""
        interrupted: dict[float, list[bytes]] = {}
        confirmed: set[bytes] = set()
        with self._lock:
            for name in names:
                channel, wanted = name[self._names.start :], placed[name]
                if self._wanted.get(channel) is not wanted or wanted.link is not link:
                    continue  # it was given up, or lost again
                if error is not None or link.session != session:
                    wanted.link = None
                    self._missing[channel] = None
                    continue
                wanted.is_confirmed = True
                confirmed.add(channel)
                if wanted.lost_at:
                    interrupted.setdefault(wanted.lost_at, []).append(channel)
                    wanted.lost_at = 0.0
            self._end_waits(confirmed)
        if error is not None:
            self._nodes.look_soon()
        for began, channels in interrupted.items():
            self._tell("on_interrupted", channels, began, time.time())

    def _end_waits(self, confirmed: set[bytes]) -> None:
        # Under the lock.
        for wait in self._waits:
            wait.missing -= confirmed
            if not wait.missing:
                wait.done.set()

    # -- links

    def _new_link(self, address: Address) -> MessageLink:
        # Under the lock.
        assert self._listener is not None
        link = MessageLink(
            address,
            self._servers,
            self,
            self._wanted,
            self._names.start,
            self._listener.on_message,
            self._make_readable,
        )
        self._links[address] = link
        return link

    def _replace(self, link: MessageLink) -> None:
        with self._lock:
            if self._links.get(link.address) is not link:
                return
            self._lose(link)
            new = self._new_link(link.address)
        link.close()
        new.start()

    def _probe(self, link: MessageLink) -> None:
        commands = self._nodes.links.get(link.address)
        owners = self._nodes.topology.owners
        if commands is not None and link.address in owners:
            partition = owners.index(link.address)
            name = self._names.prefixes[partition] + self._probe_name
            command = Command(partition, (b"SPUBLISH", name, b""), waits=False)
            link.show(name, lambda: commands.submit(command))

    # -- what links tell

    def on_link_up(self, link: MessageLink) -> None:
        with self._lock:
            self._place()
        self._wake()

    def on_link_down(self, link: MessageLink) -> None:
        with self._lock:
            self._lose(link)
        commands = self._nodes.links.get(link.address)
        if commands is not None:
            commands.look()  # probably the server is gone
        self._nodes.look_soon()
        self._wake()

    def on_ended(self, link: MessageLink, name: bytes) -> None:
        with self._lock:
            channel = name[self._names.start :]
            wanted = self._wanted.get(channel)
            if wanted is None or wanted.link is not link or not wanted.is_confirmed:
                return  # it was told to
            wanted.lose(time.time())
            self._missing[channel] = None
        self._nodes.look_soon()
        self._wake()
