"""RedisBroker: a process's way to Redis."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from gworker.broker.interface import CALL_SECONDS, Answer, Listener, Reply, State
from gworker.broker.link.input import MakeReadable
from gworker.broker.redis.command import Command
from gworker.broker.redis.commands import CommandLink
from gworker.broker.redis.composite import Composite
from gworker.broker.redis.lease import Lease
from gworker.broker.redis.nodes import Nodes
from gworker.broker.redis.operations import Names, command_of
from gworker.broker.redis.partitions import partition_of
from gworker.broker.redis.routing import Router
from gworker.broker.redis.script import SCRIPTS
from gworker.broker.redis.subscriptions import Subscriptions
from gworker.broker.redis.topology import Address, Servers, check_fit, facts_of
from gworker.broker.url import BrokerUrl
from gworker.errors import BrokerDown, BrokerError

log = logging.getLogger("gworker")

TICK = 0.2  # seconds between two looks at the links


class RedisBroker:
    """It implements `interface.Broker`, `commands.Owner` and `lease.Owner`.

    instance: the same for all processes of one instance of gworker, and for no other: with it,
    `process_died` finds the names of a process that has ended.
    make_readable: see `link.Link`.
    """

    def __init__(
        self,
        url: BrokerUrl,
        cluster_name: str,
        instance: str = "",
        make_readable: MakeReadable | None = None,
    ) -> None:
        self._is_cluster = url.kind == "cluster"
        self._servers = Servers(url, f"gworker-{cluster_name}-{os.getpid()}")
        self._names = Names(cluster_name)
        self._nodes = Nodes(self._servers, self._new_link)
        self._router = Router(self._nodes, self._wake)
        self._composite = Composite(self._router, self._names)
        self._lease = Lease(
            self._router, self._composite, self._names, instance or secrets.token_hex(5), self
        )
        self._subscriptions = Subscriptions(
            self._nodes, self._servers, self._names, self._tell, self._wake, make_readable
        )
        self._listener: Listener | None = None
        self._state: State = "down"
        self._is_due = threading.Event()  # for the thread that watches
        self._is_ready = threading.Event()  # there is a lease, or never will be
        self._unfit: BrokerError | None = None
        self._is_closed = False
        self._closing = threading.Event()

    # -- Broker

    @property
    def process(self) -> bytes:
        return self._lease.process

    @property
    def state(self) -> State:
        return self._state

    @property
    def latency(self) -> float:
        return self._nodes.latency

    def start(self, listener: Listener, wait: float) -> None:
        """See `interface.Broker`. After BrokerDown it goes on trying, until `close`."""
        self._listener = listener
        self._subscriptions.start(listener)
        for work in (self._watch, self._watch_deadlines):
            threading.Thread(target=work, name="gworker broker", daemon=True).start()
        self._lease.start()
        began = time.monotonic()
        until = began + wait
        self._is_ready.wait(wait)
        if self._unfit is not None:
            self.close()
            raise self._unfit
        if not self._is_ready.is_set():
            raise BrokerDown(self._nodes.reason)
        # The other servers of a cluster come within moments, or later.
        while self._state != "up" and time.monotonic() < min(until, began + CALL_SECONDS):
            time.sleep(0.01)

    def call(self, operation: str, channel: bytes, *arguments: bytes) -> Reply:
        composite = self._composite.operations.get(operation)
        if composite is not None:
            return composite(channel, *arguments)
        return self._submit(operation, channel, arguments, waits=True, is_awaited=True).wait()

    def submit(self, operation: str, channel: bytes, *arguments: bytes) -> Answer:
        return self._submit(operation, channel, arguments, waits=True)

    def post(self, operation: str, channel: bytes, *arguments: bytes) -> None:
        with contextlib.suppress(BrokerDown):
            self._submit(operation, channel, arguments, waits=False)

    def partition_of(self, channel: bytes) -> int:
        return partition_of(channel)

    def subscribe(self, channels: Sequence[bytes]) -> None:
        self._subscriptions.subscribe(channels)

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        self._subscriptions.unsubscribe(channels)

    def process_died(self, pid: int) -> int:
        return self._lease.process_died(pid)

    def close(self) -> None:
        if self._lease.is_held and self._state != "down":
            with contextlib.suppress(BrokerDown, BrokerError):
                self._lease.end()
        self._stop()
        self._subscriptions.close()
        self._router.close()
        self._nodes.close(CALL_SECONDS / 2)

    def let_go(self) -> None:
        self._stop()
        self._nodes.let_go()
        self._subscriptions.let_go()

    def _stop(self) -> None:
        self._is_closed = True
        self._is_due.set()
        self._closing.set()
        self._lease.stop()

    def _submit(
        self,
        operation: str,
        channel: bytes,
        arguments: tuple[bytes, ...],
        waits: bool,
        is_awaited: bool = False,
    ) -> Command:
        if operation in self._composite.operations:
            raise ValueError(f"{operation} takes several commands")
        finish: Callable[[Any], Reply] | None = None
        if operation in ("enter", "exit"):
            finish = self._lease.counting(partition_of(channel), arguments[0])
        elif operation == "increment":
            finish = int  # a script has no integers of 64 bits
        command = command_of(self._names, operation, channel, arguments, waits, finish)
        command.is_awaited = is_awaited
        return self._router.submit(command)

    # -- what links for commands tell

    def greet(self, address: Address, ask: Callable[..., list[Any]]) -> None:
        scripts = [(b"SCRIPT", b"LOAD", script.source) for script in SCRIPTS.values()]
        facts, *_ = ask((b"INFO", b"server"), *scripts)
        check_fit(address, facts_of(facts), self._is_cluster)

    def on_link(self) -> None:
        self._lease.doubt()
        self._wake()

    def on_refused(self, command: Command, link: CommandLink, error: ResponseError) -> None:
        self._router.refused(command, link, error)

    def _new_link(self, address: Address) -> CommandLink:
        return CommandLink(address, self._servers.connection, self)

    # -- what the lease tells

    def on_lease(self) -> None:
        self._update_state()
        self._is_ready.set()

    def on_no_lease(self, error: BrokerDown | BrokerError) -> None:
        if isinstance(error, BrokerError):
            self._refuse(error)
        elif not self._is_ready.is_set():
            self._nodes.reason = str(error)

    def on_fenced(self) -> None:
        self._tell("on_fenced")

    # -- the thread that watches

    def _wake(self) -> None:
        self._is_due.set()

    def _watch(self) -> None:
        while not self._is_closed:
            self._look_at_topology()
            pause = self._router.try_again(TICK)
            self._nodes.watch()
            self._subscriptions.watch()
            self._update_state()
            self._is_due.wait(pause)
            self._is_due.clear()

    def _watch_deadlines(self) -> None:
        # Not in the other thread, which may wait for servers.
        while not self._closing.wait(TICK):
            self._nodes.break_stuck()

    def _look_at_topology(self) -> None:
        try:
            topology = self._nodes.look(is_well=self._state == "up")
        except BrokerError as error:
            self._refuse(error)
            return
        if topology is not None:
            self._router.move(topology)
            self._subscriptions.follow()
            self._lease.doubt()

    def _refuse(self, error: BrokerError) -> None:
        """It is not fit, which ends the start; later it is as good as down."""
        self._nodes.reason = str(error)
        if not self._is_ready.is_set():
            self._unfit = error
            self._is_ready.set()

    # -- the state

    def _update_state(self) -> None:
        topology, links = self._nodes.topology, self._nodes.links
        masters = topology.masters
        up = sum(self._is_whole(links.get(address)) for address in masters)
        state: State = "down"
        if self._lease.is_held and up:
            is_whole = None not in topology.owners and up == len(masters)
            state = "up" if is_whole else "degraded"
        for address in masters:
            link = links.get(address)
            if link is not None and not link.is_up:
                self._nodes.reason = link.reason
                if link.unfit is not None:
                    self._refuse(link.unfit)
        if state != self._state:
            self._state = state
            self._tell("on_state", state)

    def _is_whole(self, link: CommandLink | None) -> bool:
        return link is not None and link.is_up and not self._subscriptions.is_lost(link.address)

    def _tell(self, method: str, *arguments: object) -> None:
        if self._listener is None or self._is_closed:
            return
        try:
            getattr(self._listener, method)(*arguments)
        except Exception:
            log.exception("broker: %s", method)
