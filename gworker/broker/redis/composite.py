"""Operations that take several commands.

Those that an application waits for have one deadline for all commands, the first one's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from gworker.broker.interface import Reply
from gworker.broker.redis.command import Command
from gworker.broker.redis.operations import (
    COMMON,
    Names,
    leaves_keys,
    number_of,
    presence_keys,
    script_command,
)
from gworker.broker.redis.partitions import PARTITIONS, partition_of
from gworker.broker.redis.routing import Router
from gworker.errors import BrokerDown

# Seconds for which the lease of another process that has been looked at is not looked at again.
LEASE_KNOWN_SECONDS = 2.0

BATCH = 512  # commands that are under way at once

# Milliseconds for which leaves that are due are not asked for again, by any process: a little less
# than the time after which a process asks.
SWEEP_MS = 900

FULL_SWEEP = 1000  # leaves in one go of a partition, which may have more of them then


class Composite:
    """operations: each by its name. They raise BrokerDown and BrokerError."""

    def __init__(self, router: Router, names: Names) -> None:
        self._router = router
        self._names = names
        self._leases: dict[bytes, float] = {}  # until when each is known to last
        self.operations: dict[str, Callable[..., Reply]] = {
            "count": self.count,
            "members": self.members,
            "keys": self.keys,
            "reap": self.reap,
            "publish_due_leaves": self.publish_due_leaves,
        }

    def count(self, channel: bytes) -> int:
        index, _ = self._index(channel)
        return sum(index.values())

    def members(self, channel: bytes, limit: bytes) -> Reply:
        most = number_of(limit)
        processes, deadline = self._index(channel)
        if not processes:
            return []
        partition = partition_of(channel)
        start = self._names.prefixes[partition] + b"p:" + channel + b":"
        keys = [start + process for process in processes]
        command = script_command("members", partition, keys, [b"%d" % most])
        command.deadline = deadline
        return self._router.submit(command).wait()

    def keys(self, channel: bytes, prefix: bytes, cursor: bytes) -> Reply:
        """cursor: the partition, and the cursor of ZSCAN in it."""
        number, _, place = cursor.partition(b".")
        partition = int(number or 0)
        key = self._names.prefixes[partition] + b"dk"
        command = script_command("keys", partition, [key], [prefix, place or b"0"])
        place, keys = cast("list[Any]", self._router.submit(command).wait())
        if place != b"0":
            return [b"%d.%b" % (partition, place), keys]
        partition += 1
        return [b"%d.0" % partition if partition < PARTITIONS else b"", keys]

    def reap(self, channel: bytes, process: bytes) -> int:
        """In steps, each of which may be done again."""
        names = self._names
        touched = self._everywhere(
            (partition, Command(partition, (b"HKEYS", names.changes(partition, process)), True))
            for partition in range(PARTITIONS)
        )
        removals = self._everywhere(self._removals(touched, process))
        lease = Command(COMMON, (b"ZREM", names.leases, process), waits=True)
        self._router.submit(lease).wait()
        self._leases.pop(process, None)
        return sum(cast(int, reply) for is_removal, reply in removals if is_removal)

    def publish_due_leaves(self, channel: bytes, head: bytes, separator: bytes, tail: bytes) -> int:
        """Publish those of all partitions, unless a process has done so within SWEEP_MS: each of
        them asks for it again and again."""
        key, milliseconds = self._names.sweep, b"%d" % SWEEP_MS
        lock = Command(COMMON, (b"SET", key, b"", b"NX", b"PX", milliseconds), waits=True)
        if self._router.submit(lock).wait() is None:
            return 0
        published = 0
        partitions = list(range(PARTITIONS))
        while partitions:
            counts = self._publish_leaves_of(partitions, head, separator, tail)
            published += sum(counts.values())
            partitions = [each for each, count in counts.items() if count >= FULL_SWEEP]
        return published

    def _publish_leaves_of(self, partitions: Iterable[int], *words: bytes) -> dict[int, int]:
        waiting: dict[int, Command] = {}
        counts: dict[int, int] = {}
        for partition in partitions:
            prefix = self._names.prefixes[partition]
            keys = leaves_keys(prefix)
            # A server that is down publishes them when it is up.
            with contextlib.suppress(BrokerDown):
                waiting[partition] = self._router.submit(
                    script_command("publish_due_leaves", partition, keys, [prefix, *words])
                )
        for partition, command in waiting.items():
            with contextlib.suppress(BrokerDown):
                counts[partition] = cast(int, command.wait())
        return counts

    def _removals(
        self, touched: Iterable[tuple[int, Reply]], process: bytes
    ) -> Iterator[tuple[int, Command]]:
        # 1 and a command that removes members, and 0 and the last one of a partition.
        for partition, channels in touched:
            prefix = self._names.prefixes[partition]
            some = cast("list[bytes]", channels)
            for channel in filter(None, some):
                keys = presence_keys(prefix, channel, process)
                yield 1, script_command("reap", partition, keys, [channel, process])
            if some:
                key = self._names.changes(partition, process)
                yield 0, Command(partition, (b"DEL", key), waits=True)

    def _everywhere(self, commands: Iterable[tuple[int, Command]]) -> list[tuple[int, Reply]]:
        """The answers to commands of many partitions, each with its number."""
        answers: list[tuple[int, Reply]] = []
        waiting: list[tuple[int, Command]] = []
        for number, command in commands:
            waiting.append((number, self._router.submit(command)))
            if len(waiting) >= BATCH:
                answers += [(of, each.wait()) for of, each in waiting]
                waiting.clear()
        return answers + [(of, each.wait()) for of, each in waiting]

    # -- leases

    def read_leases(
        self, processes: Iterable[bytes] = (), deadline: float | None = None
    ) -> dict[bytes, float]:
        """Until when each of them has a lease, or had one, by the monotonic clock; without names
        all that there are."""
        began = time.monotonic()
        command = script_command("leases", COMMON, [self._names.leases], list(processes))
        if deadline is not None:
            command.deadline = deadline
        flat = cast("list[Any]", self._router.submit(command).wait())
        return {
            name: began + int(left) / 1000 for name, left in zip(flat[::2], flat[1::2], strict=True)
        }

    def forget_leases(self) -> None:
        """Forget the leases of all processes, also of those that have ended."""
        self._leases = {}

    def _index(self, channel: bytes) -> tuple[dict[bytes, int], float]:
        """Processes with a lease and the number of their members; the deadline."""
        partition = partition_of(channel)
        words = (b"HGETALL", self._names.prefixes[partition] + b"pi:" + channel)
        command = self._router.submit(Command(partition, words, True))
        flat = cast("list[bytes]", command.wait())
        index = {name: int(count) for name, count in zip(flat[::2], flat[1::2], strict=True)}
        now = time.monotonic()
        known = self._leases
        unknown = [name for name in index if known.get(name, 0.0) <= now]
        if unknown:
            latest = now + LEASE_KNOWN_SECONDS
            for name, until in self.read_leases(unknown, command.deadline).items():
                known[name] = min(until, latest)
        found = {name: count for name, count in index.items() if known[name] > now}
        return found, command.deadline
