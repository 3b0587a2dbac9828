"""The process of the local broker: `broker.server` with the arbiter at the other end of a channel.

No gevent and no user code. When the arbiter is dead, it ends with its last client.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import time
from collections.abc import Sequence

from gworker.broker.server.server import BrokerServer
from gworker.config.settings import Settings
from gworker.ipc import heartbeat
from gworker.ipc.channel import Channel
from gworker.ipc.scoreboard import Column, Row
from gworker.logs import setup
from gworker.system import privileges

log = logging.getLogger("gworker")

# Seconds past the time that worker processes have to leave.
MARGIN = 2.0


class BrokerProcess:
    """The life of the process. listeners: sockets at which clients wait. row: where it beats."""

    def __init__(
        self, listeners: Sequence[socket.socket], settings: Settings, row: Row, channel: Channel
    ) -> None:
        self._settings = settings
        self._row = row
        self._channel = channel
        self._server = BrokerServer(listeners[0])
        for listener in listeners[1:]:
            self._server.listen(listener)
        self._server.watch(channel.fileno(), self._on_readable)
        self._next_tick = 0.0
        self._until = 0.0  # when it has to have ended, in monotonic seconds; 0: not yet

    def run(self) -> None:
        """Serve until SIGTERM. Raises ConfigError if this process cannot become the user of the
        settings."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        privileges.drop(self._settings.user, self._settings.group)
        self._beat()
        self._channel.send({"event": "ready"})
        self._server.run(self._beat, heartbeat.SECONDS)

    def _beat(self) -> None:
        self._row[Column.BEAT] = time.monotonic_ns()
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + heartbeat.SECONDS
            setup.tick()
            if self._until and now >= self._until:  # a program outside may stay for ever
                self._server.end()

    def _on_readable(self) -> None:
        try:
            message, descriptors = self._channel.receive()
        except BlockingIOError:
            return
        if message is None:
            log.warning("the arbiter is gone: the broker ends with its last client")
            self._until = time.monotonic() + self._settings.graceful_timeout + MARGIN
            self._server.unwatch(self._channel.fileno())
            self._server.leave()
            return
        match message["do"]:
            case "listen":
                self._server.listen(socket.socket(fileno=descriptors[0]))
            case "reopen":
                setup.replace(list(zip(message["targets"], descriptors, strict=True)))
            case _:
                for descriptor in descriptors:
                    os.close(descriptor)
