"""The broker process of an instance: clients at a unix socket, and a `Store` behind it.

One thread and one epoll(7) loop: no gevent, no user code. In each turn it reads what the clients
have sent, does their commands in the order in which they came, and writes to each client once. So
what is published is in one order for all. Payloads are passed on and never looked into.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from hiredis import Reader

from gworker.broker import resp
from gworker.broker.interface import MAX_BODY, Reply
from gworker.broker.store.store import Store
from gworker.errors import BrokerError
from gworker.system.signal_pipe import SignalPipe

log = logging.getLogger("gworker")

# Bytes that may wait for a client. One that does not read is cut, and comes back.
MAX_WAITING = 16 << 20

# Bytes of one command, and of one reply. A client that exceeds the first is cut; in place of a
# longer reply it gets an error.
MAX_COMMAND = 4 * MAX_BODY
MAX_REPLY = 8 << 20

# Seconds after which a client that says nothing is cut: it is stopped, or hangs, and its members
# are gone until it comes back.
LEASE_SECONDS = 30.0

_READ_SIZE = 1 << 18
_NOTHING = object()  # no whole command has been read yet
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class _Client:
    """One link of a process. process: its name; b"" until it has said hello.

    operations: what it may ask for, by their names in commands.
    """

    __slots__ = (
        "channels",
        "heard",
        "is_ended",
        "is_touched",
        "is_writing",
        "operations",
        "outgoing",
        "process",
        "reader",
        "socket",
        "unsent",
        "waiting",
    )

    def __init__(
        self, end: socket.socket, operations: Mapping[bytes, Callable[..., bytes]]
    ) -> None:
        self.socket = end
        self.operations = operations
        self.reader: Any = Reader(notEnoughData=_NOTHING)
        self.process = b""
        self.heard = time.monotonic()  # when it has said something
        self.channels: set[bytes] = set()
        self.outgoing: list[bytes] = []  # of this turn
        self.unsent: deque[bytes | memoryview] = deque()  # of turns before
        self.waiting = 0  # bytes in `unsent`
        self.is_touched = False  # something has to be written in this turn
        self.is_writing = False  # the kernel takes nothing: the loop waits until it does
        self.is_ended = False


class _Channel:
    """What has subscribers. head: the beginning of each push."""

    __slots__ = ("clients", "head")

    def __init__(self, name: bytes) -> None:
        self.clients: dict[_Client, None] = {}
        self.head = b">3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n" % (len(name), name)


class BrokerServer:
    """Serves the clients of `listener`, a unix socket that listens, until SIGTERM.

    lease: seconds after which a silent client is cut.
    """

    def __init__(self, listener: socket.socket, lease: float = LEASE_SECONDS) -> None:
        self._lease = lease
        self._looked_at = time.monotonic()  # for clients that are silent
        self._listeners = [listener]
        self._poller = select.epoll()
        self._clients: dict[int, _Client] = {}  # by descriptor
        self._channels: dict[bytes, _Channel] = {}
        self._touched: list[_Client] = []
        self._watched: dict[int, Callable[[], object]] = {}  # by descriptor
        self._is_full = False  # no descriptor is left for a further client
        self._is_ended = self._is_leaving = False
        self._buffer = bytearray(_READ_SIZE)
        self._published = self._routed = 0
        self._store = Store(self._deliver)
        self._operations: dict[bytes, Callable[..., bytes]] = {
            b"PING": lambda client: resp.PONG,
            b"STATS": self._stats,
            b"SUBSCRIBE": self._subscribe,
            b"UNSUBSCRIBE": self._unsubscribe,
        }
        for name, operation in self._store.operations.items():
            self._operations[name.upper().encode()] = self._of_store(operation)

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
        """Serve until SIGTERM, or until a client speaks another version: then it is an upgrade,
        and the next broker process has the new code.

        on_turn: called in each turn, of which there is one every `seconds` at least.
        """
        signals = SignalPipe()
        signals.install([signal.SIGTERM])
        for listener in self._listeners:
            self._accept_from(listener)
        self.watch(signals.fileno(), self.end)
        while not (self._is_ended or (self._is_leaving and not self._clients)):
            on_turn()
            for descriptor, event in self._poller.poll(seconds):
                client = self._clients.get(descriptor)
                if client is not None:
                    if event & _OUT:
                        client.is_writing = False
                        self._poller.modify(descriptor, _IN)
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
        for client in list(self._clients.values()):
            client.socket.close()
        self._poller.close()

    # -- clients

    def _accept_from(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        if not self._is_full:
            self._poller.register(listener, _IN)

    def _accept(self, descriptor: int) -> None:
        listener = next((one for one in self._listeners if one.fileno() == descriptor), None)
        if listener is None:  # it was closed, or its client was, in this turn
            return
        greeting = {b"HELLO": self._hello}
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
            self._clients[end.fileno()] = _Client(end, greeting)
            self._poller.register(end, _IN)

    def _read(self, client: _Client) -> None:
        try:
            size = client.socket.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._end(client)
            return
        client.heard = time.monotonic()
        client.reader.feed(self._buffer, 0, size)
        self._touch(client)
        answers = client.outgoing
        try:
            for command in iter(client.reader.gets, _NOTHING):
                operation = client.operations.get(command[0])
                if operation is None:
                    answers.append(resp.error(f"no operation: {command[0]!r}"))
                else:
                    answers.append(operation(client, *command[1:]))
        except Exception as error:  # whatever a client sends, the others are served
            self._cut(client, f"what it sends is no command: {error!r}")
        if client.reader.len() > MAX_COMMAND:
            self._cut(client, f"a command of more than {MAX_COMMAND} bytes")

    def _touch(self, client: _Client) -> None:
        if not client.is_touched:
            client.is_touched = True
            self._touched.append(client)

    def _write(self, client: _Client) -> None:
        client.is_touched = False
        if client.is_ended:
            return
        unsent = client.unsent
        if client.outgoing:
            data = b"".join(client.outgoing)
            client.outgoing.clear()
            unsent.append(data)
            client.waiting += len(data)
        while unsent and not client.is_writing:
            try:
                sent = client.socket.send(unsent[0])
            except BlockingIOError:
                client.is_writing = True
                self._poller.modify(client.socket, _IN | _OUT)
            except OSError:
                self._end(client)
                return
            else:
                client.waiting -= sent
                rest = memoryview(unsent.popleft())[sent:]
                if rest:
                    unsent.appendleft(rest)
        if client.waiting > MAX_WAITING:
            self._cut(client, f"it does not read, and {client.waiting} bytes wait for it")

    def _cut(self, client: _Client, reason: str) -> None:
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

    def _end(self, client: _Client) -> None:
        if client.is_ended:
            return
        client.is_ended = True
        del self._clients[client.socket.fileno()]
        client.socket.close()  # and leaves the poller
        self._unsubscribe(client, *client.channels)
        if client.process:
            self._store.presence.reap(b"", client.process)
        if self._is_full:
            self._is_full = False
            for listener in self._listeners:
                self._accept_from(listener)

    # -- operations: each returns the reply as bytes

    def _of_store(self, operation: Callable[..., Reply]) -> Callable[..., bytes]:
        def do(client: _Client, *arguments: bytes) -> bytes:
            try:
                answer = resp.reply(operation(*arguments))
            except BrokerError as error:
                return resp.error(str(error))
            except (TypeError, ValueError) as error:
                return resp.error(f"{operation.__name__}: {error}")
            except Exception as error:
                log.exception("the broker process: %s", operation.__name__)
                return resp.error(repr(error))
            if len(answer) > MAX_REPLY:
                return resp.error(f"the reply has {len(answer)} bytes, more than {MAX_REPLY}")
            return answer

        return do

    def _hello(self, client: _Client, process: bytes, version: bytes) -> bytes:
        if version != resp.VERSION:
            log.info("the broker process ends: a client speaks version %r", version)
            self._is_ended = True
            return resp.error(f"this broker process speaks version {resp.VERSION.decode()}")
        client.process = bytes(process)
        client.operations = self._operations
        self._store.presence.renew(b"", client.process, b"0")  # until its link ends
        return resp.OK

    def _deliver(self, channel: bytes, payload: bytes) -> int:
        """Pass a payload to the subscribers of a channel; return how many there are."""
        self._published += 1
        known = self._channels.get(channel)
        if known is None:
            return 0
        push = b"%b$%d\r\n%b\r\n" % (known.head, len(payload), payload)
        for client in known.clients:
            client.outgoing.append(push)
            if not client.is_touched:
                self._touch(client)
        count = len(known.clients)
        self._routed += count
        return count

    def _subscribe(self, client: _Client, *channels: bytes) -> bytes:
        for name in channels:
            channel = self._channels.get(name)
            if channel is None:
                channel = self._channels[name] = _Channel(name)
            channel.clients[client] = None
        client.channels.update(channels)
        return resp.OK

    def _unsubscribe(self, client: _Client, *channels: bytes) -> bytes:
        for name in channels:
            channel = self._channels.get(name)
            if channel is None:
                continue
            channel.clients.pop(client, None)
            if not channel.clients:
                del self._channels[name]
        client.channels.difference_update(channels)
        return resp.OK

    def _stats(self, client: _Client, nothing: bytes) -> bytes:
        waiting = sum(
            other.waiting + sum(map(len, other.outgoing)) for other in self._clients.values()
        )
        return resp.reply(
            [
                [b"published", self._published],
                [b"routed", self._routed],
                [b"clients", len(self._clients)],
                [b"channels", len(self._channels)],
                [b"waiting", waiting],
            ]
        )
