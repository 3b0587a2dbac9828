"""What a process can ask of a broker, and what a broker tells it.

A channel is bytes: its kind, a colon and a name. What is published on a channel reaches every
process that has subscribed to it, the publisher's own included, in one order for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, Union

# What an operation answers: a number, bytes, nothing, or a list of these.
Reply = Union[None, int, bytes, "list[Reply]"]

State = Literal["up", "degraded", "down"]

# Seconds: within them every call has its answer, or fails. See `deadline` for several in a row.
CALL_SECONDS = 2.0

# The largest body of a message, in bytes.
MAX_BODY = 1 << 20

# Bytes of the bodies in one answer of `history`, of which the last may exceed them: what follows is
# asked for by the offset of the last one.
PAGE_BYTES = 1 << 20

# The first byte of what a subscriber gets: a body alone, or an epoch (8 bytes of ASCII), an offset
# (8 bytes, big-endian) and a body.
FLEETING, KEPT = b"\0", b"\1"


class Listener(Protocol):
    """What hears of a broker in one process. The calls come from the greenlet that reads."""

    def on_message(self, channel: bytes, payload: bytes) -> None:
        """A message of a channel, in the order of the broker. It may wait: then the broker does."""

    def on_state(self, state: State) -> None: ...

    def on_interrupted(self, channels: Sequence[bytes], since: float, until: float) -> None:
        """They are subscribed again: messages between `since` and `until`, in seconds since the
        epoch, may be lost."""

    def on_fenced(self) -> None:
        """The lease was lost, and `process` is a new name: announce everything anew."""


class Answer(Protocol):
    """What an operation will answer."""

    def wait(self) -> Reply:
        """Raises BrokerDown within `CALL_SECONDS`, and BrokerError if it is refused."""


class Broker(Protocol):
    """One process's way to a broker. Its methods may be called in any greenlet or thread.

    process: the name of this process with the broker; another one after its lease was lost.
    latency: seconds that the last call took.
    """

    @property
    def process(self) -> bytes: ...
    @property
    def state(self) -> State: ...
    @property
    def latency(self) -> float: ...

    def start(self, listener: Listener, wait: float) -> None:
        """Connect. Raises BrokerDown if that takes longer than `wait` seconds, and BrokerError if
        the broker is not fit."""

    def call(self, operation: str, channel: bytes, *arguments: bytes) -> Reply:
        """Have an operation of `store.Store` done, and wait for what it answers.

        Raises BrokerDown, at once or within `CALL_SECONDS`, and BrokerError if it is refused.
        """

    def submit(self, operation: str, channel: bytes, *arguments: bytes) -> Answer:
        """Have it done, and wait later: what is submitted for one channel is done in that order.
        Raises BrokerDown."""

    def post(self, operation: str, channel: bytes, *arguments: bytes) -> None:
        """Have it done, and wait for nothing. While the broker is down it is dropped."""

    def partition_of(self, channel: bytes) -> int:
        """Which part of the broker a channel belongs to. Each part may lose its data by itself."""

    def subscribe(self, channels: Sequence[bytes]) -> None:
        """Hear of these from now on. Raises BrokerDown: they will be heard once it is up."""

    def unsubscribe(self, channels: Sequence[bytes]) -> None:
        """Hear of these no longer. It waits for nothing."""

    def process_died(self, pid: int) -> int:
        """Another process of this instance has ended without a word: forget its members, unless the
        broker knows itself. Return how many those were. Raises BrokerDown."""

    def close(self) -> None: ...

    def let_go(self) -> None:
        """In a process that user code has forked: all of this is the parent's."""
