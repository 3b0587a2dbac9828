"""Observers of an application: what is told of callbacks and requests, and by which calls.

There is none of this without `Worker.observe`. Callbacks are told of in the greenlet that calls
them, and in its context: an observer may set context variables there, and block as the callback
itself may. A request has ended wherever the last byte of its answer was given to the kernel, so
`after_request` has a greenlet of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from gworker.app.observers import ObservedCall, ObservedRequest
from gworker.connection.greenlet_pool import GreenletPool
from gworker.connection.handler_deadlines import MessageCall

Call = Callable[..., Any]
Tell = Callable[[Any], object]


def direct(_: str, callback: Call, *arguments: Any) -> Any:
    return callback(*arguments)


class Observers:
    """The observers of one process. report: logs and counts the exception that is being
    handled."""

    def __init__(self, pool: GreenletPool, report: Callable[..., None]) -> None:
        self._pool = pool
        self._report = report
        self._before: list[Tell] = []
        self._after: list[Tell] = []
        self._begun: list[Tell] = []
        self._ended: list[Tell] = []

    def use(self, observers: Iterable[object]) -> None:
        """Tell these from now on, and no others."""
        several = list(observers)
        self._before[:] = _methods(several, "before_callback")
        self._after[:] = reversed(_methods(several, "after_callback"))
        self._begun[:] = _methods(several, "before_request")
        self._ended[:] = reversed(_methods(several, "after_request"))

    @property
    def of_calls(self) -> bool:
        """True if one of them is told of callbacks, or where a request begins."""
        return bool(self._before or self._after or self.of_requests)

    @property
    def of_requests(self) -> bool:
        return bool(self._begun or self._ended)

    # ---- callbacks

    def observed(self, call: Call) -> Call:
        """What calls a callback by `call(name, callback, …)`, and tells of it."""

        def observed(name: str, callback: Call, *arguments: Any) -> Any:
            told = ObservedCall(name, arguments)
            self._tell(self._before, told)
            began = monotonic()
            try:
                return call(name, callback, *arguments)
            except BaseException as error:
                told.error = error
                raise
            finally:
                told.seconds = monotonic() - began
                self._tell(self._after, told)
                del told  # the exception refers to this frame

        return observed

    def observed_message(self, call: Call) -> MessageCall:
        """The same for on_message, whose message may be a request."""
        observed = self.observed(call)

        def observed_message(callback: Call, connection: Any, message: Any) -> Any:
            recorder = getattr(connection, "observer", None)
            if recorder is not None:
                recorder.handling(connection, message)
            return observed("on_message", callback, connection, message)

        return observed_message

    # ---- requests

    def begin(self, connection: Any, request: Any) -> ObservedRequest:
        """`request` is about to be handled, in this greenlet."""
        told = ObservedRequest(connection, request)
        self._tell(self._begun, told)
        return told

    def end(self, told: ObservedRequest) -> None:
        """Its exchange is over. From any greenlet."""
        if self._ended:
            self._pool.start_soon(_Ended(self, told))

    def tell_ended(self, told: ObservedRequest) -> None:
        self._tell(self._ended, told)

    def _tell(self, methods: list[Tell], told: object) -> None:
        for method in methods:
            try:
                method(told)
            except BaseException:
                self._report("exception in the observer %r", method)


@dataclass(slots=True, eq=False)
class _Ended:
    # A pool job.
    observers: Observers
    told: ObservedRequest

    def run(self, _: object) -> None:
        self.observers.tell_ended(self.told)


def _methods(observers: list[object], name: str) -> list[Tell]:
    found = (getattr(each, name, None) for each in observers)
    return [each for each in found if callable(each)]
