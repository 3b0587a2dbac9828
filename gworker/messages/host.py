"""What messages need of the process that they are in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Host:
    """What a process is to its messages.

    connections: its open ones, by id. worker: the name of its Worker. callbacks: its on_presence,
    on_gap and on_broker_state. spawn: runs a function with arguments in a greenlet of its own;
    what it raises is reported. pause: lets others have their turn. report: counts and logs the
    exception that is being handled. generation: of the application. has_ended: its messages do
    nothing more.
    """

    connections: Mapping[int, Any]
    worker: str
    spawn: Callable[..., object]
    pause: Callable[[], object]
    report: Callable[..., None]
    callbacks: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    generation: int = 1
    has_ended: bool = False

    def notify(self, name: str, *arguments: object) -> None:
        """Call one of the callbacks, in a greenlet of its own."""
        callback = self.callbacks.get(name)
        if callback is not None:
            self.spawn(callback, *arguments)
