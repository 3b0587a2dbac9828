"""Exceptions that callbacks of the event loop let escape: logged, counted, and survived.

gevent prints such an exception to stderr, which a daemon does not have. It also stops the watcher,
if that waits for a descriptor: after one fault in the callback of the channel a process would never
hear from its arbiter again. So an object whose method was called may have a further method,
`callback_failed`, which runs in the next turn of the event loop: an object that serves the process
goes on there, and one that serves a peer closes its socket.

Nothing is wrapped: callbacks of connections run for every message, and cost nothing more. And no
callback can be forgotten, for the hub itself calls this (gevent.hub.Hub.handle_error).
"""

from __future__ import annotations

import logging
import traceback as tracebacks
from types import TracebackType
from typing import Any

from gworker import logs
from gworker.scoreboard import Column, Row

log = logging.getLogger("gworker")


class LoopErrors:
    """Takes the place of `hub.handle_error`. `row`: where exceptions are counted."""

    def __init__(self, hub: Any, row: Row) -> None:
        self._hub = hub
        self._row = row
        self._default = hub.handle_error

    def install(self) -> None:
        """Contain what is raised from now on, in callbacks and in greenlets."""
        self._hub.handle_error = self._contain
        self._hub.print_exception = self._report

    def _contain(
        self,
        context: Any,
        kind: type[BaseException],
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """context: the watcher, the greenlet or the job that has failed."""
        owner = getattr(getattr(context, "callback", None), "__self__", context)
        failed = getattr(owner, "callback_failed", None)
        if failed is not None:
            self._hub.loop.run_callback(failed)  # not now: gevent stops the watcher after this
        self._default(context, kind, error, traceback)

    def _report(
        self,
        context: Any,
        kind: type[BaseException],
        error: BaseException,
        traceback: TracebackType | None,
    ) -> None:
        self._row[Column.EXCEPTIONS] += 1
        where, exception = self._hub.format_context(context), (kind, error, traceback)
        try:
            log.error("exception in %s", where, exc_info=exception)
        except Exception:  # a handler that the application has given the logger raises
            logs.write_past_logging("".join(tracebacks.format_exception(error)))
