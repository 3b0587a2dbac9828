"""One deadline for all that a thread, or greenlet, asks of a broker in one call of an application.

A call that takes several steps ends in time as one of a single step does: each step has what the
steps before it have left. What runs in another thread has deadlines of its own.
"""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

from gworker.broker.interface import CALL_SECONDS
from gworker.errors import BrokerDown

_ends: dict[int, float] = {}  # by thread, in monotonic seconds

os.register_at_fork(after_in_child=_ends.clear)  # the other threads are not in the copy


class Deadline:
    """All steps within the block end within `seconds` together; within another one, at its end at
    the latest."""

    __slots__ = ("_end", "_outer")

    def __init__(self, seconds: float = CALL_SECONDS) -> None:
        self._end = time.monotonic() + seconds

    def __enter__(self) -> None:
        thread = threading.get_ident()
        self._outer = _ends.get(thread)
        _ends[thread] = self._end if self._outer is None else min(self._end, self._outer)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        thread = threading.get_ident()
        if self._outer is None:
            _ends.pop(thread, None)
        else:
            _ends[thread] = self._outer


def step_end() -> float:
    """When a step that begins now has to have ended, in monotonic seconds."""
    end = time.monotonic() + CALL_SECONDS
    return min(end, _ends.get(threading.get_ident(), end)) if _ends else end


def seconds_left() -> float:
    """How long a step may take that begins now; 0: there is no time left."""
    return max(0.0, step_end() - time.monotonic())


def require(seconds: float) -> None:
    """Raise BrokerDown if so much time is not left for a step."""
    if _ends and seconds_left() < seconds:
        raise BrokerDown(f"no answer within {CALL_SECONDS:g} s")


def extend(seconds: float) -> None:
    """The thread has waited so long for something else than a broker, which does not count."""
    thread = threading.get_ident()
    if thread in _ends:
        _ends[thread] += seconds
