"""Operations that take several commands.

Those that an application waits for have one deadline for all commands, the first one's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from gworker.broker.interface import Reply
from gworker.broker.redis.commands import Command
from gworker.broker.redis.operations import (
    COMMON,
    Names,
    number_of,
    presence_keys,
    script_command,
)
from gworker.broker.redis.partitions import PARTITIONS, partition_of
from gworker.broker.redis.routing import Router

# Seconds for which the lease of another process that has been looked at is not looked at again.
LEASE_KNOWN_SECONDS = 2.0

BATCH = 512  # commands that are under way at once


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
        """Of those that are no more, too."""
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
