"""The arbiter's control socket: commands come in, replies go out, and no client can hold the
arbiter up.

A client connects, sends one request `{"command": str, ...arguments}` as a JSON line and gets JSON
lines until one with "exit", after which the server closes; while it waits for that, a `PULSE` every
few seconds. A reply may carry descriptors (SCM_RIGHTS); then it has a member "fds" with their
number, since a stream socket by itself does not keep lines and descriptors together.

`ControlServer` registers its sockets in the arbiter's selector with a callback as data, which the
loop calls as `key.data(mask)`. It calls `handle(call)` for each request; the handler answers at
once or keeps the `Call` and answers later. One connection of a client is `control_connection`'s; a
client that waits for nothing makes room for the next when the table is full.

This file does not know what the commands do.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
from collections.abc import Callable
from functools import partial

from gworker.errors import ConfigError
from gworker.master.control_connection import Call
from gworker.system import unix_socket
from gworker.system.peer_address import UNKNOWN, credentials_of
from gworker.system.pid_file import is_current

log = logging.getLogger("gworker")

MAX_CLIENTS = 32

PULSE = {"alive": True}
# Sent that often to each client that waits for an answer: the arbiter is alive.
PULSE_SECONDS = 5.0


class ControlServer:
    """The listening side. The selector is the arbiter's; `open` and `close` register and unregister
    there."""

    def __init__(
        self,
        path: str | None,
        selector: selectors.BaseSelector,
        handle: Callable[[Call], None],
    ) -> None:
        self.path = path
        self._selector = selector
        self._handle = handle
        self._listener: socket.socket | None = None
        # A descriptor of the socket file: shows whether the path still names it. Commands that know
        # only the pid find the path by it (instances.control_socket).
        self._file = -1
        self._spare = -1
        self._clients: list[Call] = []  # oldest first
        self._next_pulse = 0.0

    def open(self) -> None:
        """Bind, mode 0600. Raises ConfigError if another instance listens there or it cannot be
        bound."""
        if self.path is None:
            return
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            unix_socket.bind_file(self._listener, self.path, unix_socket.PRIVATE, MAX_CLIENTS)
            self._listener.setblocking(False)
            self._watch(self._listener)
        except (ConfigError, OSError) as error:
            self._close_listener()
            if isinstance(error, unix_socket.HeldError):
                what = f"another instance listens on the control socket {self.path}"
            elif isinstance(error, OSError):
                what = f"cannot open the control socket {self.path}: {error.strerror}"
            else:
                what = str(error)
            raise ConfigError(what) from None

    def restore(self, path: str | None) -> str | None:
        """Listen at `path` unless it does already; return it if it was opened anew. Raises
        ConfigError."""
        if path is None or (path == self.path and is_current(self._file, path)):
            return None
        self._close_listener()
        self.path = path
        self.open()
        return path

    def _watch(self, listener: socket.socket) -> None:
        self._listener = listener
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        with contextlib.suppress(FileNotFoundError):
            self._file = os.open(self.path or "", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        on_accept = partial(self._on_accept, listener)
        self._selector.register(listener, selectors.EVENT_READ, on_accept)

    def fileno(self) -> int:
        """The listening descriptor; -1 if there is none."""
        return self._listener.fileno() if self._listener is not None else -1

    def adopt(self, descriptor: int) -> None:
        """Listen on the socket that was bound before an exec."""
        self._watch(socket.socket(fileno=descriptor))

    def adopt_call(self, descriptor: int, command: str) -> Call:
        """A request that was received before an exec and is not answered yet."""
        return self._add(socket.socket(fileno=descriptor), command)

    def close(self) -> None:
        """Drop all clients and remove the socket, if it is still ours."""
        for client in list(self._clients):
            client.close()
        self._close_listener()

    def _close_listener(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._listener)
        if self.path is not None and is_current(self._file, self.path):
            os.unlink(self.path)
        self._close_descriptors()

    def close_in_child(self) -> None:
        """Close the copies of a forked process. The selector is left alone: its epoll is the
        parent's too."""
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
        """True if a request has come that was not read yet, or is not answered and would be lost in
        an upgrade."""
        ready = {key.fileobj for key, _ in self._selector.select(0)}
        return any(client.is_lost_in_upgrade(ready) for client in self._clients)

    def pulse(self, now: float) -> None:
        """Send `PULSE` to the clients that wait, when it is due. `now`: monotonic."""
        if now < self._next_pulse:
            return
        self._next_pulse = now + PULSE_SECONDS
        for client in [each for each in self._clients if not each.idle]:
            client.send(PULSE)

    def _on_accept(self, listener: socket.socket, _mask: int) -> None:
        try:
            self._admit(listener.accept()[0])
        except OSError as error:
            log.warning("control: cannot accept: %s", error.strerror)
            self._shed(listener)

    def _shed(self, listener: socket.socket) -> None:
        # Out of descriptors: refuse one client with the spare one, or the loop would spin.
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        with contextlib.suppress(OSError):
            listener.accept()[0].close()
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _admit(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        peer = credentials_of(sock) or UNKNOWN
        if peer.uid not in (os.geteuid(), 0):
            log.warning("control: refused uid %d (pid %d)", peer.uid, peer.pid)
            sock.close()
        elif self._make_room():
            self._add(sock)
        else:
            log.warning("control: too many clients, refused pid %d", peer.pid)
            sock.close()

    def _make_room(self) -> bool:
        # True if there is a place; the oldest client that waits for nothing gives up its own.
        missing = max(0, len(self._clients) + 1 - MAX_CLIENTS)
        for client in [each for each in self._clients if each.idle][:missing]:
            client.close()
        return len(self._clients) < MAX_CLIENTS

    def _add(self, sock: socket.socket, command: str = "") -> Call:
        client = Call(sock, self._selector, self._handle, self._clients.remove, command)
        self._clients.append(client)
        return client
