"""Exceptions that callbacks of the event loop let escape: logged, counted, and survived.

gevent prints such an exception to stderr, which a daemon does not have. It also stops the watcher,
if that waits for a descriptor: after one fault in the callback of the channel a process would never
receive from its arbiter again. So an object whose method was called may have a further method,
`callback_failed`, which runs in the next turn of the event loop: an object that serves the process
goes on there, and one that serves a peer closes its socket.

Nothing is wrapped: callbacks of connections run for every message, and cost nothing more. None can
be forgotten, for the hub itself calls this (gevent.hub.Hub.handle_error).
"""

from __future__ import annotations

import logging
import traceback as tracebacks
from collections.abc import Callable
from types import TracebackType
from typing import Any

from gworker.ipc.scoreboard import Column, Row
from gworker.logs import setup

log = logging.getLogger("gworker")


class LoopErrors:
    """Takes the place of `hub.handle_error`.

    row: where exceptions are counted. retire: asks for a successor of this process; False: it does
    not serve yet.
    """

    def __init__(self, hub: Any, row: Row, retire: Callable[[], bool]) -> None:
        self._hub = hub
        self._row = row
        self._retire = retire
        self._default = hub.handle_error
        hub.handle_error = self._contain
        hub.print_exception = self._report

    def _contain(
        self,
        context: object,
        kind: type[BaseException],
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # context: the watcher, the greenlet or the job that has failed.
        owner = getattr(getattr(context, "callback", None), "__self__", context)
        failed = getattr(owner, "callback_failed", None)
        if failed is not None:
            self._hub.loop.run_callback(failed)  # not now: gevent stops the watcher after this
        if not (
            isinstance(error, self._hub.SYSTEM_ERROR)
            and self.end(self._hub.format_context(context), error)
        ):
            self._default(context, kind, error, traceback)

    def end(self, where: str, error: BaseException) -> bool:
        """SystemExit, KeyboardInterrupt or SystemError was raised in `where`. It ends a program.

        gevent would throw it into the main greenlet, and all peers would be cut. A process that
        serves ends as it always does: politely, once it has a successor. False: it does not serve
        yet.
        """
        if not self._retire():
            return False
        self._log(error, "%s in %s ends this process", type(error).__name__, where)
        return True

    def _report(
        self,
        context: object,
        kind: type[BaseException],
        error: BaseException,
        traceback: TracebackType | None,
    ) -> None:
        self._log(
            error.with_traceback(traceback), "exception in %s", self._hub.format_context(context)
        )

    def _log(self, error: BaseException, message: str, *arguments: object) -> None:
        self._row[Column.EXCEPTIONS] += 1
        try:
            log.error(message, *arguments, exc_info=error)
        except Exception:  # a handler that the application has given the logger raises
            setup.write_past_logging("".join(tracebacks.format_exception(error)))
