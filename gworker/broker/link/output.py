"""What waits to be written to a server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable

# Bytes of one write in the writing thread.
WRITE_SIZE = 1 << 16


class Output:
    """Pieces gather, and go to the kernel as one, at once and without waiting. A thread writes what
    it does not take; so a flush may run in the event loop itself.

    lock: of the link. schedule: see `link.Link`. sent: bytes that were written. at_once: the socket
    for what never waits; None: it has TLS, and all is written in the writing thread.
    """

    def __init__(
        self, lock: threading.Lock, schedule: Callable[[Callable[[], None]], object]
    ) -> None:
        self._lock = lock
        self._schedule = schedule
        self._socket: socket.socket | None = None
        self.at_once: socket.socket | None = None
        self._outgoing: list[bytes] = []
        self._unsent = memoryview(b"")  # what the kernel has not taken of a write
        self._queued = self.sent = 0
        self._is_flush_due = False
        self._is_blocked = False  # the writing thread has `_unsent`
        self._is_closed = False
        self._has_unsent = threading.Event()

    @property
    def waiting(self) -> int:
        """Bytes."""
        return self._queued - self.sent

    def attach(self, end: socket.socket) -> None:
        """Write to this one from now on. Under the lock."""
        self._socket = end
        if not isinstance(end, ssl.SSLSocket):
            # Both have the same descriptor's connection. One waits up to its timeout, this never.
            self.at_once = end.dup()
            self.at_once.settimeout(0)
        self._queued = self.sent = 0

    def detach(self) -> None:
        """Write no more, and drop what waits. Under the lock."""
        end, self.at_once = self.at_once, None
        self._socket = None
        self._outgoing.clear()
        self._unsent = memoryview(b"")
        self._is_blocked = False
        if end is not None:
            end.close()

    def put(self, data: bytes) -> int:
        """Write it with the next flush. How many bytes are written when this is. Under the lock."""
        self._outgoing.append(data)
        self._queued += len(data)
        return self._queued

    def flush_soon(self) -> None:
        # Not under the lock: it may be done at once.
        if self._outgoing and not self._is_flush_due:
            self._is_flush_due = True
            self._schedule(self.flush)

    def flush(self) -> None:
        with self._lock:
            self._is_flush_due = False
            self._write()

    def start(self, name: str) -> None:
        threading.Thread(target=self._write_rest, name=name, daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        self._is_closed = True
        self._has_unsent.set()

    def _write(self) -> None:
        # Under the lock.
        while self._socket is not None and not self._is_blocked:
            if not self._unsent:
                if not self._outgoing:
                    return
                self._unsent = memoryview(b"".join(self._outgoing))
                self._outgoing.clear()
            if self.at_once is None:
                self._leave_to_thread()
                return
            try:
                sent = self.at_once.send(self._unsent)
            except BlockingIOError:
                self._leave_to_thread()
            except OSError:
                hang_up(self._socket)  # reading tells why
                return
            else:
                self._unsent = self._unsent[sent:]
                self.sent += sent

    def _leave_to_thread(self) -> None:
        self._is_blocked = True
        self._has_unsent.set()

    def _write_rest(self) -> None:
        while True:
            self._has_unsent.wait()
            self._has_unsent.clear()
            if self._is_closed:
                return
            while self._is_blocked and (end := self._socket) is not None:
                try:
                    sent = end.send(self._unsent[:WRITE_SIZE])
                except OSError:  # it is broken, or has taken nothing for as long as it may
                    hang_up(end)
                    break
                with self._lock:
                    if end is not self._socket:
                        break
                    self._unsent = self._unsent[sent:]
                    self.sent += sent
                    if not self._unsent:
                        self._is_blocked = False
                        self._write()


def hang_up(end: socket.socket | None) -> None:
    """Wake the threads that wait for the socket: they find its end."""
    if end is not None:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
