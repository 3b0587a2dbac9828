"""What goes on in the next turn of the event loop, so that others have theirs before it.

A connection whose peer has sent many messages at once handles some of them, and queues for the
rest. All that is queued has `SECONDS` of each turn together, in order: however many
peers flood the process, the others wait no longer than that, and for one step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from gevent.hub import Waiter

SECONDS = 0.002

Step = Callable[[], object]


class RunQueue:
    """The steps of one process that wait for the event loop to look at its sockets."""

    def __init__(self, loop: Any) -> None:
        self._steps: deque[Step] = deque()
        # Neither a callback of the loop nor an idle watcher: the first goes before the sockets, the
        # second behind all of them, for ever if they are busy.
        self._timer: Any = loop.timer(0)

    @property
    def is_busy(self) -> bool:
        return bool(self._steps)

    def add(self, step: Step) -> None:
        """Call `step` from the hub in a next turn. It must let nothing escape."""
        self._steps.append(step)
        if not self._timer.active:
            self._timer.start(self._run)

    def stop(self) -> None:
        self._steps.clear()
        self._timer.stop()

    def wait(self) -> None:
        """Block this greenlet, which is not the hub, until then."""
        waiter: Any = Waiter()
        self.add(partial(waiter.switch, None))
        waiter.get()

    def _run(self) -> None:
        self._timer.stop()
        end = monotonic() + SECONDS
        steps = self._steps
        try:
            for _ in range(len(steps)):
                steps.popleft()()
                if monotonic() >= end:
                    break
        finally:
            if steps and not self._timer.active:
                self._timer.start(self._run)
