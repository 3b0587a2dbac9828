"""A connection that can leave its process and go on in another one.

    leave()    the socket is another process's to take: touch it no more
    stay()     it was not taken: go on as if nothing had been
    left()     it was taken: forget it, and tell what was asked of it meanwhile (`catch_up`)

    pack()     what the other process needs besides the descriptor; plain values, and what the application has put there
    unpack()   become what was packed
    arrive()   go on where the predecessor stopped

Whatever a connection comes to know of its peer has to be added to `pack` and `unpack`, here or in the
class that knows it.
"""

from __future__ import annotations

from typing import Any

from gworker.dialogue import Dialogue
from gworker.inbox import Invoke
from gworker.stream import BY_DEPARTURE, BY_OUTPUT, BY_USER, ESTABLISHED, LEAVING

Late = tuple[Any, ...]
"""(id of the connection, what was asked for, arguments): as JSON carries it."""

LATE_PIECE = 16384
"""Bytes of a last message that one JSON message carries."""

MOVED_DEADLINE = 0.5
"""Seconds that a peer under a deadline still has at least after it was moved."""


class Moving(Dialogue):
    """A dialogue, the half of it that lives in one process, and the way to the next."""

    __slots__ = ("_late",)

    _late: list[Late] | None

    @property
    def is_movable(self) -> bool:
        """True while nothing of it is bound to this process: no handler, no message, no answer that is owed."""
        return (
            self._state is ESTABLISHED and self._job is None and self._inbox is None and not self._protocol.is_answering
        )

    def fileno(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self._socket.fileno()

    def leave(self) -> int:
        """Touch the socket no more until `stay` or `left`; return its descriptor. Only while ESTABLISHED."""
        self._state = LEAVING
        self._late = None
        self._watcher.stop()
        if self._outbox is not None:
            self._outbox.pause()
        return self._socket.fileno()

    def stay(self) -> None:
        """The other process has not taken it: go on."""
        self._state = ESTABLISHED
        if self._outbox is not None:
            self._outbox.resume(self._on_writable)
        self._release(BY_DEPARTURE)
        self._read_on()
        self._service.guarded(type(self)._set_deadline)(self)  # one that has passed meanwhile was nobody's to tell
        late, self._late = self._late, None
        for _, name, *arguments in late or ():
            self.catch_up(name, *arguments)

    def left(self) -> list[Late]:
        """The other process has taken it: forget it, without a word to the peer or to the user.

        Its descriptor was taken out of the epoll set before (see epoll.py). Returns what was asked of it
        while it was leaving: the other process has to do that.
        """
        late, self._late = self._late, None
        self._retire_from_books()
        self._socket.close()
        return late or []

    def _later(self, name: str, *arguments: Any) -> None:
        """Somebody asks for this while it is leaving: it is done wherever it goes on."""
        if self._late is None:
            self._late = []
        self._late.append((self.id, name, *arguments))

    def _close_later(self, data: Any, code: int, reason: str) -> None:
        payload = self._protocol.encode(data).decode("latin-1") if data is not None else ""
        for start in range(0, len(payload), LATE_PIECE):
            self._later("write", payload[start : start + LATE_PIECE])
        self._later("close", code, reason)

    def catch_up(self, name: str, *arguments: Any) -> None:
        """Do what was asked for while it was leaving."""
        if name == "write":
            self._write(arguments[0].encode("latin-1"))
        elif name == "close":
            self.close(None, *arguments)
        elif name == "pause_recv":
            self.pause_recv()
        else:
            self.resume_recv()

    def pause_recv(self) -> None:
        if self._state is LEAVING:
            self._later("pause_recv")
        super().pause_recv()

    def resume_recv(self) -> None:
        if self._state is LEAVING:
            self._later("resume_recv")
        super().resume_recv()

    def pack(self) -> dict[str, Any]:
        """What another process needs, besides the descriptor, to go on with this connection (see `unpack`)."""
        outbox = self._outbox
        packed = {
            "id": self.id,
            "remote": self._remote,
            "accepted_at": self.accepted_at,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "max_send_buffer_size": self.max_send_buffer_size,
            "held": self._held & (BY_USER | BY_OUTPUT),
            "unsent": outbox.data() if outbox is not None else b"",
            "full": outbox is not None and outbox.full,
            "request": self.request,
            "protocol": self._protocol,
            "paused": self._paused,
            "due": self._service.deadlines.left(self),
            "behind": (self._service.sending.behind(self), self._service.bodies.behind(self)),
            "begun": self._service.idle.since(self.id),
        }
        own, ours = self._callbacks, self._service.worker.callbacks
        if own is not ours:
            names = own.__slots__
            packed["callbacks"] = {n: f for n in names if (f := getattr(own, n)) is not getattr(ours, n)}
        return packed

    def unpack(self, packed: dict[str, Any]) -> None:
        """Become what was packed. It is not read yet."""
        self.accepted_at = packed["accepted_at"]
        self.bytes_read = packed["bytes_read"]
        self.bytes_written = packed["bytes_written"]
        self.max_send_buffer_size = packed["max_send_buffer_size"]
        self._held = packed["held"]
        if packed["unsent"]:
            outbox = self._outbox = self._make_outbox()
            outbox.append(packed["unsent"])
            outbox.full = packed["full"]
        self.request = packed["request"]
        self._paused = packed["paused"]
        for name, function in packed.get("callbacks", {}).items():
            self.set_callback(name, function)
        if packed["due"] is not None:
            self._service.deadlines.resume(self, max(packed["due"], MOVED_DEADLINE))
        self._service.sending.resume(self, packed["behind"][0])
        self._service.bodies.resume(self, packed["behind"][1])
        self._service.idle.resume(self.id, packed["begun"])

    def arrive(self) -> None:
        """Go on where the predecessor stopped: on_takeover first, then what came meanwhile. From the hub."""
        if self._callbacks.on_takeover is not None:
            self._put(Invoke("on_takeover"))
        if not self._paused:
            self._pull()
        self._read_on()
        if self._inbox is not None and self._job is None:
            self._service.pool.start(self)
