"""The process of the local broker: started when a client connects, started again when it dies.

While none lives, the arbiter's selector watches the sockets at which it will listen, and the first
connection that waits starts one. It fills no slot, and it stays over a reload, a change of counts
and an upgrade: all processes are connected to it. At a stop it leaves last.
"""

from __future__ import annotations

import logging
import math
import selectors
import signal
from collections.abc import Callable

from gworker.config.settings import Settings
from gworker.master.broker_socket import BrokerSocket
from gworker.master.children import KILL_MARGIN, UNWANTED, Children
from gworker.master.slots import PROVEN_SECONDS, Process, State, backoff
from gworker.master.spawner import Spawner

log = logging.getLogger("gworker")


class BrokerProcess:
    def __init__(
        self,
        children: Children,
        spawner: Spawner,
        socket: BrokerSocket,
        clock: Callable[[], float],
    ) -> None:
        self.current: Process | None = None
        self.failures = 0  # in a row
        self.retry_at = 0.0  # monotonic time before which none is started
        self.reason = ""  # why the last one failed
        self._children = children
        self._spawner = spawner
        self._socket = socket
        self._clock = clock
        self._settings: Settings | None = None  # None: it does not run
        self._watched: list[int] = []

    def open(self, path: str | None, settings: Settings) -> None:
        """Listen at `path`, if the broker is the local one. Raises ConfigError.

        settings: those of the process, whenever it is started. path: None if the instance has no
        files; then it has no local broker.
        """
        if settings.broker.is_redis or path is None:
            return
        self._socket.open(path)
        self.go_on(settings)

    def go_on(self, settings: Settings) -> None:
        """Start the process when it is needed. The socket is open."""
        self._settings = settings
        self._watch()

    def restore(self, path: str | None) -> str | None:
        """See `BrokerSocket.restore`."""
        made = self._socket.restore(path)
        if made is not None:
            self._unwatch()
            if self.current is not None:
                self.current.channel.send({"do": "listen"}, [self._socket.listeners[-1].fileno()])
            else:
                self._watch()
        return made

    # ---- the process

    def tick(self, now: float) -> None:
        """Watch again once the next try is due."""
        if self.current is None and now >= self.retry_at:
            self._watch()

    def next_deadline(self) -> float:
        is_waiting = self.current is None and self._settings is not None and not self._watched
        return self.retry_at if is_waiting else math.inf

    def _watch(self) -> None:
        if self._settings is None or self._watched:
            return
        for listener in self._socket.listeners:
            self._children.selector.register(listener, selectors.EVENT_READ, self._on_connection)
            self._watched.append(listener.fileno())

    def _unwatch(self) -> None:
        for descriptor in self._watched:
            self._children.selector.unregister(descriptor)
        self._watched.clear()

    def _on_connection(self, _mask: int) -> None:
        if self._settings is None or self.current is not None:
            return
        self._unwatch()
        try:
            self.current = self._spawner.broker(self._settings)
        except OSError as error:
            self._back_off(f"fork: {error.strerror}")
            log.error("cannot start the broker: %s", self.reason)

    def on_end(self, process: Process, reason: str) -> None:
        """It is dead. The next one is started at once if a client waits; after a further failure,
        later."""
        is_proven = (
            process.ready_at is not None and self._clock() - process.ready_at >= PROVEN_SECONDS
        )
        self.current = None
        if is_proven:
            self.failures = 0
        if self._settings is not None:
            self._back_off(reason)

    def _back_off(self, reason: str) -> None:
        self.reason = reason
        self.retry_at = self._clock() + backoff(self.failures)
        self.failures += 1

    @property
    def is_wanted(self) -> bool:
        """False once it is to end."""
        return self._settings is not None

    def stop(self) -> bool:
        """End it, once no process needs it any more. True: it has ended."""
        self._settings = None
        self._unwatch()
        process = self.current
        if process is not None and process.state is State.READY:
            process.to(State.RETIRING, self._clock() + KILL_MARGIN)
            process.grace = KILL_MARGIN
            self._children.signal(process, signal.SIGTERM)
        elif process is not None and process.state is State.BOOTING:
            self._children.kill(process, UNWANTED, KILL_MARGIN)
        return process is None

    def close(self) -> None:
        self._unwatch()
        self._socket.close()
