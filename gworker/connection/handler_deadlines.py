"""How long callbacks may run (`--handler-timeout`). There is none of this without a limit.

A callback that begins is an entry in one dict, and no timer of its own: one timer of the process
is set to the earliest deadline, and looks at those that run at that time. Nearly all have ended
long before. What waits is ended by an exception in its greenlet, as of gevent.Timeout; what
computes is not reached by any timer: that is the watchdog's (`--timeout`).

The time in which a handler waits for its own peer is not counted: `recv`, a body in pieces, `drain`
have other limits. It begins anew after that.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from math import inf
from operator import itemgetter
from time import monotonic
from typing import Any

from greenlet import getcurrent, greenlet

from gworker.app.handler_timeout import ATTRIBUTE
from gworker.errors import HandlerTimeout
from gworker.ipc.scoreboard import Column, Row
from gworker.system.event_loop import Loop

log = logging.getLogger("gworker")

# So many are ended at once, and seconds until the next: each may have much to clean up.
BATCH = 32
PAUSE = 0.001


# A callback that runs: when it is ended (monotonic), its limit in seconds, its name and its
# connection. A plain tuple is made in a tenth of the time of a class.
Running = tuple[float, float, str, Any]


# Calls a callback on_message with a connection and a message, and returns what it returns.
MessageCall = Callable[[Callable[..., Any], Any, Any], Any]


class HandlerDeadlines:
    """The callbacks of one process that run. seconds: the limit of those that have none of their
    own; 0: none. row: where they are counted, as exceptions."""

    def __init__(self, loop: Loop, hub: greenlet, seconds: float, row: Row) -> None:
        self._loop = loop
        self._hub = hub
        self._seconds = seconds
        self._row = row
        self._running: dict[greenlet, Running] = {}
        self._timer: Any = None
        self._next = inf  # when the timer is due, monotonic

    def message_call(self) -> MessageCall:
        """What calls on_message: as `call`, and quicker."""
        running, own, hub, name = self._running, self._seconds, self._hub, "on_message"

        def call(callback: Callable[..., Any], connection: Any, message: Any) -> Any:
            me = getcurrent()
            seconds = getattr(callback, ATTRIBUTE, own)
            if not seconds or me in running or me is hub:
                return callback(connection, message)
            due = monotonic() + seconds
            running[me] = (due, seconds, name, connection)
            if due < self._next:
                self._set_timer(due)
            try:
                return callback(connection, message)
            finally:
                running.pop(me, None)

        return call

    def call(
        self, name: str, callback: Callable[..., Any], connection: Any, *arguments: Any
    ) -> Any:
        """Call `callback(connection, …)`, and end it when its time is up. One that is called within
        another has the time of that."""
        me, running = getcurrent(), self._running
        seconds = getattr(callback, ATTRIBUTE, self._seconds)
        if not seconds or me in running or me is self._hub:
            return callback(connection, *arguments)
        due = monotonic() + seconds
        running[me] = (due, seconds, name, connection)
        if due < self._next:
            self._set_timer(due)
        try:
            return callback(connection, *arguments)
        finally:
            running.pop(me, None)

    def pause(self) -> Running | None:
        """The callback that runs here begins to wait for its peer; give `resume` what is
        returned."""
        return self._running.pop(getcurrent(), None)

    def resume(self, paused: Running | None) -> None:
        """Its peer has sent, or has taken: it has all of its time again."""
        if paused is not None:
            due = monotonic() + paused[1]
            self._running[getcurrent()] = (due, *paused[1:])
            if due < self._next:
                self._set_timer(due)

    def stop(self) -> None:
        """In a process that user code has forked: its callbacks are the parent's."""
        self._running.clear()
        if self._timer is not None:
            self._timer.stop()

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.close()
        self._next = due
        self._timer = self._loop.timer(max(0.0, due - monotonic()))
        self._timer.start(self._check)

    def _check(self) -> None:
        now, self._next = monotonic(), inf
        late = [(one, each) for one, each in self._running.items() if each[0] <= now]
        try:
            for one, each in late[:BATCH]:
                if self._running.get(one) is each:  # else it has ended, by what ended another one
                    self._end(one, each)
        finally:
            if self._running:
                soonest, *_ = min(self._running.values(), key=itemgetter(0))
                due = max(soonest, now + PAUSE)
                if due < self._next:
                    self._set_timer(due)

    def _end(self, one: greenlet, running: Running) -> None:
        # A handler that catches it has as much time again.
        _, seconds, name, connection = running
        self._running[one] = (monotonic() + seconds, seconds, name, connection)
        if getattr(connection, "waits_in_read", False):
            return
        text = f"{name} has run for {seconds:g} s (handler_timeout)"
        stack = "".join(traceback.format_stack(one.gr_frame))
        self._row[Column.EXCEPTIONS] += 1
        log.error("%r: %s, and is ended where it stands:\n%s", connection, text, stack.rstrip())
        one.throw(HandlerTimeout(text, seconds))
