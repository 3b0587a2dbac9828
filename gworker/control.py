"""The arbiter's control socket: commands come in, replies go out, and no client can hold the arbiter up.

A client connects, sends one request `{"command": str, ...arguments}` as a JSON line and gets JSON lines until
one with "exit", after which the server closes; while it waits for that, a `PULSE` every few seconds. A reply may
carry descriptors (SCM_RIGHTS); then it has a member "fds" with their number, since a stream socket by itself does
not keep lines and descriptors together.

`ControlServer` registers its sockets in the arbiter's selector with a callback as data, which the loop calls
as `key.data(mask)`. It calls `handle(call)` for each request; the handler answers at once or keeps the `Call`
and answers later. What a client may cost is bounded: request size, queued replies, their number. One that
exceeds it is dropped, and one that merely sits there makes room for the next when the table is full.

This file does not know what the commands do.
"""

from __future__ import annotations

import array
import contextlib
import json
import logging
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from gworker.errors import ConfigError
from gworker.runtime import bind_socket, clear_socket, peer

log = logging.getLogger("gworker")

MAX_REQUEST = 64 * 1024
MAX_QUEUED = 4 * 1024 * 1024  # bytes of replies that a client has not read yet
MAX_QUEUED_FDS = 64
MAX_CLIENTS = 32
ACCEPTS_PER_TURN = 8

REQUEST_SECONDS = 1.0
"""How soon after it has connected the request of a client has come, however busy the machine is."""

PULSE = {"alive": True}
PULSE_SECONDS = 5.0
"""What a client that waits for an answer is told so often: the arbiter is alive, and at work on it."""

Handler = Callable[["Call"], None]


class Call:
    """One request. `send` any number of replies, then `finish`; neither ever blocks or raises.

    Once the client has left (`gone`) both do nothing, so only handlers with much to do need to look.
    """

    def __init__(self, client: _Client, command: str, arguments: dict[str, Any]) -> None:
        self.command = command
        self.arguments = arguments
        self._client = client
        self._finished = False

    def fileno(self) -> int | None:
        """The connection's descriptor, for who must pass it through an exec; None if that cannot be done."""
        return self._client.fileno()

    @property
    def gone(self) -> bool:
        return self._client.closed

    def send(self, reply: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one reply. The descriptors stay the caller's, who may close them right after."""
        if not self._finished:
            self._client.queue({**reply, "fds": len(fds)} if fds else reply, fds)

    def finish(self, exit_code: int, **extra: Any) -> None:
        """Send the last reply; the connection closes once it is through."""
        self.send({"exit": exit_code, **extra})
        self._finished = True
        self._client.finish()


class _Client:
    """One accepted connection: a request in, a bounded queue of replies out."""

    def __init__(self, sock: socket.socket, server: ControlServer) -> None:
        self.closed = False
        self.call: Call | None = None
        self._sock = sock
        self._server = server
        self._request = b""
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self._queued = 0
        self._finished = False
        self._accepted = time.monotonic()
        self._events = selectors.EVENT_READ
        server.selector.register(sock, self._events, self._on_event)

    def fileno(self) -> int | None:
        """The descriptor; None once the client is gone, or while it has not read what it was sent."""
        return None if self.closed or self._queue else self._sock.fileno()

    @property
    def idle(self) -> bool:
        """Whether nobody works on a request of this client."""
        return self.call is None or self._finished

    def is_lost_in_upgrade(self, ready: set[Any]) -> bool:
        """Whether an exec would lose what this client asks. ready: the sockets that can be read or written."""
        if self.call is None:
            return self._sock in ready or time.monotonic() - self._accepted < REQUEST_SECONDS
        return bool(self._queue) or (not self._finished and self.call.command != "upgrade")

    def _on_event(self, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush()
            if mask & selectors.EVENT_READ and not self.closed:
                self._read()
        except OSError:
            self.close()

    def _read(self) -> None:
        try:
            data = self._sock.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        if not data or self.call is not None:
            self.close()  # it left, or sends more than its one request
            return
        self._request += data
        line, newline, rest = self._request.partition(b"\n")
        if len(line) > MAX_REQUEST or rest:
            self._refuse("one request of at most 64 KiB per connection")
        elif newline:
            self._dispatch(line)

    def _dispatch(self, line: bytes) -> None:
        try:
            arguments = json.loads(line)
            command = arguments.pop("command")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            command = None
        if not isinstance(command, str):
            self._refuse('expected a line of JSON: {"command": NAME, ...}')
            return
        self.call = Call(self, command, arguments)
        self._server.run(self.call)

    def _refuse(self, error: str) -> None:
        self.call = Call(self, "", {})
        self.call.finish(1, error=error)

    def queue(self, reply: dict[str, Any], fds: Sequence[int]) -> None:
        """Send a reply now, or as soon as the client reads. Drops a client that reads too slowly."""
        if self.closed:
            return
        data = json.dumps(reply, default=str).encode() + b"\n"
        held: list[int] = []
        self._queue.append((data, held))
        self._queued += len(data)
        try:
            held.extend(map(os.dup, fds))
            self._flush()
        except OSError:
            self.close()
        if self._queued > MAX_QUEUED or sum(len(fds) for _, fds in self._queue) > MAX_QUEUED_FDS:
            log.warning("control: a client does not read its replies, dropping it")
            self.close()

    def finish(self) -> None:
        self._finished = True
        if not self.closed and not self._queue:
            self.close()

    def _flush(self) -> None:
        while self._queue:
            data, fds = self._queue[0]
            try:
                sent = self._send(data, fds)
            except BlockingIOError:
                break
            self._queued -= sent
            _close_all(fds)  # they went with the first byte
            if sent < len(data):
                self._queue[0] = (data[sent:], [])
            else:
                self._queue.popleft()
        self._watch()

    def _send(self, data: bytes, fds: list[int]) -> int:
        if not fds:
            return self._sock.send(data, socket.MSG_NOSIGNAL)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        return self._sock.sendmsg([data], [rights], socket.MSG_NOSIGNAL)

    def _watch(self) -> None:
        if self._finished and not self._queue:
            self.close()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._queue else 0)
        if events != self._events:
            self._events = events
            self._server.selector.modify(self._sock, events, self._on_event)

    def close(self) -> None:
        """The one way out of every client."""
        if self.closed:
            return
        self._server.selector.unregister(self._sock)
        self._server.forget(self)
        self.close_in_child()

    def close_in_child(self) -> None:
        self.closed = True
        self._sock.close()
        for _, fds in self._queue:
            _close_all(fds)
        self._queue.clear()
        self._queued = 0


class ControlServer:
    """The listening side. The selector is the arbiter's; `open` and `close` register and unregister there."""

    def __init__(self, path: str | None, selector: selectors.BaseSelector, handle: Handler) -> None:
        self.path = path
        self.selector = selector
        self._handle = handle
        self._listener: socket.socket | None = None
        self._file = -1
        """A descriptor of the listener's file: it tells whether the path still names that, and by it the commands
        find the path when they know the pid only (instances.control_socket)."""
        self._spare = -1
        self._clients: list[_Client] = []  # oldest first
        self._next_pulse = 0.0

    def open(self) -> None:
        """Bind, mode 0600. Raises ConfigError if another instance listens there or it cannot be bound."""
        if self.path is None:
            return
        try:
            clear_socket(self.path)
            listener = bind_socket(self.path, backlog=MAX_CLIENTS)
            self._listen(listener)
        except OSError as error:
            raise ConfigError(f"cannot open the control socket {self.path}: {error.strerror}") from None

    def restore(self, path: str | None) -> bool:
        """Listen at `path` unless it does already; True if it has to be opened anew. Raises ConfigError."""
        if path is None or (path == self.path and self._is_in_place()):
            return False
        self._close_listener()
        self.path = path
        self.open()
        return True

    def _is_in_place(self) -> bool:
        """Whether the path names the socket that listens here."""
        try:
            return self._file >= 0 and os.path.samestat(os.fstat(self._file), os.lstat(self.path or ""))
        except OSError:
            return False

    def _listen(self, listener: socket.socket) -> None:
        self._listener = listener
        try:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            with contextlib.suppress(FileNotFoundError):
                self._file = os.open(self.path or "", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            self.selector.register(listener, selectors.EVENT_READ, self._on_accept)
        except OSError:
            self._close_listener()
            raise

    def fileno(self) -> int:
        """The listening descriptor; -1 if there is none."""
        return self._listener.fileno() if self._listener is not None else -1

    def adopt(self, descriptor: int) -> None:
        """Listen on the socket that was bound before an exec."""
        self._listen(socket.socket(fileno=descriptor))

    def adopt_call(self, descriptor: int, command: str) -> Call:
        """A request that was received before an exec and is not answered yet."""
        client = _Client(socket.socket(fileno=descriptor), self)
        self._clients.append(client)
        client.call = Call(client, command, {})
        return client.call

    def close(self) -> None:
        """Drop all clients and remove the socket, if it is still ours."""
        for client in list(self._clients):
            client.close()
        self._close_listener()

    def _close_listener(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(KeyError):
                self.selector.unregister(self._listener)
        if self._is_in_place():
            os.unlink(self.path or "")
        self._close_descriptors()

    def close_in_child(self) -> None:
        """Close the copies of a forked process. The selector is left alone: its epoll is the parent's too."""
        for client in self._clients:
            client.close_in_child()
        self._clients.clear()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for descriptor in {self._spare, self._file} - {-1}:
            os.close(descriptor)
        self._listener, self._file, self._spare = None, -1, -1

    def is_busy(self) -> bool:
        """True if a request has come that was not read yet, or is not answered and would be lost in an upgrade."""
        ready = {key.fileobj for key, _ in self.selector.select(0)}
        return any(client.is_lost_in_upgrade(ready) for client in self._clients)

    def pulse(self, now: float) -> None:
        """Tell the clients that wait, if it is time to, that somebody is at work for them. `now`: monotonic."""
        if now < self._next_pulse:
            return
        self._next_pulse = now + PULSE_SECONDS
        for client in list(self._clients):
            if not client.idle:
                client.queue(PULSE, ())

    def run(self, call: Call) -> None:
        """Hand a request over. A handler's fault is the client's answer and never the arbiter's end."""
        try:
            self._handle(call)
        except Exception as error:
            log.exception("control: %r failed", call.command)
            call.finish(1, error=f"{type(error).__name__}: {error}")

    def forget(self, client: _Client) -> None:
        with contextlib.suppress(ValueError):
            self._clients.remove(client)

    def _on_accept(self, _mask: int) -> None:
        assert self._listener is not None
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._shed(error)
                return
            self._admit(sock)

    def _shed(self, error: OSError) -> None:
        """Out of descriptors: turn one client away with the spare one, or the loop would spin on it."""
        log.warning("control: cannot accept: %s", error.strerror)
        if self._spare < 0 or self._listener is None:
            return
        os.close(self._spare)
        self._spare = -1
        with contextlib.suppress(OSError):
            self._listener.accept()[0].close()
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _admit(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        pid, uid, _ = peer(sock)
        if uid not in (os.geteuid(), 0):
            log.warning("control: refused uid %d (pid %d)", uid, pid)
            sock.close()
        elif self._make_room():
            self._clients.append(_Client(sock, self))
        else:
            log.warning("control: too many clients, refused pid %d", pid)
            sock.close()

    def _make_room(self) -> bool:
        """Whether there is a place, if need be that of the oldest client nobody works for."""
        if len(self._clients) >= MAX_CLIENTS:
            for client in filter(lambda client: client.idle, list(self._clients)):
                client.close()
                break
        return len(self._clients) < MAX_CLIENTS


def _close_all(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
