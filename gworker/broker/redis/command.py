"""A command to a Redis server, from its submission to its answer."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from gworker.broker import resp
from gworker.broker.deadline import step_end
from gworker.broker.interface import CALL_SECONDS, Reply
from gworker.broker.redis.topology import Address
from gworker.errors import BrokerDown

# Seconds in which a command that is not waited for is worth another attempt.
POST_SECONDS = 10.0


class Command:
    """A command to the owner of a partition.

    waits: `wait` is called. channel: commands of one channel are done in the order in which they
    were submitted. source: of the script, for a server that has lost it. finish: makes the reply of
    what the server answers. data: the words, as they are sent.
    number: its place in the order. asked: the server that has to do it, while the slot is on its
    way there. on_end: called when there is an answer or an error, in the link's thread.
    is_awaited: `wait` is called as soon as it is submitted. help: what the thread that waits may do
    so that it need not wait for another one; None: nothing.
    """

    __slots__ = (
        "_answered", "_error", "_finish", "_reply", "asked", "channel", "data", "deadline", "help",
        "is_awaited", "is_given_up", "is_sent", "number", "on_end", "partition", "source", "words",
    )  # fmt: skip

    def __init__(
        self,
        partition: int,
        words: tuple[bytes, ...],
        waits: bool,
        channel: bytes = b"",
        source: bytes = b"",
        finish: Callable[[Any], Reply] | None = None,
    ) -> None:
        self.partition = partition
        self.words = words
        self.data = resp.command(*words)
        self.channel = channel
        self.source = source
        self.deadline = step_end() - 0.1 if waits else time.monotonic() + POST_SECONDS
        self.is_sent = self.is_given_up = self.is_awaited = False
        self.number = 0
        self.asked: Address | None = None
        self.on_end: Callable[[Command], None] | None = None
        self.help: Callable[[], None] | None = None
        self._finish = finish
        self._reply: Reply = None
        self._error: Exception | None = None
        self._answered = threading.Lock() if waits else None
        if self._answered is not None:
            self._answered.acquire()

    def send_source(self) -> None:
        """From now on the source itself goes to the server, which has lost the script."""
        self.words = (b"EVAL", self.source, *self.words[2:])
        self.data = resp.command(*self.words)

    def take_to_send(self) -> bool:
        """False: it was given up, and has not been sent."""
        self.is_sent = True
        return not self.is_given_up

    def answer(self, reply: Any) -> None:
        self._reply = reply if self._finish is None else self._finish(reply)
        self._end()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._end()

    def _end(self) -> None:
        if self._answered is not None:
            self._answered.release()
        if self.on_end is not None:
            self.on_end(self)

    def wait(self) -> Reply:
        """The reply. Raises BrokerDown, BrokerError."""
        assert self._answered is not None
        if self.help is not None:
            self.help()
        left = self.deadline - time.monotonic()
        if not self._answered.acquire(timeout=max(left, 0)):
            # First this, then a look at whether it has been sent; the one that sends does the
            # opposite, so that one of the two sees the other.
            self.is_given_up = True
            raise BrokerDown(f"no answer within {CALL_SECONDS:g} s", self.is_sent)
        if self._error is not None:
            raise self._error
        return self._reply


class Exchange:
    """Commands that were sent in one piece, and the moment. has_asked: the ASKING before the first
    one without an answer has been answered."""

    __slots__ = ("began", "has_asked", "unanswered")

    def __init__(self, commands: list[Command]) -> None:
        self.unanswered = deque(commands)
        self.began = time.monotonic()
        self.has_asked = False

    def take_first(self) -> Command:
        self.has_asked = False
        return self.unanswered.popleft()
