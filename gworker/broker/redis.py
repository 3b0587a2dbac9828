"""The broker on Redis (7.0 or later) or Valkey: a server, a Sentinel's master, or a cluster.

Every operation is one script in one slot; scripts take the time from their server. For each server
there are two links: one for commands (`commands.CommandLink`), one for messages (`link.Link`), made
at the first subscription. Three threads belong to the process: one watches over the links and the
topology, one over the lease; links have their own. All are greenlets where gevent has patched
`threading`.

A process has a lease of 30 seconds and renews it each 10. Members of processes without one are
hidden at once, and removed a while later by any process.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, ClassVar, cast

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from gworker.broker.commands import PROBE_SECONDS, Command, CommandLink
from gworker.broker.interface import CALL_SECONDS, FLEETING, Answer, Listener, Reply, State
from gworker.broker.link import Link, Subscribing
from gworker.broker.partitions import PARTITIONS, partition_of
from gworker.broker.redis_check import partition_mismatch
from gworker.broker.redis_operations import (
    COMMON,
    SCRIPTS,
    SHAPES,
    command_of,
    number_of,
    prefixes_of,
    presence_keys,
)
from gworker.broker.topology import Address, Servers, Topology, check_fit, facts_of, text_of
from gworker.broker.url import BrokerUrl
from gworker.errors import BrokerDown, BrokerError

log = logging.getLogger("gworker")

# Seconds between two renewals of the lease, and its milliseconds.
RENEW_SECONDS = 10.0
LEASE_MS = 30_000

# Seconds for which the lease of another process that has been looked at is not looked at again.
LEASE_KNOWN_SECONDS = 2.0

# Seconds between two looks at who owns what, while all is well, and while it is not.
TOPOLOGY_SECONDS, TOPOLOGY_SOON_SECONDS = 10.0, 1.0

# Seconds without a message after which a link for messages has to show that it still gets them,
# and in which it has to.
PROBE_IDLE_SECONDS, PROBE_ANSWER_SECONDS = 30.0, 10.0

# Seconds after which a link for messages that is not up is replaced.
REPLACE_SECONDS = 5.0

TICK = 0.25  # seconds between two looks at the links

REAP_LOCK_MS = 10_000

BATCH = 512  # channels of one SSUBSCRIBE


class _Node:
    """One server, with its two links."""

    def __init__(self, address: Address, commands: CommandLink) -> None:
        self.address = address
        self.commands = commands
        self.messages: Link | None = None
        self.messages_since = 0.0  # when it was made, or was up last
        self.has_heard = False  # messages have been up once
        self.heard_at = 0.0  # when the last message came
        self.probed_at = 0.0  # when it was asked to show that messages come; 0: it has shown it


class _Wait:
    """Waits until several channels are confirmed."""

    def __init__(self, channels: Collection[bytes]) -> None:
        self.missing = set(channels)
        self.done = threading.Event()


class _Lost:
    """A channel that was subscribed, until a moment in seconds since the epoch."""

    def __init__(self, since: float) -> None:
        self.since = since


class RedisBroker:
    """See `interface.Broker`.

    instance: the same for all processes of one instance of gworker, and for no other: with it,
    `process_died` finds the names of a process that has ended.
    """

    def __init__(self, url: BrokerUrl, cluster_name: str, instance: str = "") -> None:
        self._url = url
        self._instance = instance or secrets.token_hex(5)
        self._prefixes = prefixes_of(cluster_name)
        self.channel_start = len(self._prefixes[0])
        self._servers = Servers(url, f"gworker-{cluster_name}-{os.getpid()}")
        self._process = self._new_name()
        self._state: State = "down"
        self.listener: Listener | None = None
        self.reason = "it has not been connected yet"

        self._lock = threading.Lock()  # of what follows; nothing waits while it is held
        self._topology = Topology((None,) * PARTITIONS)
        self._nodes: dict[Address, _Node] = {}
        # By channel: None (not confirmed yet), _Lost, or the node on which it is subscribed.
        self.wanted: dict[bytes, _Node | _Lost | None] = {}
        self._missing: dict[bytes, None] = {}  # wanted, and to be subscribed by the thread
        self._waits: list[_Wait] = []
        self._is_subscribing = False

        self._later: list[tuple[float, int, Command]] = []
        self._numbers = itertools.count()
        self._is_topology_due = True
        self._watch = threading.Event()
        self._lease = threading.Event()
        self._ready = threading.Event()
        self._unfit: BrokerError | None = None
        self._is_fit = False  # the partition count is the cluster's, and there is a lease
        self._is_leaving = False  # it makes no lease any more
        self._is_closed = False

        self._leases: dict[bytes, float] = {}  # until when another one's is known to last
        self._writes = [0] * PARTITIONS  # what the servers have confirmed of `process`
        self._are_writes_doubtful = False
        self._crowded_since = 0.0

    # -- Broker

    @property
    def process(self) -> bytes:
        return self._process

    @property
    def state(self) -> State:
        return self._state

    @property
    def latency(self) -> float:
        """Seconds: the longest of all servers, for the last commands."""
        return max((node.commands.latency for node in self._all_nodes()), default=0.0)

    def start(self, listener: Listener, wait: float) -> None:
        """See `interface.Broker`. After BrokerDown it goes on trying, until `close`."""
        self.listener = listener
        for work in (self._keep_links, self._keep_lease):
            threading.Thread(target=work, name=f"gworker {work.__name__}", daemon=True).start()
        began = time.monotonic()
        until = began + wait
        self._ready.wait(wait)
        if self._unfit is not None:
            self.close()
            raise self._unfit
        if not self._ready.is_set():
            raise BrokerDown(self.reason)
        # The other servers of a cluster come within moments, or later.
        while self._state != "up" and time.monotonic() < min(until, began + CALL_SECONDS):
            time.sleep(0.01)

    def call(self, operation: str, channel: bytes, *arguments: bytes) -> Reply:
        several = self._SEVERAL.get(operation)
        if several is not None:
            return several(self, channel, *arguments)
        return self.submit(operation, channel, *arguments).wait()

    def submit(self, operation: str, channel: bytes, *arguments: bytes) -> Answer:
        if operation in self._SEVERAL:
            raise ValueError(f"{operation} is not for submit")
        return self._submit(self._command(operation, channel, arguments, waits=True))

    def post(self, operation: str, channel: bytes, *arguments: bytes) -> None:
        if operation in self._SEVERAL:
            raise ValueError(f"{operation} is not for post")
        with contextlib.suppress(BrokerDown):
            self._submit(self._command(operation, channel, arguments, waits=False))

    def partition_of(self, channel: bytes) -> int:
        return partition_of(channel)

    def subscribe(self, channels: Sequence[bytes]) -> None:
        wait = None
        with self._lock:
            for channel in channels:
                self.wanted.setdefault(channel, None)
            missing = [c for c in channels if not isinstance(self.wanted[c], _Node)]
            if missing:
                wait = _Wait(missing)
                self._waits.append(wait)
            if not self._is_subscribing:
                self._is_subscribing = True
                for node in self._nodes.values():
                    self._open_messages(node)
        if wait is None:
            return
        try:
            self._place(missing)
            until = time.monotonic() + CALL_SECONDS - 0.2
            while not wait.done.wait(min(TICK, max(0.0, until - time.monotonic()))):
                if time.monotonic() >= until or not self._can_reach(missing):
                    raise BrokerDown(f"not subscribed: {self.reason}")
        finally:
            with self._lock:
                self._waits.remove(wait)

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        with self._lock:
            for channel in channels:
                self.wanted.pop(channel, None)
        for node, some in self._by_node(channels):
            if node.messages is not None:
                with contextlib.suppress(BrokerDown):
                    node.messages.unsubscribe(self._names(some))

    def close(self) -> None:
        self._is_leaving = True
        if self._is_fit and self._state != "down":
            with contextlib.suppress(BrokerDown, BrokerError):
                self._reap(b"", self._process)
        self._is_closed = True
        self._watch.set()
        self._lease.set()
        nodes = self._all_nodes()
        for node in nodes:
            self._close_node(node, "the broker is closed")
        for node in nodes:
            node.commands.join(CALL_SECONDS / 2)

    def let_go(self) -> None:
        self._is_closed = True
        # Without the lock: a thread of the parent may have held it.
        for node in list(self._nodes.values()):
            node.commands.let_go()
            if node.messages is not None:
                node.messages.let_go()

    def process_died(self, pid: int) -> int:
        """A process of this instance has ended: remove its members. How many those were."""
        start = f"{self._instance}.{pid}.".encode()
        names = [name for name in self._read_leases() if name.startswith(start)]
        return sum(self._reap(b"", name) for name in names if name != self._process)

    # -- names

    def _new_name(self) -> bytes:
        return f"{self._instance}.{os.getpid()}.{secrets.token_hex(4)}".encode()

    def _name(self, channel: bytes) -> bytes:
        return self._prefixes[partition_of(channel)] + channel

    def _names(self, channels: Collection[bytes]) -> list[bytes]:
        return [self._name(channel) for channel in channels]

    def _probe_channel(self, node: _Node) -> bytes | None:
        """A channel of this link alone, in a partition of the server."""
        for partition, owner in enumerate(self._topology.owners):
            if owner == node.address:
                return self._prefixes[partition] + b"probe:" + self._process
        return None

    # -- operations

    def _command(
        self, operation: str, channel: bytes, arguments: tuple[bytes, ...], waits: bool
    ) -> Command:
        partition = partition_of(channel)
        prefix = self._prefixes[partition]
        if operation == "publish":
            (body,) = arguments
            words = (b"SPUBLISH", prefix + channel, FLEETING + body)
            return Command(partition, words, waits)
        shape = SHAPES.get(operation)
        if shape is None:
            raise BrokerError(f"there is no operation {operation}")
        if not channel:
            partition, prefix = COMMON, self._prefixes[COMMON]
        keys, values = shape(prefix, channel, *arguments)
        finish = None
        if operation in ("enter", "exit"):
            finish = self._count_writes(partition, arguments[0])
        elif operation == "increment":
            finish = int  # a script has no integers of 64 bits
        return command_of(operation, partition, keys, values, waits, finish)

    def _count_writes(self, partition: int, process: bytes) -> Callable[[Any], Reply]:
        def finish(reply: Any) -> Reply:
            if process == self._process:
                self._writes[partition] = max(self._writes[partition], reply[1])
            return cast(Reply, reply[0])

        return finish

    # Operations that take more than one command. Those that an application waits for have one
    # deadline for all of them, the first one's.

    def _index(self, channel: bytes) -> tuple[dict[bytes, int], float]:
        """Processes with a lease and the number of their members; the deadline."""
        partition = partition_of(channel)
        words = (b"HGETALL", self._prefixes[partition] + b"pi:" + channel)
        command = self._submit(Command(partition, words, True))
        flat = cast("list[bytes]", command.wait())
        index = {name: int(count) for name, count in zip(flat[::2], flat[1::2], strict=True)}
        now = time.monotonic()
        known = self._leases
        unknown = [name for name in index if known.get(name, 0.0) <= now]
        if unknown:
            latest = now + LEASE_KNOWN_SECONDS
            for name, until in self._read_leases(unknown, command.deadline).items():
                known[name] = min(until, latest)
        found = {name: count for name, count in index.items() if known[name] > now}
        return found, command.deadline

    def _count(self, channel: bytes) -> int:
        index, _ = self._index(channel)
        return sum(index.values())

    def _members(self, channel: bytes, limit: bytes) -> Reply:
        most = number_of(limit)
        processes, deadline = self._index(channel)
        if not processes:
            return []
        partition = partition_of(channel)
        start = self._prefixes[partition] + b"p:" + channel + b":"
        keys = [start + process for process in processes]
        command = command_of("members", partition, keys, [b"%d" % most])
        command.deadline = deadline
        return self._submit(command).wait()

    def _keys(self, channel: bytes, prefix: bytes, cursor: bytes) -> Reply:
        """cursor: the partition, and the cursor of ZSCAN in it."""
        number, _, place = cursor.partition(b".")
        partition = int(number or 0)
        key = self._prefixes[partition] + b"dk"
        command = command_of("keys", partition, [key], [prefix, place or b"0"])
        place, keys = cast("list[Any]", self._submit(command).wait())
        if place != b"0":
            return [b"%d.%b" % (partition, place), keys]
        partition += 1
        return [b"%d.0" % partition if partition < PARTITIONS else b"", keys]

    def _reap(self, channel: bytes, process: bytes) -> int:
        """In steps, each of which may be done again."""
        touched = self._everywhere(
            lambda partition: [
                Command(
                    partition, (b"HKEYS", self._prefixes[partition] + b"w:" + process), waits=True
                )
            ]
        )
        channels: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        for partition, names in touched:
            channels[partition] += cast("list[bytes]", names)

        def removals(partition: int) -> Iterator[Command]:
            prefix = self._prefixes[partition]
            for name in channels[partition]:
                if name:
                    keys = presence_keys(prefix, name, process)
                    yield command_of("reap", partition, keys, [name, process])
            if channels[partition]:
                yield Command(partition, (b"DEL", prefix + b"w:" + process), waits=True)

        removed = sum(
            cast(int, reply) for _, reply in self._everywhere(removals, 1) if reply is not None
        )
        lease = (b"ZREM", self._prefixes[COMMON] + b"workers", process)
        self._submit(Command(COMMON, lease, waits=True)).wait()
        self._leases.pop(process, None)
        return removed

    def _everywhere(
        self, commands: Callable[[int], Collection[Command] | Iterator[Command]], last: int = 0
    ) -> list[tuple[int, Reply]]:
        """The answers to the commands of all partitions; without the last ones of each."""
        answers: list[tuple[int, Reply]] = []
        waiting: list[tuple[int, Command]] = []
        for partition in range(PARTITIONS):
            some = list(commands(partition))
            for place, command in enumerate(some):
                self._submit(command)
                waiting.append((partition if place < len(some) - last else -1, command))
                if len(waiting) >= BATCH:
                    answers += [(where, each.wait()) for where, each in waiting]
                    waiting.clear()
        answers += [(where, each.wait()) for where, each in waiting]
        return [(where, answer) for where, answer in answers if where >= 0]

    _SEVERAL: ClassVar[dict[str, Callable[..., Reply]]] = {
        "count": _count,
        "members": _members,
        "keys": _keys,
        "reap": _reap,
    }

    # -- leases of others

    def _read_leases(
        self, processes: Sequence[bytes] = (), deadline: float | None = None
    ) -> dict[bytes, float]:
        """Until when each of them has a lease, or had one, by the monotonic clock; without names
        all that there are."""
        keys = [self._prefixes[COMMON] + b"workers"]
        began = time.monotonic()
        command = command_of("leases", COMMON, keys, processes)
        if deadline is not None:
            command.deadline = deadline
        flat = cast("list[Any]", self._submit(command).wait())
        return {
            name: began + int(left) / 1000 for name, left in zip(flat[::2], flat[1::2], strict=True)
        }

    # -- commands

    def _submit(self, command: Command, *, first: bool = False) -> Command:
        owner = self._topology.owners[command.partition]
        node = self._nodes.get(owner) if owner is not None else None
        if node is None:
            raise BrokerDown(self.reason)
        node.commands.submit(command, first=first)
        return command

    def greet(self, address: Address, ask: Callable[..., list[Any]]) -> None:
        """See `commands.Owner`."""
        scripts = [(b"SCRIPT", b"LOAD", script.source) for script in SCRIPTS.values()]
        facts, *_ = ask((b"INFO", b"server"), *scripts)
        check_fit(address, facts_of(facts), self._url.kind == "cluster")

    def on_link(self) -> None:
        """See `commands.Owner`."""
        self._are_writes_doubtful = True
        self._lease.set()
        self._watch.set()

    def on_refused(self, command: Command, link: CommandLink, error: ResponseError) -> None:
        """See `commands.Owner`."""
        if isinstance(error, NoScriptError) and command.source:
            command.words = (b"EVAL", command.source, *command.words[2:])
            self._again(command, 0, str(error))
        elif isinstance(error, MovedError):
            self._refresh_soon()
            self._again(command, 0.05, f"slot {error.slot_id} has moved")
        elif isinstance(error, AskError):
            command.is_asking = True
            self._ask_node((error.host, error.port), command)
        elif isinstance(error, TryAgainError):
            self._again(command, 0.05, "its slot is being moved")
        elif isinstance(error, (ClusterDownError, ReadOnlyError)):
            self._refresh_soon()
            self._again(command, 0.2, f"{text_of(link.address)}: {error}")
        elif isinstance(error, OutOfMemoryError):
            command.fail(BrokerError(f"{text_of(link.address)} is full: its maxmemory is reached"))
        else:
            # Behind its words an error of a script names the script.
            words = str(error).partition(" script: ")[0]
            command.fail(BrokerError(f"{text_of(link.address)}: {words}"))

    def _again(self, command: Command, seconds: float, why: str) -> None:
        if time.monotonic() + seconds > command.deadline or self._is_closed:
            command.fail(BrokerDown(why))
        elif seconds:
            with self._lock:
                when = time.monotonic() + seconds
                heapq.heappush(self._later, (when, next(self._numbers), command))
            self._watch.set()
        else:
            try:
                self._submit(command, first=True)
            except BrokerDown as down:
                command.fail(down)

    def _ask_node(self, address: Address, command: Command) -> None:
        with self._lock:
            node = self._nodes.get(address) or self._add_node(address)
        try:
            node.commands.submit(command)
        except BrokerDown as down:
            command.fail(down)

    def _submit_due(self) -> float:
        """Commands whose time has come; seconds until the next one."""
        while True:
            with self._lock:
                if not self._later:
                    return TICK
                left = self._later[0][0] - time.monotonic()
                if left > 0:
                    return min(left, TICK)
                command = heapq.heappop(self._later)[2]
            try:
                self._submit(command)
            except BrokerDown as down:
                command.fail(down)

    # -- nodes and their links

    def _all_nodes(self) -> list[_Node]:
        with self._lock:
            return list(self._nodes.values())

    def _add_node(self, address: Address) -> _Node:
        # Under the lock.
        node = _Node(address, CommandLink(address, self._connect, self))
        self._nodes[address] = node
        if self._is_subscribing:
            self._open_messages(node)
        return node

    def _connect(self, address: Address) -> Any:
        return self._servers.connection(address)

    def _open_messages(self, node: _Node) -> None:
        # Under the lock.
        node.messages_since = node.heard_at = time.monotonic()
        node.probed_at = 0.0
        owner = _MessagesOwner(self, node)
        node.messages = Link(
            f"messages of {text_of(node.address)}",
            lambda seconds: self._servers.socket(node.address, seconds),
            self._greet_messages,
            owner,
            subscribing=Subscribing("SSUBSCRIBE", "SUNSUBSCRIBE", b"ssubscribe", _batches),
        )
        owner.link = node.messages
        with contextlib.suppress(BrokerDown, BrokerError):
            node.messages.start(0)

    def _greet_messages(self, ask: Callable[..., Reply]) -> None:
        try:
            for command in self._servers.greeting():
                ask(*command)
        except BrokerError as error:
            # The link for commands says it better, and this one must go on trying.
            raise BrokerDown(str(error)) from None

    def _close_node(self, node: _Node, reason: str) -> None:
        node.commands.close(reason)
        if node.messages is not None:
            node.messages.close()

    def _by_node(self, channels: Collection[bytes]) -> list[tuple[_Node, list[bytes]]]:
        found: dict[Address, list[bytes]] = {}
        for channel in channels:
            owner = self._topology.owners[partition_of(channel)]
            if owner is not None:
                found.setdefault(owner, []).append(channel)
        return [(self._nodes[owner], some) for owner, some in found.items() if owner in self._nodes]

    def _can_reach(self, channels: Collection[bytes]) -> bool:
        """False: waiting for a subscription to these is of no use."""
        owners = {self._topology.owners[partition_of(channel)] for channel in channels}
        nodes = [self._nodes.get(owner) for owner in owners if owner is not None]
        return len(nodes) == len(owners) and all(
            node is not None and not node.commands.is_down for node in nodes
        )

    def _place(self, channels: Collection[bytes]) -> None:
        """Subscribe to them where they belong; where that fails, the thread does it later."""
        nodes = self._by_node(channels)
        if sum(len(some) for _, some in nodes) < len(channels):
            with self._lock:
                self._missing.update(dict.fromkeys(channels))
        for node, some in nodes:
            link = node.messages
            if link is None:
                continue
            try:
                link.subscribe(self._names(some))
            except (BrokerDown, BrokerError):
                with self._lock:
                    self._missing.update(dict.fromkeys(some))
                self._refresh_soon()
            else:
                self._confirm(node, link, some)

    def _confirm(
        self, node: _Node, link: Link, channels: Collection[bytes], since: float = 0.0
    ) -> None:
        """They are subscribed now. since: the beginning of their break, if the link knows it."""
        interrupted: dict[float, list[bytes]] = {}
        with self._lock:
            if node.messages is not link:
                return
            for channel in channels:
                if channel not in self.wanted:
                    continue
                before = self.wanted[channel]
                if isinstance(before, _Lost):
                    interrupted.setdefault(since or before.since, []).append(channel)
                self.wanted[channel] = node
            for wait in self._waits:
                wait.missing.difference_update(channels)
                if not wait.missing:
                    wait.done.set()
        for began, some in interrupted.items():
            self._tell("on_interrupted", some, began, time.time())

    def on_messages_up(
        self, node: _Node, link: Link, interrupted: Collection[bytes], since: float
    ) -> None:
        """The link for messages works: what it was told to subscribe to is subscribed."""
        node.messages_since = node.heard_at = time.monotonic()
        node.probed_at = 0.0
        node.has_heard = True
        start = self.channel_start
        self._confirm(node, link, [name[start:] for name in interrupted], since)
        self._watch.set()

    def on_messages_down(self, node: _Node, link: Link) -> None:
        node.messages_since = time.monotonic()
        if node.messages is link:
            self._lose(node)
        node.commands.look()  # probably the server is gone
        self._refresh_soon()

    def _lose(self, node: _Node) -> None:
        lost = _Lost(time.time() - (time.monotonic() - node.heard_at))
        with self._lock:
            for channel, where in self.wanted.items():
                if where is node:
                    self.wanted[channel] = lost
                    self._missing[channel] = None

    def on_moved(self, node: _Node, name: bytes) -> None:
        """The server has ended a subscription, since the slot is another's now."""
        channel = name[self.channel_start :]
        with self._lock:
            if self.wanted.get(channel) is node:
                self.wanted[channel] = _Lost(time.time())
                self._missing[channel] = None
                self._refresh_soon()

    # -- the thread that watches over links

    def _refresh_soon(self) -> None:
        self._is_topology_due = True
        self._watch.set()

    def _keep_links(self) -> None:
        refresh_at = 0.0
        earliest = 0.0
        while not self._is_closed:
            now = time.monotonic()
            if (self._is_topology_due and now >= earliest) or now >= refresh_at:
                self._is_topology_due = False
                earliest = now + 0.1
                self._refresh()
                pause = TOPOLOGY_SECONDS if self._state == "up" else TOPOLOGY_SOON_SECONDS
                refresh_at = time.monotonic() + pause * random.SystemRandom().uniform(1, 1.25)
            left = self._submit_due()
            for node in self._all_nodes():
                node.commands.break_if_stuck()
                node.commands.look_if_idle()
            self._look_after_messages()
            self._update_state()
            self._watch.wait(left)
            self._watch.clear()

    def _refresh(self) -> None:
        try:
            topology = self._servers.resolve(time.monotonic() + CALL_SECONDS)
        except BrokerDown as error:
            self.reason = str(error)
            return
        except BrokerError as error:
            self._refuse(error)
            return
        if topology == self._topology:
            return
        with self._lock:
            self._topology = topology
            for address in topology.masters:
                if address not in self._nodes:
                    self._add_node(address)
            gone = [
                node for address, node in self._nodes.items() if address not in topology.masters
            ]
            for node in gone:
                del self._nodes[node.address]
        for node in gone:
            self._lose(node)
            self._close_node(node, f"{text_of(node.address)} is no master any more")
        self._move_channels()
        self.on_link()

    def _move_channels(self) -> None:
        """Those that are subscribed where they do not belong any more."""
        moved: dict[_Node, list[bytes]] = {}
        since = _Lost(time.time())
        with self._lock:
            for channel, where in self.wanted.items():
                if (
                    isinstance(where, _Node)
                    and self._topology.owners[partition_of(channel)] != where.address
                ):
                    moved.setdefault(where, []).append(channel)
                    self.wanted[channel] = since
                    self._missing[channel] = None
        for node, channels in moved.items():
            if node.messages is not None:
                node.messages.unsubscribe(self._names(channels))

    def _look_after_messages(self) -> None:
        if not self._is_subscribing:
            return
        now = time.monotonic()
        for node in self._all_nodes():
            link = node.messages
            if link is None:
                continue
            if not link.is_up:
                if now - node.messages_since > REPLACE_SECONDS:
                    self._replace_messages(node)
            elif node.probed_at:
                if now - node.probed_at > PROBE_ANSWER_SECONDS:
                    self._refresh_soon()
                    self._replace_messages(node)
            elif now - node.heard_at > PROBE_IDLE_SECONDS:
                self._probe(node, link)
        if self._missing:
            self._place_missing()

    def _place_missing(self) -> None:
        with self._lock:
            self._missing = {
                channel: None
                for channel in self._missing
                if channel in self.wanted and not isinstance(self.wanted[channel], _Node)
            }
            missing = list(self._missing)
        for node, some in self._by_node(missing):
            if node.messages is not None and node.messages.is_up:
                with self._lock:
                    for channel in some:
                        self._missing.pop(channel, None)
                self._place(some)

    def _replace_messages(self, node: _Node) -> None:
        with self._lock:
            old = node.messages
            self._open_messages(node)
        self._lose(node)
        if old is not None:
            old.close()

    def _probe(self, node: _Node, link: Link) -> None:
        """Publish what only this link hears. A PING would not tell that messages still come."""
        channel = self._probe_channel(node)
        if channel is None:
            return
        node.probed_at = time.monotonic()
        with contextlib.suppress(BrokerDown, BrokerError):
            link.subscribe([channel])
            node.commands.submit(Command(COMMON, (b"SPUBLISH", channel, b""), waits=False))

    def _update_state(self) -> None:
        masters = self._topology.masters
        nodes = [self._nodes.get(address) for address in masters]
        up = sum(node is not None and self._is_whole(node) for node in nodes)
        is_whole = None not in self._topology.owners and up == len(masters)
        state: State = "down"
        if self._is_fit and up:
            state = "up" if is_whole else "degraded"
        for node in nodes:
            if node is not None and not node.commands.is_up:
                self.reason = node.commands.reason
                if node.commands.unfit is not None:
                    self._refuse(node.commands.unfit)
        if state != self._state:
            self._state = state
            self._tell("on_state", state)

    def _is_whole(self, node: _Node) -> bool:
        if not node.commands.is_up:
            return False
        link = node.messages
        if link is None or link.is_up:
            return True
        # One that has just been made for the first subscription is no loss.
        return not node.has_heard and time.monotonic() - node.messages_since < 1.0

    def _tell(self, method: str, *arguments: Any) -> None:
        if self.listener is None or self._is_closed:
            return
        try:
            getattr(self.listener, method)(*arguments)
        except Exception:
            log.exception("broker: %s", method)

    def _refuse(self, error: BrokerError) -> None:
        """It is not fit, which ends the start; later it is as good as down."""
        self.reason = str(error)
        if not self._ready.is_set():
            self._unfit = error
            self._ready.set()

    # -- the thread that watches over leases

    def _keep_lease(self) -> None:
        renew_at = 0.0
        while not self._is_leaving:
            now = time.monotonic()
            if self._are_writes_doubtful or now >= renew_at:
                try:
                    self._renew_lease()
                    renew_at = now + RENEW_SECONDS
                except BrokerDown as error:
                    if not self._ready.is_set():
                        self.reason = str(error)
                    renew_at = now + PROBE_SECONDS
                except BrokerError as error:
                    self._refuse(error)
                    renew_at = now + PROBE_SECONDS
            self._lease.wait(max(0.05, renew_at - time.monotonic()))
            self._lease.clear()

    def _renew_lease(self) -> None:
        is_doubtful, self._are_writes_doubtful = self._are_writes_doubtful, False
        try:
            self._check_partitions()
            if self._is_leaving:
                return
            there_was_one = self.call("renew", b"", self._process, b"%d" % LEASE_MS)
            is_lost = bool(is_doubtful and self._is_fit and self._have_writes_been_lost())
        except BrokerDown:
            self._are_writes_doubtful = is_doubtful
            raise
        if self._is_fit and (is_lost or not there_was_one):
            self._become_new()
        if not self._is_fit:
            self._is_fit = True
            self._update_state()
        self._ready.set()
        self._reap_expired()

    def _check_partitions(self) -> None:
        key = self._prefixes[COMMON] + b"conf"
        count = b"%d" % PARTITIONS
        self._submit(Command(COMMON, (b"HSETNX", key, b"partitions", count), True)).wait()
        found = self._submit(Command(COMMON, (b"HGET", key, b"partitions"), True)).wait()
        if found != count:
            raise partition_mismatch(found)

    def _have_writes_been_lost(self) -> bool:
        """A server knows of fewer of our members' changes than it had confirmed."""
        confirmed = list(self._writes)
        waiting = []
        for partition, number in enumerate(confirmed):
            if number:
                words = (b"HGET", self._prefixes[partition] + b"w:" + self._process, b"")
                command = Command(partition, words, waits=True)
                try:
                    waiting.append((number, self._submit(command)))
                except BrokerDown:
                    self._are_writes_doubtful = True  # its turn comes with its server
        lost = False
        for number, command in waiting:
            found = command.wait()
            lost = lost or int(cast(bytes, found) or 0) < number
        return lost

    def _become_new(self) -> None:
        old, self._process = self._process, self._new_name()
        self._writes = [0] * PARTITIONS
        self.call("renew", b"", self._process, b"%d" % LEASE_MS)
        self._tell("on_fenced")
        self._reap(b"", old)

    def _reap_expired(self) -> None:
        leases = self._read_leases()
        self._leases = {}  # of those that are no more, too
        now = time.monotonic()
        expired = [name for name, until in leases.items() if until <= now]
        if len(expired) * 2 <= len(leases):
            self._crowded_since = 0.0
        elif not self._crowded_since:
            # So many at once: rather we have slept, or Redis has.
            self._crowded_since = now
        if self._crowded_since and now - self._crowded_since < 2 * LEASE_MS / 1000:
            return
        for name in expired:
            if now - leases[name] <= LEASE_MS / 1000:
                continue
            lock = self._prefixes[COMMON] + b"reap:" + name
            words = (b"SET", lock, self._process, b"NX", b"PX", b"%d" % REAP_LOCK_MS)
            if self._submit(Command(COMMON, words, waits=True)).wait() is not None:
                self._reap(b"", name)


class _MessagesOwner:
    """See `link.Owner`."""

    def __init__(self, broker: RedisBroker, node: _Node) -> None:
        self._broker = broker
        self._node = node
        self._tell = cast(Listener, broker.listener).on_message
        self._wanted = broker.wanted
        self._start = broker.channel_start
        self.link: Link | None = None

    def on_push(self, push: list[Any]) -> None:
        if push[0] == b"smessage":
            node = self._node
            node.heard_at = time.monotonic()
            channel = push[1][self._start :]
            if channel in self._wanted:
                self._tell(channel, push[2])
            elif node.probed_at:
                node.probed_at = 0.0
        elif push[0] == b"sunsubscribe":
            self._broker.on_moved(self._node, push[1])

    def on_up(self, interrupted: Sequence[bytes], since: float, until: float) -> None:
        if self.link is not None:
            self._broker.on_messages_up(self._node, self.link, interrupted, since)

    def on_down(self, reason: str) -> None:
        if self.link is not None:
            self._broker.on_messages_down(self._node, self.link)


def _batches(names: Collection[bytes]) -> Iterator[Sequence[bytes]]:
    """Names that one command may name: those of one partition, so many at once."""
    of_tag: dict[bytes, list[bytes]] = {}
    for name in names:
        of_tag.setdefault(name[: name.index(b"}:")], []).append(name)
    for some in of_tag.values():
        for start in range(0, len(some), BATCH):
            yield some[start : start + BATCH]
