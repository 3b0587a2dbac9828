"""BrokerServer: the loop of the broker process."""

from __future__ import annotations

import logging
import select
import signal
import socket
import time
from collections.abc import Callable

from gworker.broker.server.client import MAX_WAITING, Client
from gworker.broker.server.commands import Commands
from gworker.system.signal_pipe import SignalPipe

log = logging.getLogger("gworker")

# Seconds after which a client that says nothing is cut: it is stopped, or hangs, and its members
# are gone until it comes back.
LEASE_SECONDS = 30.0

_READ_SIZE = 1 << 18
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class BrokerServer:
    """Serves the clients of `listener`, a unix socket that listens, until SIGTERM.

    lease: seconds after which a silent client is cut.
    """

    def __init__(self, listener: socket.socket, lease: float = LEASE_SECONDS) -> None:
        self._lease = lease
        self._looked_at = time.monotonic()  # for clients that are silent
        self._listeners = [listener]
        self._poller = select.epoll()
        self._clients: dict[int, Client] = {}  # by descriptor
        self._touched: list[Client] = []
        self._watched: dict[int, Callable[[], object]] = {}  # by descriptor
        self._is_full = False  # no descriptor is left for a further client
        self._is_ended = self._is_leaving = False
        self._buffer = bytearray(_READ_SIZE)
        self._commands = Commands(self._clients.values(), self._touch, self.end)

    def listen(self, listener: socket.socket) -> None:
        """Serve the clients of a further one, too."""
        self._listeners.append(listener)
        self._accept_from(listener)

    def watch(self, descriptor: int, on_readable: Callable[[], object]) -> None:
        """Call `on_readable` in each turn in which `descriptor` can be read."""
        self._watched[descriptor] = on_readable
        self._poller.register(descriptor, _IN)

    def unwatch(self, descriptor: int) -> None:
        del self._watched[descriptor]
        self._poller.unregister(descriptor)

    def leave(self) -> None:
        """Take no further clients, and end with the last one."""
        self._is_leaving = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def end(self) -> None:
        """End after this turn."""
        self._is_ended = True

    def run(self, on_turn: Callable[[], object] = lambda: None, seconds: float = 1.0) -> None:
        """Serve until SIGTERM, or until a client speaks another version.

        on_turn: called in each turn, of which there is one every `seconds` at least.
        """
        signals = SignalPipe()
        signals.install([signal.SIGTERM])
        for listener in self._listeners:
            self._accept_from(listener)
        self.watch(signals.fileno(), self.end)
        while not (self._is_ended or (self._is_leaving and not self._clients)):
            on_turn()
            self._turn(seconds)
        for client in list(self._clients.values()):
            client.socket.close()
        self._poller.close()

    def _turn(self, seconds: float) -> None:
        for descriptor, event in self._poller.poll(0 if self._touched else seconds):
            client = self._clients.get(descriptor)
            if client is not None:
                if event & _OUT:
                    client.is_blocked = False
                    self._watch_client(client)
                    self._touch(client)
                if event & ~_OUT:
                    self._read(client)
            elif (on_readable := self._watched.get(descriptor)) is not None:
                on_readable()
            else:
                self._accept(descriptor)
        touched, self._touched = self._touched, []
        for client in touched:
            self._write(client)
        now = time.monotonic()
        if now >= self._looked_at + self._lease / 10:
            self._cut_silent(now)

    # -- clients that come

    def _accept_from(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        if not self._is_full:
            self._poller.register(listener, _IN)

    def _accept(self, descriptor: int) -> None:
        listener = next((one for one in self._listeners if one.fileno() == descriptor), None)
        if listener is None:  # it was closed, or its client was, in this turn
            return
        while True:
            try:
                end, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.warning("the broker process takes no further client: %s", error.strerror)
                if not self._is_full:
                    self._is_full = True
                    for each in self._listeners:
                        self._poller.unregister(each)
                return
            end.setblocking(False)
            self._clients[end.fileno()] = Client(end, self._commands.greeting)
            self._poller.register(end, _IN)

    # -- clients

    def _watch_client(self, client: Client) -> None:
        events = (0 if client.is_held else _IN) | (_OUT if client.is_blocked else 0)
        self._poller.modify(client.socket, events)

    def _touch(self, client: Client) -> None:
        if not client.is_touched:
            client.is_touched = True
            self._touched.append(client)

    def _read(self, client: Client) -> None:
        try:
            size = client.read(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if size:
            self._do_commands(client)
        else:
            self._end(client)

    def _do_commands(self, client: Client) -> None:
        self._touch(client)
        try:
            client.do_commands()
        except Exception as error:  # whatever a client sends, the others are served
            self._cut(client, f"what it sends is no command: {error!r}")
            return
        if client.is_held:
            self._watch_client(client)

    def _write(self, client: Client) -> None:
        client.is_touched = False
        if client.is_ended:
            return
        was_blocked = client.is_blocked
        try:
            client.write()
        except OSError:
            self._end(client)
            return
        if client.waiting > MAX_WAITING:
            self._cut(client, f"it does not read, and {client.waiting} bytes wait for it")
            return
        if client.is_held and not client.waiting:
            client.is_held = False
            self._watch_client(client)
            self._do_commands(client)
        elif client.is_blocked and not was_blocked:
            self._watch_client(client)

    def _cut(self, client: Client, reason: str) -> None:
        name = client.process.decode(errors="replace") or "without a name"
        log.warning("the broker process cuts the client %s: %s", name, reason)
        self._end(client)

    def _cut_silent(self, now: float) -> None:
        # A client that could not be heard because this process was stopped itself has its time.
        since, self._looked_at = self._looked_at, now
        was_stopped = now - since > self._lease / 2
        for client in list(self._clients.values()):
            if was_stopped:
                client.heard = now
            elif now - client.heard > self._lease:
                self._cut(client, f"it has said nothing for {self._lease:g} s")

    def _end(self, client: Client) -> None:
        if client.is_ended:
            return
        client.is_ended = True
        del self._clients[client.socket.fileno()]
        client.socket.close()  # and leaves the poller
        self._commands.forget(client)
        if self._is_full:
            self._is_full = False
            for listener in self._listeners:
                self._accept_from(listener)
