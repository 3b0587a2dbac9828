"""Callbacks of the instance, not of one of its processes: on_master_reload, on_master_stop,
on_worker_exit.

They are user code, which the arbiter neither loads nor waits for, so a helper child is forked that
loads the target, makes the calls and exits. One child makes all calls that wait for its Worker, in
order; a Worker has one at a time, and few Workers have one at once, so that a crash loop forks no
more than that. Whatever happens in them is logged and has no consequence.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from gworker.ipc.declaration import Declaration
from gworker.master.slots import Process

log = logging.getLogger("gworker")

# What a helper child may take from its fork on, loading the target included. Then it is killed.
SECONDS = 30.0

# Seconds that all of them may take when the instance stops and its processes have left: at most,
# and in any case.
STOP_SECONDS, QUICK_SECONDS = 5.0, 2.0

MOST_RUNNING = 4  # helper children at once
MOST_WAITING = 256  # calls that wait for a helper child

RETRY_SECONDS = 1.0  # after a fork that was refused

Call = tuple[str, tuple[Any, ...]]  # the callback's name, and its arguments after the Worker


# Starts a child that makes the calls of callbacks of a Worker, in so many seconds. Raises OSError.
Spawn = Callable[[Declaration, list[Call], float], Process]


class MasterCallbacks:
    def __init__(
        self,
        spawn: Spawn,
        declarations: Callable[[], Mapping[str, Declaration]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spawn = spawn
        self._declarations = declarations  # those in force, by Worker
        self._clock = clock
        # The calls for which no child was forked yet, by Worker.
        self.waiting: dict[str, list[Call]] = {}
        # The helper children, and the calls that each makes.
        self.running: dict[Process, list[Call]] = {}
        self._retry_at = 0.0
        self._stopping_since: float | None = None
        self._quick = False
        # When the arbiter waits for them no longer; None: it does not stop yet.
        self._end: float | None = None

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.running

    def call(self, name: str, worker: str, *arguments: Any) -> None:
        """Call `name` of `worker` soon, if it has that."""
        declaration = self._declarations().get(worker)
        if declaration is None or name not in declaration.hooks:
            return
        if sum(map(len, self.waiting.values())) >= MOST_WAITING:
            log.error("%s of %s is not called: %d calls wait already", name, worker, MOST_WAITING)
            return
        self.waiting.setdefault(worker, []).append((name, arguments))

    def call_all(self, name: str) -> None:
        for worker in self._declarations():
            self.call(name, worker)

    # ---- chores

    def next_deadline(self) -> float:
        """When `start_due` has something to do, as far as that does not depend on a child's end."""
        if not self.waiting:
            return float("inf")
        return max(0.0, self._retry_at) if self._can_start() else self._end or float("inf")

    def _can_start(self) -> str | None:
        # The Worker whose turn it is; None: all have to wait for the end of a child.
        # Or, while the instance stops, for that of the last process: then one child can make all
        # its calls.
        if self._stopping_since is not None and self._end is None:
            return None
        busy = {process.worker for process in self.running}
        return next(
            (worker for worker in self.waiting if worker not in busy and len(busy) < MOST_RUNNING),
            None,
        )

    def start_due(self, now: float) -> None:
        """Fork the children that may be; give up what is too late."""
        if self._end is not None and now >= self._end:
            for worker, calls in self.waiting.items():
                log.error(
                    "the instance stops: not called any more of %s: %s", worker, _summary(calls)
                )
            self.waiting.clear()
        while now >= self._retry_at and (due := self._can_start()) is not None:
            self._start(due, self.waiting.pop(due), now)

    def _start(self, worker: str, calls: list[Call], now: float) -> None:
        seconds = SECONDS if self._end is None else min(SECONDS, self._end - now)
        declared = self._declarations().get(worker)
        if declared is None:
            log.error("%s is not declared any more; not called: %s", worker, _summary(calls))
            return
        try:
            self.running[self._spawn(declared, calls, seconds)] = calls
        except OSError as error:
            log.error("cannot start the hooks of %s: fork: %s", worker, error.strerror)
            self.waiting = {worker: calls, **self.waiting}
            self._retry_at = now + RETRY_SECONDS

    def on_end(self, process: Process, status: int, reason: str) -> None:
        """A helper child is dead. status: as of wait(2)."""
        calls = self.running.pop(process, [])
        if status != 0:
            log.error(
                "%s (pid %d): %s; perhaps not called: %s",
                process.label,
                process.pid,
                reason,
                _summary(calls),
            )
            if process.traceback:
                log.error("%s", process.traceback.rstrip())

    # ---- the end of the instance

    def stop(self, quick: bool) -> None:
        """The instance stops; perhaps once more, and now quickly."""
        now = self._clock()
        self._quick = quick
        if self._stopping_since is None:
            self._stopping_since = now
        if quick and self._end is not None:
            self._end_at(min(self._end, now + QUICK_SECONDS))

    def finish(self, served: bool, graceful: float) -> bool:
        """Once no worker process is left; True when no helper child is either.

        served: the start had succeeded, so that on_master_stop is called. graceful: seconds that
        the whole stop may take.
        """
        now = self._clock()
        if self._end is None:
            if served:
                self.call_all("on_master_stop")
            left = (self._stopping_since or now) + graceful - now
            self._end_at(
                now
                + (QUICK_SECONDS if self._quick else min(STOP_SECONDS, max(QUICK_SECONDS, left)))
            )
        return self.is_idle

    def _end_at(self, end: float) -> None:
        self._end = end
        for process in self.running:
            process.deadline = min(process.deadline or end, end)


def _summary(calls: list[Call]) -> str:
    counts = Counter(name for name, _ in calls)
    return ", ".join(name if count == 1 else f"{name} × {count}" for name, count in counts.items())
