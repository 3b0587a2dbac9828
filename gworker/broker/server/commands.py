"""What clients of the broker process ask for. Each operation returns its reply as bytes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from gworker.broker import resp
from gworker.broker.interface import Reply
from gworker.broker.server.client import Client
from gworker.broker.store.store import Store
from gworker.errors import BrokerError

log = logging.getLogger("gworker")

# Bytes of one reply. In place of a longer one there is an error.
MAX_REPLY = 8 << 20


class _Channel:
    """What has subscribers. head: the beginning of each push."""

    __slots__ = ("clients", "head")

    def __init__(self, name: bytes) -> None:
        self.clients: dict[Client, None] = {}
        self.head = b">3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n" % (len(name), name)


class Commands:
    """greeting: the operations of a client that has not said hello.

    clients: all that there are. touch: gives a client its part in this turn, because something has
    to be written to it. end: ends the process.
    """

    def __init__(
        self,
        clients: Iterable[Client],
        touch: Callable[[Client], None],
        end: Callable[[], None],
    ) -> None:
        self.greeting: dict[bytes, Callable[..., bytes]] = {b"HELLO": self._hello}
        self._clients = clients
        self._touch = touch
        self._end = end
        self._channels: dict[bytes, _Channel] = {}
        self._published = self._routed = 0
        self._store = Store(self._deliver)
        self._operations: dict[bytes, Callable[..., bytes]] = {
            b"PING": lambda client: resp.PONG,
            b"STATS": self._stats,
            b"SUBSCRIBE": self._subscribe,
            b"UNSUBSCRIBE": self._unsubscribe,
        }
        for name, operation in self._store.operations.items():
            self._operations[name.upper().encode()] = _replying(operation)

    def forget(self, client: Client) -> None:
        """Its link has ended, and so have its subscriptions and its members."""
        self._unsubscribe(client, *client.channels)
        if client.process:
            self._store.presence.reap(b"", client.process)

    def _hello(self, client: Client, process: bytes, version: bytes) -> bytes:
        if version != resp.VERSION:
            # It is an upgrade, and the next broker process has the new code.
            log.info("the broker process ends: a client speaks version %r", version)
            self._end()
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

    def _subscribe(self, client: Client, *channels: bytes) -> bytes:
        for name in channels:
            channel = self._channels.get(name)
            if channel is None:
                channel = self._channels[name] = _Channel(name)
            channel.clients[client] = None
        client.channels.update(channels)
        return resp.OK

    def _unsubscribe(self, client: Client, *channels: bytes) -> bytes:
        for name in channels:
            channel = self._channels.get(name)
            if channel is None:
                continue
            channel.clients.pop(client, None)
            if not channel.clients:
                del self._channels[name]
        client.channels.difference_update(channels)
        return resp.OK

    def _stats(self, client: Client, nothing: bytes) -> bytes:
        clients = list(self._clients)
        waiting = sum(each.waiting + sum(map(len, each.outgoing)) for each in clients)
        return resp.reply(
            [
                [b"published", self._published],
                [b"routed", self._routed],
                [b"clients", len(clients)],
                [b"channels", len(self._channels)],
                [b"waiting", waiting],
            ]
        )


def _replying(operation: Callable[..., Reply]) -> Callable[..., bytes]:
    """An operation of the store, whose reply is bytes whatever happens."""

    def do(client: Client, *arguments: bytes) -> bytes:
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
