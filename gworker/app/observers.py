"""What is told of each callback and each request: objects that `Worker.observe` was given."""

from __future__ import annotations

import inspect
from typing import Any, Final, TypeVar

from gworker.app.callbacks import CONNECTION_CALLBACKS

Observer = TypeVar("Observer")

METHODS: Final = ("before_callback", "after_callback", "before_request", "after_request")

OF_CONNECTIONS: Final = frozenset((*CONNECTION_CALLBACKS, "handler"))

# The observers of all Workers that this process has loaded.
of_all: list[object] = []


class ObservedCall:
    """One call of a callback, before and after it. An observer may set attributes of its own.

    name: as `on_message`, or `handler`. arguments: of the call. error: what it has raised; None:
    nothing, or it has not returned yet. seconds: how long it has run.
    """

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name = name
        self.arguments = arguments
        self.error: BaseException | None = None
        self.seconds = 0.0

    @property
    def connection(self) -> Any:
        """The connection that it is about; None: it is a callback of the process."""
        return self.arguments[0] if self.name in OF_CONNECTIONS else None

    def __repr__(self) -> str:
        return f"<ObservedCall {self.name} {self.connection!r}>"


class ObservedRequest:
    """One HTTP request, before its handler is called and after its answer is sent. An observer may
    set attributes of its own.

    status: of the answer; 444: it had none, 499: the client has gone first. bytes_sent: of its
    body. seconds: from the first byte of the request to the last one of the answer. aborted: the
    client did not get all of it.
    """

    def __init__(self, connection: Any, request: Any) -> None:
        self.connection = connection
        self.request = request
        self.status = 0
        self.bytes_sent = 0
        self.seconds = 0.0
        self.aborted = False

    def __repr__(self) -> str:
        return f"<ObservedRequest {self.request!r} {self.status}>"


def check(observer: object) -> None:
    """Raise TypeError for what could not be told anything."""
    found = [name for name in METHODS if callable(getattr(observer, name, None))]
    if not found:
        raise TypeError(
            f"observe({observer!r}): an observer has at least one of {', '.join(METHODS)}"
        )
    if inspect.isclass(observer):
        raise TypeError(f"observe({observer.__qualname__}): expected an instance of the class")


class Observe:
    """`Worker.observe` and `worker.observe`: of all Workers, and of one."""

    def __get__(self, worker: Any, owner: type) -> Observing:
        return Observing(of_all if worker is None else worker.observers)


class Observing:
    """The method `observe` of a Worker, or of the class."""

    def __init__(self, observers: list[object]) -> None:
        self._observers = observers

    def __call__(self, observer: Observer) -> Observer:
        """Tell `observer` of each callback and each request, before and after it.

        It has one or more of these methods, which are called in the order in which observers were
        added, those after something in the opposite order:

            before_callback(call), after_callback(call)         an `ObservedCall`
            before_request(exchange), after_request(exchange)   an `ObservedRequest`

        What they raise is logged and changes nothing. To be called as the target is loaded, or in
        `on_worker_start`; later it has no effect. Returns `observer`. Raises TypeError for what has
        none of these methods.
        """
        check(observer)
        self._observers.append(observer)
        return observer
