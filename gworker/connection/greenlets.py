"""Greenlets beside the handler of a connection (`Connection.spawn`).

The callbacks of one connection never overlap, so what waits for its messages in a loop of its own
runs beside them. A connection with such a greenlet is busy: it does not move to another process,
its process waits for it, and kills it when the time is up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gevent import Greenlet, GreenletExit

from gworker.connection.unanswered import name_of
from gworker.system import fork_guard


class ConnectionGreenlet(Greenlet):  # type: ignore[type-arg]
    """Runs one function for a connection. What that raises costs the connection, as in a
    callback."""

    def __init__(self, connection: Any, function: Callable[..., object], *arguments: Any) -> None:
        super().__init__()
        self._connection = connection
        self._function = function
        self._arguments = arguments

    def _run(self) -> Any:
        connection = self._connection
        try:
            return self._function(*self._arguments)
        except GreenletExit:
            raise
        except BaseException:
            connection.handler_failed(f"the greenlet {name_of(self._function)}")
        finally:
            fork_guard.end()


class Greenlets:
    """Those of one process. running: by the ids of their connections; empty most of the time.
    at_rest: ids of those in which one waits for the peer alone."""

    def __init__(self) -> None:
        self.running: dict[int, set[ConnectionGreenlet]] = {}
        self.at_rest: set[int] = set()

    def is_busy(self, connection: Any) -> bool:
        """True unless none runs, or what runs waits for the peer."""
        return connection.id in self.running and connection.id not in self.at_rest

    @contextmanager
    def resting(self, connection: Any) -> Iterator[None]:
        """Meanwhile the greenlet waits for the peer alone: the connection may be closed for it."""
        self.at_rest.add(connection.id)
        try:
            on_job_end = connection.server_context.on_job_end
            if on_job_end is not None:
                on_job_end(connection)
            yield
        finally:
            self.at_rest.discard(connection.id)

    def spawn(
        self, connection: Any, function: Callable[..., object], *arguments: Any
    ) -> ConnectionGreenlet:
        made = ConnectionGreenlet(connection, function, *arguments)
        self.running.setdefault(connection.id, set()).add(made)
        made.rawlink(lambda one: self._ended(connection, one))
        made.start()
        return made

    def _ended(self, connection: Any, one: Any) -> None:
        # In the hub.
        others = self.running.get(connection.id, {one})
        others.discard(one)
        if others:
            return
        self.running.pop(connection.id, None)
        on_job_end = connection.server_context.on_job_end
        if on_job_end is not None:
            on_job_end(connection)

    def kill(self) -> None:
        """Raise GreenletExit in all of them."""
        for each in [one for some in self.running.values() for one in some]:
            each.kill(block=False)

    def let_go(self) -> None:
        # In a process that user code has forked: they are the parent's to go on with.
        self.running.clear()
