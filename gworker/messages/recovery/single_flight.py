"""Reads that many want at once: the same is read once, and few at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final

from gworker.broker.interface import CALL_SECONDS
from gworker.errors import BrokerDown, BrokerError
from gworker.messages.sweeper import Sweeper

# Reads at the same time.
MOST_READS: Final = 16

# Seconds for which a result serves those that want the same.
RESULT_SECONDS: Final = 1.0


class _Read:
    __slots__ = ("at", "done", "error", "value")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.at = 0.0
        self.value: Any = None
        self.error: BrokerDown | BrokerError | None = None


class SingleFlight:
    """The reads of one process."""

    def __init__(self, sweeper: Sweeper) -> None:
        self._sweeper = sweeper
        self._reads: dict[Hashable, _Read] = {}
        self._running = threading.BoundedSemaphore(MOST_READS)
        sweeper.parts.append(self.drop_old)

    def __bool__(self) -> bool:
        return bool(self._reads)

    def do(
        self, key: Hashable, read: Callable[[], Any], refused: object = None, keep: bool = True
    ) -> Any:
        """What `read` returns, or will return for another with the same key, or with `keep` has
        returned a moment ago; but not `refused`. Raises BrokerDown, BrokerError."""
        self.drop_old()
        found = self._reads.get(key)
        if found is None or (refused is not None and found.value is refused):
            found = self._reads[key] = _Read()
            self._do(key, found, read, keep)
        else:
            found.done.wait()
        error = found.error
        if isinstance(error, BrokerDown):
            raise BrokerDown(str(error), error.uncertain)
        if error is not None:
            raise BrokerError(str(error))
        return found.value

    def alone(self, read: Callable[[], Any]) -> Any:
        """What `read` returns, when it has its turn."""
        if not self._running.acquire(timeout=CALL_SECONDS):
            raise BrokerDown(f"{MOST_READS} histories are being read")
        try:
            return read()
        finally:
            self._running.release()

    def clear(self) -> None:
        """All is read anew from now on."""
        self._reads.clear()

    def drop_old(self) -> bool:
        """Forget the results that are too old. False: there are none left."""
        until = time.monotonic() - RESULT_SECONDS
        while self._reads:
            key, found = next(iter(self._reads.items()))
            if not found.done.is_set() or found.at > until:
                return True
            del self._reads[key]
        return False

    def _do(self, key: Hashable, found: _Read, read: Callable[[], Any], keep: bool) -> None:
        found.error = BrokerDown("it was given up")
        try:
            found.value = self.alone(read)
            found.error = None
        except (BrokerDown, BrokerError) as error:
            found.error = error
        finally:
            if keep and found.error is None:
                self._sweeper.wake()
            elif self._reads.get(key) is found:
                del self._reads[key]
            found.at = time.monotonic()
            found.done.set()
