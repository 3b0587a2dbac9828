"""How a dialled connection comes to be open: attempts, their deadline, the protocol's handshake.

A greenlet gets the socket (`dialer`). It comes through the job of the connection like everything
else that has its turn: so what was left over from before a `reconnect` is worked off first.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gevent

from gworker.client.dialer import Route, dial
from gworker.client.happy_eyeballs import DialError
from gworker.connection.connection import Connection
from gworker.connection.pending_transport import PendingTransport, pending
from gworker.connection.state import CONNECTING, ESTABLISHED, PauseReason
from gworker.connection.transport import Transport
from gworker.errors import ErrorCode
from gworker.protocols.base import Control, Protocol
from gworker.system.event_loop import Loop
from gworker.system.peer_address import SocketAddress
from gworker.system.socket_options import limit_send_buffer

log = logging.getLogger("gworker")


@dataclass(frozen=True, slots=True)
class Plan(Route):
    """Where a connection leads, and what it is made of, each time that it is dialled.

    protocol: makes one, for a largest message. timeout: seconds until it is to be open. transport:
    the kind of its socket.
    """

    protocol: Callable[[int], Protocol]
    timeout: float
    max_package_size: int | None
    max_send_buffer_size: int | None
    transport: type[Transport]


def backoff(after: float, factor: float, most: float, jitter: float, failures: int) -> float:
    # Seconds until the next attempt after `failures` in a row.
    try:
        delay = min(most, after * factor ** max(0, failures - 1))
    except OverflowError:
        delay = most
    return delay * (1 + jitter * random.uniform(-1, 1))


class Dialled(Control):
    """The socket of attempt number `attempt` is connected. left: seconds of its deadline for what
    follows."""

    __slots__ = ("attempt", "left", "remote", "socket")

    def __init__(self, attempt: int, socket: Any, remote: SocketAddress, left: float) -> None:
        super().__init__("DIALLED")
        self.attempt = attempt
        self.socket = socket
        self.remote = remote
        self.left = left


class Connector:
    """The attempts of one connection, which is handed in: nothing here holds it.

    attempt: the number of the current one. failures: in a row.
    """

    __slots__ = ("_deadline", "_dialler", "_loop", "_stage", "attempt", "failures", "plan")

    def __init__(self, plan: Plan, loop: Loop) -> None:
        self.plan = plan
        self.attempt = 0
        self.failures = 0
        self._loop = loop
        self._dialler: Any = None
        self._deadline: Any = None
        self._stage = ""

    # ---- one attempt

    def dial(self, connection: Connection) -> None:
        # Begin an attempt, within the connect deadline. From any greenlet.
        connection.lifecycle = CONNECTING
        connection.accepted_at = int(time.time())
        self.stop()
        self._stage = ""
        self._arm(self.plan.timeout, partial(self._too_late, connection))
        self._dialler = gevent.spawn(self._dial, connection, self.attempt)

    def dial_later(self, connection: Connection, seconds: float) -> None:
        self.stop()
        self._arm(seconds, partial(self.dial, connection))

    def stop(self) -> None:
        # Nothing that is under way counts any more.
        self.attempt += 1  # what has been dialled may wait in the job
        self._disarm()
        dialler, self._dialler = self._dialler, None
        if dialler is not None and dialler is not gevent.getcurrent():
            dialler.kill(block=False)

    def give_up(self, connection: Connection, why: str, attempt: int | None = None) -> None:
        # It is not going to be open: on_error, then on_close. attempt: None for the current one.
        if attempt not in (None, self.attempt) or connection.lifecycle is not CONNECTING:
            return
        self.failures += 1
        message = f"cannot connect to {self.plan.target}: {why}"
        if connection.on_error is None:
            log.info("%s", message)
        connection.fail(ErrorCode.CONNECT_FAIL, message)

    def _too_late(self, connection: Connection) -> None:
        stage = f" (waiting for {self._stage})" if self._stage else ""
        self.give_up(connection, f"not connected within {self.plan.timeout:g} s{stage}")

    def _arm(self, seconds: float, callback: Callable[[], None]) -> None:
        self._disarm()
        self._loop.update_now()
        self._deadline = self._loop.timer(seconds)
        self._deadline.start(callback)

    def _disarm(self) -> None:
        timer, self._deadline = self._deadline, None
        if timer is not None:
            timer.stop()
            timer.close()

    def _dial(self, connection: Connection, attempt: int) -> None:
        # In the dialling greenlet.
        end = time.monotonic() + self.plan.timeout
        try:
            socket, remote = dial(self.plan, partial(setattr, self, "_stage"))
        except DialError as error:
            self.give_up(connection, str(error), attempt)
        except Exception as error:
            log.exception("%r: cannot be dialled", connection)
            self.give_up(connection, f"{type(error).__name__}: {error}", attempt)
        else:
            if attempt == self.attempt:
                # until it has its turn: that waits for our own callbacks, not for the peer
                self._disarm()
            connection.post(Dialled(attempt, socket, remote, max(0.0, end - time.monotonic())))

    # ---- in the job of the connection

    def connected(self, connection: Connection, event: Dialled) -> None:
        # The socket is there: let the protocol shake hands, if it does.
        io = pending(connection)
        if event.attempt != self.attempt or io is None:
            event.socket.close()
            return
        self._dialler = None
        server = connection.server_context
        if self.plan.transport is Transport:  # datagrams are sent whole, or not at all
            limit_send_buffer(event.socket, server.limits.kernel_send_buffer)
        most = io.max_send_buffer_size
        io.inner = self.plan.transport(server, connection, event.socket, event.remote, most)
        if connection.shakes_hands:
            self._stage = "the protocol's handshake"
            self._arm(event.left, partial(self._too_late, connection))
            io.inner.read_on()
            connection.write_output()
        else:
            self.opened(connection, io)

    def opened(self, connection: Connection, before: PendingTransport) -> None:
        # Everything that was kept is sent, then on_connect is called.
        io = before.inner
        assert io is not None
        pieces = before.take(connection.protocol_machine)
        self.stop()
        self.failures = 0
        connection.io = io
        connection.lifecycle = ESTABLISHED
        io.max_send_buffer_size = before.max_send_buffer_size
        try:
            for piece in pieces:
                if connection.lifecycle is ESTABLISHED:  # a callback may have ended it
                    connection.write(piece)
            if connection.lifecycle is ESTABLISHED:
                if reasons := before.pause_reasons & PauseReason.ON_PURPOSE:
                    io.pause(reasons)
                io.read_on()
                if before.was_full and io.write_buffer is not None:
                    io.write_buffer.full = True  # on_buffer_drain follows when all of it is sent
                elif before.was_full:
                    connection.tell_drained()
        finally:
            before.end()
        if connection.lifecycle is ESTABLISHED:
            connection.call("on_connect")
