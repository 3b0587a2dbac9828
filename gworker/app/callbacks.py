"""The names of all callbacks, and how they are set and kept."""

from __future__ import annotations

import inspect
import socketserver
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, overload

from gworker.app import signatures
from gworker.app.foreign_interfaces import refusal

Function = TypeVar("Function", bound=Callable[..., Any])

CONNECTION_CALLBACKS = (
    "on_connect",
    "on_websocket_connect",
    "on_message",
    "on_close",
    "on_error",
    "on_buffer_full",
    "on_buffer_drain",
    "on_takeover",
)
WORKER_CALLBACKS = ("on_worker_start", "on_worker_stop", "on_worker_reload")
MASTER_CALLBACKS = ("on_master_reload", "on_master_stop", "on_worker_exit")
"""Called in helper children (`hooks`)."""

CALLBACKS = CONNECTION_CALLBACKS + WORKER_CALLBACKS + MASTER_CALLBACKS

ARGUMENTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*CONNECTION_CALLBACKS, "handler"), ("connection",)),
    **dict.fromkeys((*WORKER_CALLBACKS, *MASTER_CALLBACKS), ("worker",)),
    "on_message": ("connection", "data"),
    "on_websocket_connect": ("connection", "request"),
    "on_error": ("connection", "code", "message"),
    "on_worker_exit": ("worker", "id", "pid", "reason"),
}
"""What each callback, and a connection handler, is called with."""


def is_legacy(handler: Any) -> bool:
    """True for a socketserver request handler class."""
    return inspect.isclass(handler) and issubclass(handler, socketserver.BaseRequestHandler)


def check(name: str, function: Any, owner: object) -> None:
    """Raise TypeError for what cannot be the callback `name` of `owner`: each call of it would
    fail."""
    if name == "handler" and is_legacy(function):
        return
    if (reason := refusal(function)) is not None:
        raise TypeError(f"{name} of {owner} {reason}")
    check_call(name, function, owner)


def check_call(name: str, function: Any, owner: object) -> None:
    """The part of `check` that is quick enough for callbacks which a connection is given as it is
    accepted."""
    if not callable(function):
        raise TypeError(f"{name} of {owner} must be callable, not {type(function).__name__}")
    arguments = ARGUMENTS[name]
    if not signatures.accepts(function, len(arguments)):
        raise TypeError(
            f"{name} of {owner} is {signatures.shown(function)}; expected ({', '.join(arguments)})"
        )
    if signatures.is_async(function):
        raise TypeError(
            f"{name} of {owner} is the async function {signatures.shown(function)}, of which a "
            "call runs nothing;"
            " expected a plain function, which may block. asyncio code runs by "
            "gworker.blocking(asyncio.run, …)"
        )


class Callbacks:
    """The connection callbacks of a Worker, or of one connection that has its own. None: not
    set."""

    __slots__ = CONNECTION_CALLBACKS

    on_connect: Callable[[Any], object] | None
    on_websocket_connect: Callable[[Any, Any], object] | None
    on_message: Callable[[Any, Any], object] | None
    on_close: Callable[[Any], object] | None
    on_error: Callable[[Any, Any, str], object] | None
    on_buffer_full: Callable[[Any], object] | None
    on_buffer_drain: Callable[[Any], object] | None
    on_takeover: Callable[[Any], object] | None

    def __init__(self) -> None:
        for name in CONNECTION_CALLBACKS:
            setattr(self, name, None)

    def copy(self) -> Callbacks:
        """A copy that can be changed for one connection."""
        new = Callbacks()
        for name in CONNECTION_CALLBACKS:
            setattr(new, name, getattr(self, name))
        return new


class HasCallbacks(Protocol):
    """What has callbacks: a Worker."""

    def set_callback(self, name: str, function: Callable[..., Any] | None) -> None: ...


class Callback:
    """A callback attribute: `@worker.on_x`, `worker.on_x = f`, or `worker.on_x(f)` all set it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, worker: None, owner: type) -> Callback: ...
    @overload
    def __get__(self, worker: HasCallbacks, owner: type) -> Callable[[Function], Function]: ...
    def __get__(self, worker: HasCallbacks | None, owner: type) -> Any:
        if worker is None:
            return self

        def register(function: Function) -> Function:
            self.__set__(worker, function)
            return function

        return register

    def __set__(self, worker: HasCallbacks, function: Callable[..., Any] | None) -> None:
        worker.set_callback(self.name, function)
