"""The names of all callbacks, and how they are set and kept."""

from __future__ import annotations

import inspect
import socketserver
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar, overload

from gworker.app import signatures
from gworker.app.foreign_interfaces import refusal

Function = TypeVar("Function", bound=Callable[..., object])
Optional = Callable[..., object] | None

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
MESSAGE_CALLBACKS = ("on_presence", "on_gap", "on_broker_state")
MASTER_CALLBACKS = ("on_master_reload", "on_master_stop", "on_worker_exit")  # in helper children

CALLBACKS = CONNECTION_CALLBACKS + WORKER_CALLBACKS + MESSAGE_CALLBACKS + MASTER_CALLBACKS

# The arguments of each callback, and of a connection handler.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*CONNECTION_CALLBACKS, "handler"), ("connection",)),
    **dict.fromkeys((*WORKER_CALLBACKS, *MASTER_CALLBACKS), ("worker",)),
    "on_message": ("connection", "data"),
    "on_websocket_connect": ("connection", "request"),
    "on_error": ("connection", "code", "message"),
    "on_presence": ("group", "joined", "left", "connections_here"),
    "on_gap": ("groups", "since", "until"),
    "on_broker_state": ("state",),
    "on_worker_exit": ("worker", "id", "pid", "reason"),
}


def is_legacy(handler: object) -> TypeGuard[type[socketserver.BaseRequestHandler]]:
    return inspect.isclass(handler) and issubclass(handler, socketserver.BaseRequestHandler)


def check(name: str, function: object, owner: object) -> None:
    """Raise TypeError for what cannot be the callback `name` of `owner`: each call of it would
    fail."""
    if name == "handler" and is_legacy(function):
        return
    if (reason := refusal(function)) is not None:
        raise TypeError(f"{name} of {owner} {reason}")
    check_call(name, function, owner)


def check_call(name: str, function: object, owner: object) -> None:
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
            "call runs nothing; expected a plain function, which may block. asyncio code runs by "
            "gworker.blocking(asyncio.run, …)"
        )


@dataclass(slots=True)
class Callbacks:
    """The connection callbacks of a Worker, or of one connection that has its own. None: not
    set."""

    on_connect: Optional = None
    on_websocket_connect: Optional = None
    on_message: Optional = None
    on_close: Optional = None
    on_error: Optional = None
    on_buffer_full: Optional = None
    on_buffer_drain: Optional = None
    on_takeover: Optional = None


class Callback:
    """A callback attribute: `@worker.on_x`, `worker.on_x = f`, or `worker.on_x(f)` all set it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, worker: None, owner: type) -> Callback: ...
    @overload
    def __get__(self, worker: Any, owner: type) -> Callable[[Function], Function]: ...
    def __get__(self, worker: Any, owner: type) -> Callback | Callable[[Function], Function]:
        if worker is None:
            return self

        def register(function: Function) -> Function:
            self.__set__(worker, function)
            return function

        return register

    def __set__(self, worker: Any, function: Optional) -> None:
        worker.set_callback(self.name, function)
