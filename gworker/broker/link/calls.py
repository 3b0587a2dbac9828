"""Commands that have been sent, or wait to be, and have no reply yet."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from hiredis import ReplyError

from gworker.broker.deadline import step_end
from gworker.broker.interface import Reply
from gworker.errors import BrokerDown, BrokerError

# Seconds between two looks at the deadlines. A call fails at the last look before its end.
TICK = 0.2


class Call:
    """A command with one reply."""

    __slots__ = ("_answered", "_error", "_reply", "deadline", "end", "made_at", "replies")

    def __init__(self, end: int, replies: int = 1) -> None:
        self.end = end  # how many bytes the link has to write until all of this is written
        self.replies = replies  # how many are still to come
        self.made_at = time.monotonic()
        self.deadline = step_end() - TICK
        self._reply: Reply = None
        self._error: Exception | None = None
        self._answered = threading.Lock()
        self._answered.acquire()

    def answer(self, reply: Reply) -> None:
        self._reply = reply
        self._finish()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._finish()

    def _finish(self) -> None:
        # A reply to a call that has failed is dropped.
        with contextlib.suppress(RuntimeError):
            self._answered.release()

    def wait(self) -> Reply:
        """The reply. Raises BrokerDown within `CALL_SECONDS`, BrokerError if the server refuses."""
        self._answered.acquire()
        if self._error is not None:
            raise self._error
        return self._reply


class Confirmed(Call):
    """A command that pushes confirm, or an error refuses. `done` is called once."""

    __slots__ = ("_done",)

    def __init__(self, end: int, pushes: int, done: Callable[[Exception | None], None]) -> None:
        super().__init__(end, pushes)
        self._done = done

    def _finish(self) -> None:
        done, self._done = self._done, _ignore
        done(self._error)


class Unanswered(Call):
    """A command whose answers are pushes, or an error that nothing depends on, and a PING behind
    it: what comes until the answer to the PING is what the command was answered."""

    __slots__ = ()


def _ignore(error: Exception | None) -> None:
    pass


class Calls:
    """Those without a reply, in the order in which they were sent.

    title: what errors call the link. Adding is done under the lock of the link, all else in its
    threads.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._calls: deque[Call] = deque()
        self._added = threading.Event()

    def add(self, call: Call) -> None:
        self._calls.append(call)
        if not self._added.is_set():
            self._added.set()

    def wait_for_one(self, seconds: Callable[[], float]) -> bool:
        """True: there is one. False: there was none; it has waited so long, or until `wake`."""
        if self._calls:
            return True
        self._added.clear()
        if not self._calls:
            self._added.wait(seconds())
        return False

    def wake(self) -> None:
        self._added.set()

    def answer(self, reply: Any) -> None:
        """The server has sent a reply."""
        if not isinstance(reply, ReplyError):
            self._calls.popleft().answer(reply)
        elif not isinstance(self._calls[0], Unanswered):
            self._calls.popleft().fail(BrokerError(f"{self._title}: {reply}"))

    def confirm(self) -> None:
        """The server has sent a push that confirms."""
        self._calls[0].replies -= 1
        if not self._calls[0].replies:
            self._calls.popleft().answer(None)

    def overdue(self) -> list[Call]:
        """They stay, for a reply that comes late."""
        now = time.monotonic()
        return [call for call in list(self._calls) if call.deadline <= now]

    def take_all(self) -> list[Call]:
        calls = list(self._calls)
        self._calls.clear()
        return calls

    def fail(self, calls: list[Call], reason: str, sent: float) -> None:
        """sent: bytes that were written. What has been written may have been done."""
        for call in calls:
            call.fail(BrokerDown(f"{self._title}: {reason}", call.end <= sent))
