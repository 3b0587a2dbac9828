"""A connection that this process dials, as its user sees it. Made by `gworker.connect`.

    CONNECTING ── dialled; the protocol has shaken hands ──► ESTABLISHED ──► CLOSING ──► CLOSED
        ▲  └──── the deadline, a failure, close() ─────────────────────────────────────► │
        └────────────────────────────── reconnect() ────────────────────────────────────┘

How it comes to be open is `Opening`, on which it stands.
"""

from __future__ import annotations

import math
import time
from typing import Any

from gworker.client.attempt import backoff
from gworker.client.connector import Opening
from gworker.client.url import SERVERS_ONLY, WEBSOCKETS, authority
from gworker.connection.sending import check_payload, raw_bytes
from gworker.connection.state import CLOSED, CONNECTING, ESTABLISHED
from gworker.protocols.base import Protocol


class ClientConnection(Opening):
    """A dialled connection: the methods, attributes and callbacks of `Connection`, and `reconnect`.

    Callbacks are its own, not the Worker's. on_connect: it is open, with TLS and WebSocket after
    their handshakes. on_error(connection, ErrorCode.CONNECT_FAIL, reason): it could not be opened;
    on_close follows. status: "connecting" until it is open. response: the server's answer to a
    WebSocket handshake, with its headers. The id stays over `reconnect`; bytes_read and
    bytes_written begin anew. It is not in `worker.connections`, which holds those that were
    accepted, and it does not move to another process.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<ClientConnection {self.id} {self._plan.route.target} {self.status}>"

    @property
    def status(self) -> str:
        """`connecting`, `established`, `closing` or `closed`."""
        if self._early is not None and self.lifecycle is ESTABLISHED:
            return CONNECTING.value
        return self.lifecycle.value

    @property
    def accepts_unsolicited(self) -> bool:
        return self._early is None and super().accepts_unsolicited

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
        """The peer as `HOST:PORT`, a proxy if there is one; what is dialled, while it is not
        connected."""
        if self.io.remote is None:
            target = self._plan.route.target
            return target.path or authority(target.host, target.port)
        return super().remote_address

    @property
    def max_package_size(self) -> int:
        """The largest message in bytes that the peer may send. It stays over `reconnect`."""
        return self._max_package_size

    @max_package_size.setter
    def max_package_size(self, size: int) -> None:
        self._max_package_size = self.protocol_machine.max_package_size = size

    @property
    def send_queue(self) -> int:
        """Bytes that wait to be sent."""
        return super().send_queue if self._early is None else self._early.size

    @property
    def is_full(self) -> bool:
        """True while `send` refuses messages because what waits takes `max_send_buffer_size` bytes
        of memory."""
        early = self._early
        return super().is_full if early is None else 0 < early.held >= self.max_send_buffer_size

    def send(self, data: Any, raw: bool = False) -> bool:
        """As of every connection; before it is open, messages are kept, up to
        `max_send_buffer_size`."""
        early = self._early
        if early is None:
            return super().send(data, raw)
        if self.lifecycle is not CONNECTING and self.lifecycle is not ESTABLISHED:
            return self.reject_send("client closed")
        if self.is_full:
            return self.reject_send("send buffer full and drop package")
        if raw:
            early.add(raw_bytes(data), True)
        elif not self.shakes_hands:
            payload = self.protocol_machine.encode(data)
            check_payload(self.protocol_machine, payload)
            early.add(payload, True)
        else:
            # How it is encoded may depend on what is agreed. A copy: a bytearray is its owner's.
            if isinstance(data, str):
                data.encode()  # ValueError: no UTF-8, and the caller is to know
            early.add(data if isinstance(data, str | bytes) else bytes(memoryview(data)), False)
        if early.held >= self.max_send_buffer_size and not early.full:
            early.full = True
            self.buffer_full()
        return True

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until it is open and everything is sent. False: `timeout` seconds passed, or it is
        closed.

        False at once in its own callbacks before it is open: it opens after them.
        """
        began = time.monotonic()
        while self._early is not None and self.lifecycle is not CLOSED:
            if self.event_job is not None and self.event_job.is_current:
                return False
            if not self._early.wait(
                None if timeout is None else timeout - (time.monotonic() - began)
            ):
                return False
        return super().drain(
            None if timeout is None else max(0.0, timeout - (time.monotonic() - began))
        )

    def close(self, data: Any = None, code: int = 1000, reason: str = "") -> None:
        """As of every connection. One that is not open yet is given up, with what was to be
        sent."""
        if self._early is not None:
            self._closed(abort=True)
        else:
            super().close(data, code, reason)

    def switch(self, protocol: str | type[Protocol] | Protocol) -> None:
        """As of every connection; but the names of HTTP and WebSocket are those of a server's end:
        ValueError."""
        if isinstance(protocol, str) and (protocol in WEBSOCKETS or protocol in SERVERS_ONLY):
            raise ValueError(f"{self!r} cannot switch to {protocol!r}: that is the server's end")
        super().switch(protocol)

    def reconnect(
        self, after: float = 0, *, factor: float = 1.0, most: float = 60.0, jitter: float = 0.0
    ) -> None:
        """Dial again in `after` seconds, with this same object; usually called in on_close.

        factor, most: each attempt in a row that fails makes the delay `factor` times as long, up to
        `most` seconds. jitter: the part of the delay, from 0 to 1, by which it is longer or shorter
        at random, so that the clients of a server that comes back do not come all at once. What is
        sent meanwhile is kept. `close()` and `destroy()` cancel it. Raises RuntimeError while it is
        open or closing, ValueError for an argument out of range.
        """
        if not (0 <= after < math.inf and factor >= 1 and most >= 0 and 0 <= jitter <= 1):
            raise ValueError(
                "reconnect() takes after >= 0, factor >= 1, most >= 0 and jitter from 0 to 1"
            )
        if self.lifecycle is not CLOSED and not self._is_waiting:
            raise RuntimeError(
                f"{self!r} is not closed: call close() or destroy(), and reconnect() in on_close"
            )
        if self.server_context.dialling_over:
            return
        if self.lifecycle is CLOSED:
            self._revive()
        self._is_waiting = True
        self._stop_dialling()
        self._arm(backoff(after, factor, most, jitter, self._failures), self.dial)
