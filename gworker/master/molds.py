"""The molds of an instance with --preload: one process per generation, which forks the others.

Owns which mold is of which generation. A rollout starts the one of its generation, which is kept
when that is in force. One that dies then is replaced; meanwhile processes load the target
themselves, as without --preload.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from gworker.config.settings import Settings
from gworker.master.children import KILL_MARGIN, UNWANTED, Children
from gworker.master.slots import PROVEN_SECONDS, Process, State, backoff
from gworker.master.spawner import Spawner

log = logging.getLogger("gworker")


class Molds:
    def __init__(self, children: Children, spawner: Spawner, clock: Callable[[], float]) -> None:
        self._children = children
        self._spawner = spawner
        self._clock = clock
        self._by_generation: dict[int, Process] = {}
        self._wanted: tuple[int, Settings] | None = None  # the one in force; None: there is none
        self._failures = 0  # in a row
        self._retry_at = 0.0  # monotonic time before which none is started

    def start(self, generation: int, settings: Settings) -> None:
        """Start the mold of a generation. It loads the target and tells what that declares. Raises
        OSError."""
        self._by_generation[generation] = self._spawner.mold(generation, settings)

    def of(self, generation: int) -> Process | None:
        """The one of a generation, if it has loaded the target."""
        mold = self._by_generation.get(generation)
        return mold if mold is not None and mold.state is State.READY else None

    def keep(self, generation: int, settings: Settings) -> None:
        """This generation is in force, with these settings: end all others'."""
        self._wanted = (generation, settings) if settings.preload else None
        for other, mold in self._by_generation.items():
            if other != generation:
                self._children.kill(mold, UNWANTED, KILL_MARGIN)

    def on_end(self, process: Process, reason: str) -> None:
        """It is dead. The one in force is started again, after a further failure later."""
        if self._by_generation.get(process.generation) is process:
            del self._by_generation[process.generation]
        if self._wanted is None or self._wanted[0] != process.generation:
            return
        now = self._clock()
        if process.ready_at is not None and now - process.ready_at >= PROVEN_SECONDS:
            self._failures = 0
        self._retry_at = now + backoff(self._failures)
        self._failures += 1
        log.warning(
            "the mold (pid %d) has ended: %s. Until there is another one, processes load the"
            " target themselves",
            process.pid,
            reason,
        )

    def stop(self) -> None:
        """None is wanted any more."""
        self._wanted = None

    # ---- chores

    def tick(self, now: float) -> None:
        """Start the one in force anew, if it is time."""
        if self._wanted is None or not self._is_missing or now < self._retry_at:
            return
        try:
            self.start(*self._wanted)
        except OSError as error:
            self._retry_at = now + backoff(self._failures)
            self._failures += 1
            log.error("cannot start the mold: fork: %s", error.strerror)

    def next_deadline(self) -> float:
        return self._retry_at if self._wanted is not None and self._is_missing else math.inf

    @property
    def _is_missing(self) -> bool:
        return self._wanted is not None and self._wanted[0] not in self._by_generation
