"""Reads that many want at once: the same is read once, and few at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final

from gworker.broker.deadline import seconds_left
from gworker.errors import BrokerDown, BrokerError
from gworker.messages.sweeper import Sweeper

# Reads at the same time.
MOST_READS: Final = 16

# Seconds for which a result serves those that want the same, and bytes of all such results: the
# oldest go.
RESULT_SECONDS: Final = 1.0
RESULT_BYTES: Final = 16 << 20


class _Read:
    __slots__ = ("at", "done", "error", "size", "value")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.at = 0.0
        self.size = 0
        self.value: Any = None
        self.error: BrokerDown | BrokerError | None = None


class SingleFlight:
    """The reads of one process."""

    def __init__(self, sweeper: Sweeper) -> None:
        self._sweeper = sweeper
        self._reads: dict[Hashable, _Read] = {}
        self._size = 0  # bytes of results
        self._running = threading.BoundedSemaphore(MOST_READS)
        sweeper.parts.append(self.drop_old)

    def __bool__(self) -> bool:
        return bool(self._reads)

    def do(
        self,
        key: Hashable,
        read: Callable[[], Any],
        refused: object = None,
        size_of: Callable[[Any], int] | None = None,
    ) -> Any:
        """What `read` returns, or will return for another with the same key, or has returned a
        moment ago; but not `refused`. Raises BrokerDown, BrokerError.

        size_of: the bytes of a result; None: it is for those alone that want it meanwhile.
        """
        while True:
            self.drop_old()
            found = self._reads.get(key)
            if found is None or (refused is not None and found.value is refused):
                self._drop(key)
                found = self._reads[key] = _Read()
                self._do(key, found, read, size_of)
                if found.error is not None:
                    raise found.error
                return found.value
            if not found.done.wait(seconds_left()):
                raise BrokerDown("another one waits for the same history")
            if isinstance(found.error, BrokerError):
                raise BrokerError(str(found.error))
            if found.error is None:
                return found.value
            # The other one may have had less time: this one reads for itself.

    def alone(self, read: Callable[[], Any]) -> Any:
        """What `read` returns, when it has its turn."""
        if not self._running.acquire(timeout=seconds_left()):
            raise BrokerDown(f"{MOST_READS} histories are being read")
        try:
            return read()
        finally:
            self._running.release()

    def clear(self) -> None:
        """All is read anew from now on."""
        self._reads.clear()
        self._size = 0

    def drop_old(self) -> bool:
        """Forget the results that are too old. False: there are none left."""
        until = time.monotonic() - RESULT_SECONDS
        while self._reads:
            key, found = next(iter(self._reads.items()))
            if not found.done.is_set() or (found.at > until and self._size <= RESULT_BYTES):
                return True
            self._drop(key)
        return False

    def _drop(self, key: Hashable) -> None:
        found = self._reads.pop(key, None)
        if found is not None:
            self._size -= found.size

    def _do(
        self,
        key: Hashable,
        found: _Read,
        read: Callable[[], Any],
        size_of: Callable[[Any], int] | None,
    ) -> None:
        found.error = BrokerDown("it was given up")
        try:
            found.value = self.alone(read)
            found.error = None
        except (BrokerDown, BrokerError) as error:
            found.error = error
        finally:
            if self._reads.get(key) is found:
                if size_of is not None and found.error is None:
                    found.size = size_of(found.value)
                    self._size += found.size
                    self._sweeper.wake()
                else:
                    self._drop(key)
            found.at = time.monotonic()
            found.done.set()
