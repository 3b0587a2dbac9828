"""The names of all callbacks, and how they are set and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, overload

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


class Callbacks:
    """The connection callbacks of a Worker, or of one connection that has its own. None: not set."""

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
