"""The lease of this process, and those of others that have run out.

A process has a lease of 30 seconds and renews it each 10. Members of processes without one are
hidden at once, and removed a while later by any process.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

from gworker.broker.interface import Reply
from gworker.broker.redis.check import partition_mismatch
from gworker.broker.redis.command import Command
from gworker.broker.redis.commands import PROBE_SECONDS
from gworker.broker.redis.composite import Composite
from gworker.broker.redis.operations import COMMON, Names, command_of
from gworker.broker.redis.partitions import PARTITIONS
from gworker.broker.redis.routing import Router
from gworker.errors import BrokerDown, BrokerError

# Seconds between two renewals of the lease, and its milliseconds.
RENEW_SECONDS = 10.0
LEASE_MS = 30_000

REAP_LOCK_MS = 10_000

LEAST_SECONDS = 0.05  # between two attempts


class Owner(Protocol):
    """What a lease tells, from its own thread."""

    def on_lease(self) -> None:
        """There is a lease, and the servers are fit."""

    def on_no_lease(self, error: BrokerDown | BrokerError) -> None:
        """It could not be had or renewed."""

    def on_fenced(self) -> None:
        """It was lost, and `process` is another name."""


class Lease:
    """instance: the start of the names of its processes. process: the name of this one. is_held:
    there is, or was, a lease."""

    def __init__(
        self, router: Router, composite: Composite, names: Names, instance: str, owner: Owner
    ) -> None:
        self._router = router
        self._composite = composite
        self._names = names
        self._instance = instance
        self._owner = owner
        self.process = self._new_name()
        self.is_held = False
        self._changes = [0] * PARTITIONS  # what the servers have confirmed of `process`
        self._are_changes_doubtful = False
        self._crowded_since = 0.0
        self._due = threading.Event()
        self._is_closed = False

    def start(self) -> None:
        threading.Thread(target=self._keep, name="gworker lease", daemon=True).start()

    def doubt(self) -> None:
        """A server may have lost what it had confirmed."""
        self._are_changes_doubtful = True
        self._due.set()

    def end(self) -> None:
        """Renew it no more, and remove all members of this process. Raises BrokerDown,
        BrokerError."""
        self.stop()
        self._composite.reap(b"", self.process)

    def stop(self) -> None:
        self._is_closed = True
        self._due.set()

    def counting(self, partition: int, process: bytes) -> Callable[[Any], Reply]:
        """What makes the reply of a change of members: the server numbers these changes."""

        def finish(reply: Any) -> Reply:
            if process == self.process:
                self._changes[partition] = max(self._changes[partition], reply[1])
            return cast(Reply, reply[0])

        return finish

    def process_died(self, pid: int) -> int:
        """A process of this instance has ended: remove its members. How many those were."""
        start = f"{self._instance}.{pid}.".encode()
        names = [name for name in self._composite.read_leases() if name.startswith(start)]
        return sum(self._composite.reap(b"", name) for name in names if name != self.process)

    def _new_name(self) -> bytes:
        return f"{self._instance}.{os.getpid()}.{secrets.token_hex(4)}".encode()

    # -- the thread

    def _keep(self) -> None:
        renew_at = 0.0
        while not self._is_closed:
            now = time.monotonic()
            if self._are_changes_doubtful or now >= renew_at:
                try:
                    self._keep_once()
                    renew_at = now + RENEW_SECONDS
                except (BrokerDown, BrokerError) as error:
                    self._owner.on_no_lease(error)
                    renew_at = now + PROBE_SECONDS
            self._due.wait(max(LEAST_SECONDS, renew_at - time.monotonic()))
            self._due.clear()

    def _keep_once(self) -> None:
        is_doubtful, self._are_changes_doubtful = self._are_changes_doubtful, False
        try:
            self._check_partitions()
            if self._is_closed:
                return
            there_was_one = self._renew()
            is_lost = bool(is_doubtful and self.is_held and self._have_changes_been_lost())
        except BrokerDown:
            self._are_changes_doubtful = is_doubtful
            raise
        if self.is_held and (is_lost or not there_was_one):
            self._become_new()
        self.is_held = True
        self._owner.on_lease()
        self._reap_expired()

    def _renew(self) -> Reply:
        arguments = (self.process, b"%d" % LEASE_MS)
        command = command_of(self._names, "renew", b"", arguments, waits=True)
        return self._router.submit(command).wait()

    def _check_partitions(self) -> None:
        key, count = self._names.conf, b"%d" % PARTITIONS
        self._ask(COMMON, b"HSETNX", key, b"partitions", count).wait()
        found = self._ask(COMMON, b"HGET", key, b"partitions").wait()
        if found != count:
            raise partition_mismatch(found)

    def _ask(self, partition: int, *words: bytes) -> Command:
        return self._router.submit(Command(partition, words, waits=True))

    def _have_changes_been_lost(self) -> bool:
        """A server knows of fewer of our members' changes than it had confirmed."""
        waiting = []
        for partition, number in enumerate(list(self._changes)):
            if number:
                key = self._names.changes(partition, self.process)
                try:
                    waiting.append((number, self._ask(partition, b"HGET", key, b"")))
                except BrokerDown:
                    self._are_changes_doubtful = True  # its turn comes with its server
        lost = False
        for number, command in waiting:
            found = command.wait()
            lost = lost or int(cast(bytes, found) or 0) < number
        return lost

    def _become_new(self) -> None:
        old, self.process = self.process, self._new_name()
        self._changes = [0] * PARTITIONS
        self._renew()
        self._owner.on_fenced()
        self._composite.reap(b"", old)

    # -- leases of others

    def _reap_expired(self) -> None:
        leases = self._composite.read_leases()
        self._composite.forget_leases()
        now = time.monotonic()
        expired = [name for name, until in leases.items() if until <= now]
        if self._are_too_many(len(expired), len(leases), now):
            return
        for name in expired:
            if now - leases[name] > LEASE_MS / 1000 and self._may_reap(name):
                self._composite.reap(b"", name)

    def _are_too_many(self, expired: int, leases: int, now: float) -> bool:
        """So many at once: rather we have slept, or Redis has."""
        if expired * 2 <= leases:
            self._crowded_since = 0.0
        elif not self._crowded_since:
            self._crowded_since = now
        return bool(self._crowded_since) and now - self._crowded_since < 2 * LEASE_MS / 1000

    def _may_reap(self, name: bytes) -> bool:
        """No other process does it just now."""
        lock = self._names.prefixes[COMMON] + b"reap:" + name
        milliseconds = b"%d" % REAP_LOCK_MS
        command = self._ask(COMMON, b"SET", lock, self.process, b"NX", b"PX", milliseconds)
        return command.wait() is not None
