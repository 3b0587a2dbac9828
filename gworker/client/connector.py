"""A connection on its way to be open: attempts, their deadline, and the handshake of its protocol.

It is a `Connection` without a socket at first. A greenlet (`dialling`) gets one, which comes
through the inbox like everything else that has its turn: so what was left over from the time before
a `reconnect` is worked off first. `_early` holds what is sent before the connection is open; it is
None while it is open.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar

import gevent

from gworker.app.callbacks import Callbacks
from gworker.client.attempt import NO_SOCKET, NO_WATCHER, Dialled, Plan
from gworker.client.dialer import dial
from gworker.client.early import Early
from gworker.client.happy_eyeballs import DialError
from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.dispatcher import Handler, handle
from gworker.connection.events import CONNECTION_RESET, CallCallback, ProtocolViolation
from gworker.connection.sending import check_payload
from gworker.connection.state import CLOSED, CONNECTING, ESTABLISHED
from gworker.connection.transport import Transport
from gworker.errors import ErrorCode
from gworker.protocols.base import EOF, Control, Opened, Protocol
from gworker.system.socket_options import limit_send_buffer

log = logging.getLogger("gworker")

RESET = "the connection was reset during the handshake"


class Opening(Connection):
    """What `ClientConnection` does until it is open, and after it has closed."""

    __slots__ = (
        "_attempt", "_deadline", "_dialler", "_early", "_failures", "_fault", "_is_waiting",
        "_max_package_size",
        "_plan", "_stage", "response",
    )  # fmt: skip

    transport_class: ClassVar[type[Transport]] = Transport
    is_stream: ClassVar[bool] = True
    """False: each message that it sends is a datagram."""

    def __init__(self, service: ServerContext, plan: Plan) -> None:
        self._plan = plan
        self._max_package_size = plan.max_package_size or self.default_max_package_size
        self._attempt = 0
        self._failures = 0
        self._is_waiting = False
        self._dialler: Any = None
        self._deadline: Any = None
        self._start_anew()
        super().__init__(service, NO_SOCKET, None, self._new_protocol)
        self.max_send_buffer_size = plan.max_send_buffer_size or self.default_max_send_buffer_size
        self.callbacks = Callbacks()
        self.lifecycle = CONNECTING

    def _start_anew(self) -> None:
        self._early: Early | None = Early(joins=self.is_stream)
        self._stage = ""
        self._fault = ""
        self.response: Any = None

    def _new_protocol(self, _: int = 0) -> Protocol:
        return self._plan.protocol(self._max_package_size)

    # ---- hooks of the halves below

    def make_transport(self, socket: Any, remote: Any, most: int) -> Transport:
        server = self.server_context
        if socket is NO_SOCKET:
            return Transport(server, self, socket, None, most, NO_WATCHER)
        return self.transport_class(server, self, socket, remote, most)

    def register(self) -> None:
        self.server_context.registry.dialled[self.id] = self

    def unregister(self) -> None:
        del self.server_context.registry.dialled[self.id]

    def configure(self, protocol: Protocol) -> None:
        protocol.configure(self._plan.options)

    def set_deadline(self) -> None:
        """The connect deadline is the only one: what the server owes later is the application's to
        judge."""

    # ---- dialling

    def _revive(self) -> None:
        """Be as new."""
        self._start_anew()
        self._replace_transport(NO_SOCKET, None)
        self.protocol_machine = self._new_protocol()
        self.configure(self.protocol_machine)
        self.parser_paused = False
        self.lifecycle = CONNECTING
        self.register()

    def _replace_transport(self, socket: Any, remote: Any) -> None:
        self.io = self.make_transport(socket, remote, self.max_send_buffer_size)

    def dial(self) -> None:
        """Begin one attempt, within the connect deadline. From any greenlet."""
        self._is_waiting = False
        self.accepted_at = int(time.time())
        self._stop_dialling()
        self._arm(self._plan.timeout, self._too_late)
        self._dialler = gevent.spawn(self._dial, self._attempt)

    def _arm(self, seconds: float, callback: Callable[[], None]) -> None:
        self._disarm()
        loop = self.server_context.loop
        loop.update_now()
        self._deadline = loop.timer(seconds)
        self._deadline.start(callback)

    def _disarm(self) -> None:
        timer, self._deadline = self._deadline, None
        if timer is not None:
            timer.stop()
            timer.close()

    def _dial(self, attempt: int) -> None:
        """In the dialling greenlet."""
        end = time.monotonic() + self._plan.timeout
        try:
            socket, remote = dial(self._plan.route, self._tell)
        except DialError as error:
            self._give_up(str(error), attempt)
        except Exception as error:
            log.exception("%r: cannot be dialled", self)
            self._give_up(f"{type(error).__name__}: {error}", attempt)
        else:
            if attempt == self._attempt:
                # until it has its turn: that waits for our own callbacks, not for the peer
                self._disarm()
            self.post(Dialled(attempt, socket, remote, max(0.0, end - time.monotonic())))

    def _tell(self, stage: str) -> None:
        self._stage = stage

    def _too_late(self) -> None:
        stage = f" (waiting for {self._stage})" if self._stage else ""
        self._give_up(f"not connected within {self._plan.timeout:g} s{stage}", self._attempt)

    def _give_up(self, why: str, attempt: int) -> None:
        """It is not going to be open: on_error, then on_close."""
        if attempt != self._attempt or self._early is None or self.lifecycle is CLOSED:
            return
        self._failures += 1
        message = f"cannot connect to {self._plan.route.target}: {why}"
        if self.callbacks.on_error is None:
            log.info("%s", message)
        self.fail(ErrorCode.CONNECT_FAIL, message)

    def _stop_dialling(self) -> None:
        self._attempt += 1  # what it has got may wait in the inbox: it is nobody's now
        self._disarm()
        dialler, self._dialler = self._dialler, None
        if dialler is not None and dialler is not gevent.getcurrent():
            dialler.kill(block=False)

    # ---- in its turn: in the connection's job

    def _take_turn_of(self, event: Control) -> None:
        if isinstance(event, Dialled):
            self._dialled(event)
        elif isinstance(event, CallCallback) or self.lifecycle is not CONNECTING:
            if self._early is None or self.lifecycle is not ESTABLISHED:
                handle(self, event, Connection.handlers)
            else:
                self._shake_hands(event)
        # else it is of the time before reconnect()

    handlers: ClassVar[dict[type, Handler]] = {Control: _take_turn_of}

    def _dialled(self, event: Dialled) -> None:
        if event.attempt != self._attempt or self.lifecycle is not CONNECTING:
            event.socket.close()
            return
        self._dialler = None
        reasons = self.io.pause_reasons
        self._replace_transport(event.socket, event.remote)
        self.io.pause(reasons)
        if self.is_stream:
            limit_send_buffer(event.socket, self.server_context.limits.kernel_send_buffer)
        self.lifecycle = ESTABLISHED
        if self.shakes_hands:
            self._stage = "the protocol's handshake"
            self._arm(event.left, self._too_late)
            self.io.start()  # also after pause_recv(), which means messages
            self.write_output()
        else:
            self._is_open()

    def _shake_hands(self, event: Control) -> None:
        """What happens while the protocol is not open yet."""
        if isinstance(event, Opened):
            self.response = event.response
            self._is_open()
        elif isinstance(event, ProtocolViolation):
            self._give_up(str(event.error), self._attempt)
        elif event is EOF:
            self._give_up("the server closed the connection during the handshake", self._attempt)
        elif event is CONNECTION_RESET:
            self._give_up(self._fault or RESET, self._attempt)
        else:
            handle(self, event, Connection.handlers)

    def protocol_failed(self, events: list[Any] | None = None) -> None:
        super().protocol_failed(events)
        self._fault = _told(sys.exception())

    def handler_failed(self, name: str) -> None:
        """What has escaped before it was open is why it is not going to be; but reconnect() is just
        given up."""
        if self._early is None or self._is_waiting:
            super().handler_failed(name)
            return
        self.server_context.report_exception("%r: exception in %s", self, name)
        self._give_up(_told(sys.exception()), self._attempt)

    def ping(self) -> bool:
        return self._early is None and super().ping()

    def write_failed(self) -> None:
        if self._early is None:
            super().write_failed()
        else:
            self._give_up(RESET, self._attempt)

    def _is_open(self) -> None:
        self._stop_dialling()
        early = self._early
        assert early is not None
        pieces = [data if raw else self._encoded(data) for data, raw in early.take()]
        self._early = None
        self._failures = 0
        try:
            if pieces:
                self._write_early(pieces)
            if self.lifecycle is ESTABLISHED:
                if self.io.pause_reasons:
                    self.io.pause(0)
                self.io.read_on()
                if early.full:
                    self._tell_drained()
        finally:
            early.end()
        if self.lifecycle is ESTABLISHED:
            self.call("on_connect")

    def _encoded(self, message: Any) -> bytes:
        payload = self.protocol_machine.encode(message)
        check_payload(self.protocol_machine, payload)
        return payload

    def _write_early(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def _tell_drained(self) -> None:
        """on_buffer_full was called for what was kept: on_buffer_drain follows when all of it is
        sent."""
        if self.io.write_buffer is not None:
            self.io.write_buffer.full = True
        else:
            self.tell_drained()

    # ---- ending

    def let_go(self) -> None:
        self._stop_dialling()
        super().let_go()

    def _closed(self, abort: bool = False, reset: bool = False) -> None:
        self._stop_dialling()
        super()._closed(abort or self.io.fileno() < 0, reset)

    def tell_closed(self) -> None:
        if self._early is not None:
            self._early.end()
        if self._is_waiting:  # for reconnect(): on_close was called for the time before
            self._is_waiting = False
        else:
            super().tell_closed()


def _told(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"
