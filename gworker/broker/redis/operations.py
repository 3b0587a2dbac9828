"""What each operation is on a Redis: a script, its keys and its arguments.

Whatever one script touches is in one partition, and so in one slot. Names begin with the prefix of
their partition.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from gworker.broker.interface import FLEETING, Reply
from gworker.broker.redis.command import Command
from gworker.broker.redis.partitions import TAGS, partition_of
from gworker.broker.redis.script import SCRIPTS
from gworker.errors import BrokerError

# The partition of what belongs to the whole cluster.
COMMON = 0

_MODES = (b"fleeting", b"recoverable", b"latest")

# The keys and the arguments of a script.
_Shape = tuple[list[bytes], list[bytes]]


def prefixes_of(cluster_name: str) -> list[bytes]:
    """How the names of each partition begin. All have one length."""
    start = b"gw:" + cluster_name.encode() + b":{"
    return [start + tag + b"}:" for tag in TAGS]


class Names:
    """The names of keys and channels of one cluster of instances."""

    def __init__(self, cluster_name: str) -> None:
        self.prefixes = prefixes_of(cluster_name)
        self.start = len(self.prefixes[0])  # where the channel begins in its name
        self.conf = self.prefixes[COMMON] + b"conf"
        self.leases = self.prefixes[COMMON] + b"workers"
        self.sweep = self.prefixes[COMMON] + b"sweep"

    def of(self, channel: bytes) -> bytes:
        return self.prefixes[partition_of(channel)] + channel

    def changes(self, partition: int, process: bytes) -> bytes:
        """The key with the channels in which a process has members, and the number of changes."""
        return self.prefixes[partition] + b"w:" + process


def script_command(
    name: str,
    partition: int,
    keys: Sequence[bytes],
    values: Sequence[bytes],
    waits: bool = True,
    channel: bytes = b"",
    finish: Callable[[Any], Reply] | None = None,
) -> Command:
    script = SCRIPTS[name]
    words = (b"EVALSHA", script.digest, b"%d" % len(keys), *keys, *values)
    return Command(partition, words, waits, channel, script.source, finish)


def command_of(
    names: Names,
    operation: str,
    channel: bytes,
    arguments: tuple[bytes, ...],
    waits: bool,
    finish: Callable[[Any], Reply] | None = None,
) -> Command:
    """The one command of an operation. Raises BrokerError for one that there is not."""
    partition = partition_of(channel) if channel else COMMON
    prefix = names.prefixes[partition]
    if operation == "publish":
        (body,) = arguments
        words = (b"SPUBLISH", prefix + channel, FLEETING + body)
        return Command(partition, words, waits, channel)
    shape = _SHAPES.get(operation)
    if shape is None:
        raise BrokerError(f"there is no operation {operation}")
    keys, values = shape(prefix, channel, *arguments)
    return script_command(operation, partition, keys, values, waits, channel, finish)


def number_of(text: bytes) -> int:
    if not text.isdigit():
        raise BrokerError(f"not a number of milliseconds or entries: {text!r}")
    return int(text)


def _new_epoch() -> bytes:
    return secrets.token_hex(4).encode()


# ---- the keys and the arguments of the script of each operation


def _keep(
    prefix: bytes, channel: bytes, mode: bytes, size: bytes, ttl: bytes, key: bytes,
    value_key: bytes, body: bytes,
) -> _Shape:  # fmt: skip
    if mode not in _MODES:
        raise BrokerError(f"no such mode: {mode!r}")
    number_of(size)
    number_of(ttl)
    publication = prefix + b"i:%d:" % len(channel) + channel + b":" + key
    values = [prefix + channel, mode, size, ttl, key, value_key, body, _new_epoch()]
    return [*_history_keys(prefix, channel), publication], values


def _history_keys(prefix: bytes, channel: bytes) -> list[bytes]:
    return [
        prefix + b"m:" + channel,
        prefix + b"h:" + channel,
        prefix + b"l:" + channel,
        prefix + b"lo:" + channel,
    ]


def _history(prefix: bytes, channel: bytes, *arguments: bytes) -> _Shape:
    return _history_keys(prefix, channel), list(arguments)


def _position(prefix: bytes, channel: bytes) -> _Shape:
    return [prefix + b"m:" + channel], [_new_epoch()]


def _rotate(prefix: bytes, channel: bytes, epoch: bytes) -> _Shape:
    return [prefix + b"m:" + channel], [epoch, _new_epoch()]


def presence_keys(prefix: bytes, channel: bytes, process: bytes) -> list[bytes]:
    return [
        prefix + b"p:" + channel + b":" + process,
        prefix + b"pi:" + channel,
        prefix + b"pn:" + channel,
        prefix + b"w:" + process,
        *leaves_keys(prefix),
    ]


def leaves_keys(prefix: bytes) -> list[bytes]:
    return [prefix + b"lv", prefix + b"lw"]


def _enter(
    prefix: bytes, channel: bytes, process: bytes, previous: bytes, member: bytes,
    identity: bytes, info: bytes, leave: bytes,
) -> _Shape:  # fmt: skip
    keys = presence_keys(prefix, channel, process)
    if previous and previous != process:
        keys += [prefix + b"p:" + channel + b":" + previous, prefix + b"w:" + previous]
    return keys, [channel, process, previous, member, identity, info, leave]


def _exit(prefix: bytes, channel: bytes, process: bytes, member: bytes) -> _Shape:
    keys = presence_keys(prefix, channel, process)
    return keys, [channel, process, member]


def _data(prefix: bytes, channel: bytes, *arguments: bytes) -> _Shape:
    return [prefix + channel, prefix + b"dk"], [channel, *arguments]


def _lasting(prefix: bytes, channel: bytes, *arguments: bytes) -> _Shape:
    number_of(arguments[-1])  # the time to live
    return _data(prefix, channel, *arguments)


def _renew(prefix: bytes, channel: bytes, process: bytes, ttl: bytes) -> _Shape:
    return [prefix + b"workers"], [process, ttl]


def _declare(prefix: bytes, channel: bytes, *arguments: bytes) -> _Shape:
    return [prefix + b"dc", prefix + b"do"], list(arguments)


_SHAPES: dict[str, Callable[..., _Shape]] = {
    "keep": _keep,
    "history": _history,
    "position": _position,
    "rotate": _rotate,
    "enter": _enter,
    "exit": _exit,
    "renew": _renew,
    "declare": _declare,
    "declarations": _declare,
    **dict.fromkeys(("get", "delete", "increment", "compare_and_set"), _data),
    **dict.fromkeys(("set", "add", "expire"), _lasting),
}
