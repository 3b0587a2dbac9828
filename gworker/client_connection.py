"""A connection that this process dials, as its user sees it. Made by `gworker.connect`.

    CONNECTING ── dialled; the protocol has shaken hands ──► ESTABLISHED ──► CLOSING ──► CLOSED
        ▲  └──── the deadline, a failure, close() ─────────────────────────────────────► │
        └────────────────────────────── reconnect() ────────────────────────────────────┘

It is a `Connection` without a socket at first. A greenlet (`dialling`) gets one, which comes through the inbox
like everything else that has its turn: so what was left over from the time before a `reconnect` is
worked off first. `_early` holds what is sent before the connection is open; it is None while it is open.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, ClassVar

import gevent

from gworker.attempt import NO_SOCKET, NO_WATCHER, Dialled, Plan, backoff
from gworker.callbacks import Callbacks
from gworker.connection import Connection
from gworker.dialling import dial
from gworker.early import Early
from gworker.errors import ErrorCode
from gworker.inbox import LOST, Invoke, Refuse
from gworker.protocols.base import EOF, Control, Opened, Protocol
from gworker.service import Service
from gworker.sockets import DialError
from gworker.stream import CLOSED, CONNECTING, ESTABLISHED
from gworker.target import SERVERS_ONLY, WEBSOCKETS, authority

log = logging.getLogger("gworker")


class ClientConnection(Connection):
    """A dialled connection: the methods, attributes and callbacks of `Connection`, and `reconnect`.

    Callbacks are its own, not the Worker's. on_connect: it is open, with TLS and WebSocket after their handshakes.
    on_error(connection, ErrorCode.CONNECT_FAIL, reason): it could not be opened; on_close follows. status:
    "connecting" until it is open. response: the server's answer to a WebSocket handshake, with its headers. The id
    stays over `reconnect`; bytes_read and bytes_written begin anew. It is not in `worker.connections`, which holds
    those that were accepted, and it does not move to another process.
    """

    __slots__ = (
        "_attempt", "_deadline", "_dialler", "_early", "_failures", "_is_waiting", "_plan", "_stage", "response",
    )  # fmt: skip

    travels: ClassVar[bool] = False

    def __init__(self, service: Service, plan: Plan) -> None:
        self._plan = plan
        self._attempt = 0
        self._failures = 0
        self._is_waiting = False
        self._dialler: Any = None
        self._deadline: Any = None
        self._start_anew()
        super().__init__(service, NO_SOCKET, None, self._new_protocol)
        self.max_send_buffer_size = plan.max_send_buffer_size or self.default_max_send_buffer_size
        self._callbacks = Callbacks()
        self._state = CONNECTING

    def _start_anew(self) -> None:
        self._early: Early | None = Early()
        self._stage = ""
        self.response: Any = None

    def _new_protocol(self, _: int = 0) -> Protocol:
        return self._plan.protocol(self._plan.max_package_size or self.default_max_package_size)

    # ---- hooks of the halves below

    def _make_watcher(self) -> Any:
        return NO_WATCHER if self._socket is NO_SOCKET else super()._make_watcher()

    def _enter_books(self) -> None:
        self._service.dialled[self.id] = self

    def _leave_books(self) -> None:
        del self._service.dialled[self.id]

    def _configure(self, protocol: Protocol) -> None:
        protocol.configure(self._plan.options)

    def _set_deadline(self) -> None:
        """The connect deadline is the only one: what the server owes later is the application's to judge."""

    # ---- what users see

    def __repr__(self) -> str:
        return f"<ClientConnection {self.id} {self._plan.route.target} {self.status}>"

    @property
    def status(self) -> str:
        """`connecting`, `established`, `closing` or `closed`."""
        if self._early is not None and self._state is ESTABLISHED:
            return CONNECTING.value
        return self._state.value

    @property
    def may_push(self) -> bool:
        return self._early is None and super().may_push

    @property
    def attempt(self) -> int:
        """Another one after each `reconnect`."""
        return self._attempt

    @property
    def transport(self) -> str:
        """`tcp`, `udp`, `unix`, or `ssl` for TLS."""
        target = self._plan.route.target
        return "ssl" if target.secure else target.transport

    @property
    def remote_address(self) -> str:
        """The peer as `HOST:PORT`, a proxy if there is one; what is dialled, while it is not connected."""
        if self._remote is None:
            target = self._plan.route.target
            return target.path or authority(target.host, target.port)
        return super().remote_address

    @property
    def send_queue(self) -> int:
        """Bytes that wait to be sent."""
        return super().send_queue if self._early is None else self._early.size

    def send(self, data: Any, raw: bool = False) -> bool:
        """As of every connection; before it is open, messages are kept, up to `max_send_buffer_size`."""
        early = self._early
        if early is None:
            return super().send(data, raw)
        if self._state is not CONNECTING and self._state is not ESTABLISHED:
            return self._refused("client closed")
        if early.size >= self.max_send_buffer_size:
            return self._refused("send buffer full and drop package")
        if not self._protocol_shakes_hands():
            payload = bytes(data) if raw else self._protocol.encode(data)
            self._check_payload(payload)
            early.add(payload, True)
        else:  # how it is encoded may depend on what is agreed; a copy, as a bytearray is its owner's
            if isinstance(data, str):
                data.encode()  # ValueError: no UTF-8, and the caller is to know
            early.add(data if isinstance(data, str | bytes) else bytes(memoryview(data)), raw)
        if early.size >= self.max_send_buffer_size and not early.full:
            early.full = True
            self._became_full()
        return True

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until it is open and everything is sent. False: `timeout` seconds passed, or it is closed."""
        began = time.monotonic()
        while self._early is not None and self._state is not CLOSED:
            if not self._early.wait(None if timeout is None else timeout - (time.monotonic() - began)):
                return False
        return super().drain(None if timeout is None else max(0.0, timeout - (time.monotonic() - began)))

    def close(self, data: Any = None, code: int = 1000, reason: str = "") -> None:
        """As of every connection. One that is not open yet is given up, with what was to be sent."""
        if self._early is not None:
            self._finish(abort=True)
        else:
            super().close(data, code, reason)

    def switch(self, protocol: str | type[Protocol] | Protocol) -> None:
        """As of every connection; but the names of HTTP and WebSocket are those of a server's end: ValueError."""
        if isinstance(protocol, str) and (protocol in WEBSOCKETS or protocol in SERVERS_ONLY):
            raise ValueError(f"{self!r} cannot switch to {protocol!r}: that is the server's end")
        super().switch(protocol)

    def reconnect(self, after: float = 0, *, factor: float = 1.0, most: float = 60.0, jitter: float = 0.0) -> None:
        """Dial again in `after` seconds, with this same object; usually called in on_close.

        factor, most: each attempt in a row that fails makes the delay `factor` times as long, up to `most`
        seconds. jitter: the part of the delay, from 0 to 1, by which it is longer or shorter at random, so that
        the clients of a server that comes back do not come all at once. What is sent meanwhile is kept. `close()` and
        `destroy()` cancel it. Raises RuntimeError while it is open or closing, ValueError for an argument out of range.
        """
        if not (after >= 0 and factor >= 1 and most >= 0 and 0 <= jitter <= 1):
            raise ValueError("reconnect() takes after >= 0, factor >= 1, most >= 0 and jitter from 0 to 1")
        if self._state is not CLOSED and not self._is_waiting:
            raise RuntimeError(f"{self!r} is not closed: call close() or destroy(), and reconnect() in on_close")
        if self._service.dialling_over:
            return
        if self._state is CLOSED:
            self._revive()
        self._is_waiting = True
        self._arm(backoff(after, factor, most, jitter, self._failures), self.dial)

    def _revive(self) -> None:
        """Be as new."""
        self._start_anew()
        self._socket, self._watcher = NO_SOCKET, NO_WATCHER
        self._protocol = self._new_protocol()
        self._configure(self._protocol)
        self.bytes_read = self.bytes_written = 0
        self._held = 0
        self._peer_done = self._awaiting = self._paused = False
        self._state = CONNECTING
        self._enter_books()

    # ---- dialling

    def dial(self) -> None:
        """Begin one attempt, within the connect deadline. From any greenlet."""
        self._is_waiting = False
        self.accepted_at = int(time.time())
        self._arm(self._plan.timeout, self._too_late)
        self._dialler = gevent.spawn(self._dial, self._attempt)

    def _arm(self, seconds: float, callback: Callable[[], None]) -> None:
        self._stop_dialling()
        loop = self._service.loop
        loop.update_now()
        self._deadline = loop.timer(seconds)
        self._deadline.start(callback)

    def _dial(self, attempt: int) -> None:
        """In the dialling greenlet."""
        try:
            socket, remote = dial(self._plan.route, self._tell)
        except DialError as error:
            self._fail(str(error), attempt)
        except Exception as error:
            log.exception("%r: cannot be dialled", self)
            self._fail(f"{type(error).__name__}: {error}", attempt)
        else:
            self._deliver(Dialled(attempt, socket, remote))

    def _tell(self, stage: str) -> None:
        self._stage = stage

    def _too_late(self) -> None:
        stage = f" (waiting for {self._stage})" if self._stage else ""
        self._fail(f"not connected within {self._plan.timeout:g} s{stage}", self._attempt)

    def _fail(self, why: str, attempt: int) -> None:
        """It is not going to be open: on_error, then on_close."""
        if attempt != self._attempt or self._early is None or self._state is CLOSED:
            return
        self._failures += 1
        message = f"cannot connect to {self._plan.route.target}: {why}"
        if self._callbacks.on_error is not None:
            self._put(Invoke("on_error", ErrorCode.CONNECT_FAIL, message))
        else:
            log.info("%s", message)
        self._finish(abort=True)  # before on_error is called: reconnect() may be called in it
        if self._inbox is not None and self._job is None:
            self._service.pool.start_soon(self)

    def _stop_dialling(self) -> None:
        self._attempt += 1  # what it has got may wait in the inbox: it is nobody's now
        timer, self._deadline = self._deadline, None
        if timer is not None:
            timer.stop()
            timer.close()
        dialler, self._dialler = self._dialler, None
        if dialler is not None and dialler is not gevent.getcurrent():
            dialler.kill(block=False)

    # ---- in its turn: in the connection's job

    def _control(self, event: Control) -> None:
        if isinstance(event, Dialled):
            self._dialled(event)
        elif isinstance(event, Invoke) or self._state is not CONNECTING:
            if self._early is None or self._state is not ESTABLISHED:
                super()._control(event)
            else:
                self._shake_hands(event)
        # else it is of the time before reconnect()

    def _dialled(self, event: Dialled) -> None:
        if event.attempt != self._attempt or self._state is not CONNECTING:
            event.socket.close()
            return
        self._dialler = None
        self._socket, self._remote = event.socket, event.remote
        self._watcher = self._make_watcher()
        self._state = ESTABLISHED
        if self._protocol_shakes_hands():
            self._stage = "the protocol's handshake"
            self._watcher.start(self._on_readable)  # also after pause_recv(), which means messages
            self._write_output()
        else:
            self._is_open()

    def _protocol_shakes_hands(self) -> bool:
        return self._protocol.waiting_for() == "handshake"

    def _shake_hands(self, event: Control) -> None:
        """What happens while the protocol is not open yet."""
        if isinstance(event, Opened):
            self.response = event.response
            self._is_open()
        elif isinstance(event, Refuse):
            self._fail(str(event.error), self._attempt)
        elif event is EOF:
            self._fail("the server closed the connection during the handshake", self._attempt)
        elif event is LOST:
            self._fail("the connection was reset during the handshake", self._attempt)
        else:
            super()._control(event)

    def _is_open(self) -> None:
        self._stop_dialling()
        self._failures = 0
        early, self._early = self._early, None
        assert early is not None
        try:
            pieces = [data if raw else self._protocol.encode(data) for data, raw in early.take()]
            if pieces:
                self._write_early(pieces)
            if self._state is ESTABLISHED:
                if self._held:
                    self._watcher.stop()
                self._read_on()
                if early.full:
                    self._tell_drained()
        finally:
            early.end()
        if self._state is ESTABLISHED:
            self._call("on_connect")

    def _write_early(self, pieces: list[bytes]) -> None:
        self._write(b"".join(pieces))

    def _tell_drained(self) -> None:
        """on_buffer_full was called for what was kept: on_buffer_drain follows when all of it is sent."""
        if self._outbox is not None:
            self._outbox.full = True
        else:
            self._became_empty()

    # ---- ending

    def _finish(self, abort: bool) -> None:
        self._stop_dialling()
        super()._finish(abort or self._socket is NO_SOCKET)

    def _is_closed(self) -> None:
        if self._early is not None:
            self._early.end()
        if self._is_waiting:  # for reconnect(): on_close was called for the time before
            self._is_waiting = False
        else:
            super()._is_closed()
