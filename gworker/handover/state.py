"""A connection that can leave its process and go on in another one.

    leave()    the socket is another process's to take, or not ours yet: do not touch it
    stay()     it was not taken: go on as if nothing had been
    left()     it was taken: forget it, and tell what was asked of it meanwhile (`catch_up`)

    pack()     what the other process needs besides the descriptor; plain values, and what the
               application has put there
    unpack()   become what was packed
    arrive()   go on where the predecessor stopped, after `leave()`: the predecessor has left

Whatever a connection comes to know of its peer has to be added to `pack` and `unpack`, here or in
the class that knows it.
"""

from __future__ import annotations

import logging
from typing import Any

from gworker.app.callbacks import Callbacks
from gworker.connection.dialogue import Dialogue
from gworker.connection.events import Invoke
from gworker.connection.obedient import EXCEPTIONS
from gworker.connection.stream import ESTABLISHED, LEAVING, raw_bytes
from gworker.connection.transport import PauseReason

log = logging.getLogger("gworker")

Late = tuple[Any, ...]
"""(id of the connection, what was asked for, arguments)."""

NONE = Callbacks()
"""Of a connection that has left."""


class Moving(Dialogue):
    """A dialogue, the half of it that lives in one process, and the way to the next."""

    __slots__ = ("_late",)

    _late: list[Late] | None

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} cannot be pickled: in a context, keep the id of another connection"
        )

    @property
    def migration_obstacle(self) -> str:
        """Why it cannot move to another process, whatever it is doing; "" if it can.

        The keys of a TLS connection live in OpenSSL, which does not give them away. Callbacks of
        its own may refer to anything in this process.
        """
        worker, protocol = self._service.worker, self._protocol
        if self._transport.is_tls:
            return "TLS"
        if self._callbacks is not worker.callbacks:
            return "own callbacks"
        return worker.migration_obstacle(protocol.keeps_alive) or protocol.migration_obstacle

    @property
    def is_movable(self) -> bool:
        """True while nothing of it is bound to this process: no handler, no message, no answer that
        is owed."""
        protocol = self._protocol
        if (
            self._state is not ESTABLISHED
            or self._job is not None
            or self._inbox is not None
            or protocol.is_answering
        ):
            return False
        # What moves with handover=False moves between two requests only.
        return self._service.worker.handover is not False or not (
            protocol.is_partial or self._has_body_to_read
        )

    @property
    def _has_body_to_read(self) -> bool:
        return self._protocol.waiting_for() == "body"

    def fileno(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self._transport.fileno()

    def leave(self) -> int:
        """Touch the socket no more until `stay` or `left`; return its descriptor. Only while
        ESTABLISHED."""
        self._state = LEAVING
        self._late = None
        return self._transport.detach()

    def stay(self) -> None:
        """The other process has not taken it: go on."""
        self._state = ESTABLISHED
        self._transport.reattach()
        self._transport.resume(PauseReason.HANDOVER)
        self._service.isolate_errors(type(self)._set_deadline)(
            self
        )  # one that has passed meanwhile was nobody's to tell
        late, self._late = self._late, None
        for _, name, *arguments in late or ():
            self.catch_up(name, *arguments)

    def left(self) -> list[Late]:
        """The other process has taken it: forget it, without a word to the peer or to the user.

        Its descriptor was taken out of the epoll set before (see epoll.py). Returns what was asked
        of it while it was leaving: the other process has to do that.
        """
        late, self._late = self._late, None
        self._unregister()
        self._transport.forget()
        # nothing happens to the peer: nobody is told that a `send` to this object is refused
        self._callbacks = NONE
        return late or []

    def _later(self, name: str, *arguments: Any) -> None:
        """Somebody asks for this while it is leaving: it is done wherever it goes on."""
        if self._late is None:
            self._late = []
        self._late.append((self.id, name, *arguments))

    def _send_later(self, data: Any, raw: bool) -> bool:
        """`send` while it is leaving: the message goes out where it goes on, before all that is
        sent there."""
        waiting = self.send_queue + sum(
            len(each[2]) for each in self._late or () if each[1] == "write"
        )
        if 0 < waiting >= self.max_send_buffer_size:
            return self._refused("send buffer full and drop package")
        protocol = self._protocol
        if raw:
            self._later("write", raw_bytes(data))
        elif protocol.encoding is None and not protocol.keeps_alive:
            self._later(
                "send", data
            )  # to encode it may change the protocol, of which a copy is on its way
        else:
            payload = protocol.encode(data)
            self._check_payload(payload)
            self._later("write", bytes(payload))
        return True

    def _close_later(self, data: Any, code: int, reason: str) -> None:
        if data is not None:
            self._send_later(data, raw=False)
        self._later("close", code, reason)

    def catch_up(self, name: str, *arguments: Any) -> None:
        """Do what was asked for while it was leaving."""
        if name == "write":
            self._write(*arguments)
        elif name == "send":
            self._send_late(*arguments)
        elif name == "close":
            self.close(None, *arguments)
        elif name == "pause_recv":
            self.pause_recv()
        else:
            self.resume_recv()

    def _send_late(self, data: Any) -> None:
        """A message that the protocol cannot carry is lost: its sender went on long ago."""
        try:
            self.send(data)
        except (TypeError, ValueError):
            self._service.row[EXCEPTIONS] += 1
            log.exception("%r: a message that was sent while it moved", self)

    def pause_recv(self) -> None:
        if self._state is LEAVING:
            self._later("pause_recv")
        super().pause_recv()

    def resume_recv(self) -> None:
        if self._state is LEAVING:
            self._later("resume_recv")
        super().resume_recv()

    def pack(self) -> dict[str, Any]:
        """What another process needs, besides the descriptor, to go on with this connection (see
        `unpack`)."""
        return {
            "id": self.id,
            "remote": self._transport.remote,
            "accepted_at": self.accepted_at,
            "transport": self._transport.state(),
            "request": self.request,
            "protocol": self._protocol,
            "paused": self._paused,
            "timeouts": self._service.timeouts.save(self),
            "observer": None if self._observer is None else self._observer.state(),
        }

    def unpack(self, packed: dict[str, Any]) -> None:
        """Become what was packed. It is not read yet."""
        self.accepted_at = packed["accepted_at"]
        self._transport.restore(packed["transport"])
        self.request = packed["request"]
        self._paused = packed["paused"]
        self._service.timeouts.restore(self, packed["timeouts"])
        if self._observer is not None and packed["observer"] is not None:
            self._observer.restore(packed["observer"])

    def arrive(self, late: list[Late]) -> None:
        """Go on where the predecessor stopped. From the hub.

        What was sent while it moved goes out first; then on_takeover is called; then follows what
        came meanwhile. late: what was asked of it where it came from.
        """
        own, self._late = self._late or [], None
        self._state = ESTABLISHED
        self._transport.reattach()
        if self._callbacks.on_takeover is not None:
            self._put(Invoke("on_takeover"))
        for _, name, *arguments in (*late, *own):
            self.catch_up(name, *arguments)
        if self._service.takes_no_more:
            self._transport.pause(PauseReason.HANDOVER)
            self._paused = True  # there may be messages among what was moved
        elif self._state is ESTABLISHED:
            self._pull()
        self._transport.read_on()
        if self._inbox is not None and self._job is None:
            self._service.pool.start(self)
