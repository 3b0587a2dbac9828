"""Handing live connections over: from a process that retires (`Giver`) to its successors (`Taker`).

Between the two lies a SOCK_SEQPACKET pair, made by the arbiter, on which the giver sends batches and
the taker answers each of them:

    taker   {"room": n}                        how many connections it can take; first of all
    giver   {"sizes": [...]}                   + a memfd with that many packed connections + their sockets
    taker   {"refused": [[index, why], ...]}   the others are its own from now on

A connection moves only while nothing of it is bound to its process: no handler runs, no message
waits. Before it goes, the giver stops touching its socket; bytes that arrive meanwhile wait in the
kernel. It closes its copy when the answer has come, and the taker does not touch the socket before
it has answered. So if the taker dies on the way, or refuses, the giver goes on as if nothing had been.

What is packed are plain values and what the application has put there (`context`, callbacks, its
protocol), copied by pickle: both processes are ours and run as the same user.
"""

from __future__ import annotations

import _socket
import json
import logging
import mmap
import os
import pickle
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

from gworker.connection import Connection
from gworker.epoll import forget
from gworker.protocols.base import Protocol
from gworker.recording import arriving_kind
from gworker.scoreboard import Column
from gworker.service import Service
from gworker.stream import BY_DEPARTURE

log = logging.getLogger("gworker")

BATCH = 64
"""Connections per message, of which the kernel lets 253 descriptors through (unix(7)). A small batch keeps each
connection waiting for as long only as it takes to pack and unpack 64."""

WINDOW = 2
"""Batches that may be unanswered: one is packed while the other is unpacked."""

RETRY_SECONDS = 0.01
"""Until the next try when the kernel takes no more descriptors (ETOOMANYREFS, unix(7)) or messages."""

MAX_MESSAGE = 65536

MAX_REASON = 200
"""Characters of why a connection cannot travel."""


class Link:
    """One end of the pair. Never blocks."""

    def __init__(self, loop: Any, descriptor: int, on_message: Callable[[Link], None]) -> None:
        self._socket = _socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._watcher: Any = loop.io(descriptor, 1)
        self._watcher.start(on_message, self)
        self.room: int | None = None
        """The giver's side: how many connections the taker still takes; None: it has not said so yet."""
        self.unanswered: deque[list[Connection]] = deque()

    def send(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Send one message. Raises OSError."""
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
        self._socket.sendmsg([json.dumps(message).encode()], rights)

    def receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        """The next message and its descriptors; None at the end. Raises BlockingIOError."""
        try:
            data, ancillary, _, _ = self._socket.recvmsg(MAX_MESSAGE, _socket.CMSG_LEN((BATCH + 1) * 4))
        except BlockingIOError:
            raise
        except OSError:
            return None, []
        descriptors = array("i")
        for _, _, payload in ancillary:
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
        return json.loads(data) if data else None, list(descriptors)

    def close(self) -> None:
        """Close this end."""
        self._watcher.stop()
        self._watcher.close()
        self._socket.close()


class Giver:
    """The connections of a retiring process on their way out. `on_idle`: everything that can go now has gone."""

    def __init__(self, service: Service, on_idle: Callable[[], None]) -> None:
        self._service = service
        self._on_idle = on_idle
        self._links: list[Link] = []
        self._newest: list[Link] = []
        """Those that connections are given to. Over the others only answers are still to come."""
        self._queue: dict[int, Connection] = {}
        """By id, in order: one whose handler ends several times before the taker has answered goes once."""
        self._stays: set[int] = set()
        """Ids of the connections that cannot travel."""
        self._reasons: set[str] = set()
        self._scheduled = False
        self._retry: Any = service.loop.timer(RETRY_SECONDS)

    @property
    def in_transit(self) -> bool:
        """True while a taker still has to answer."""
        return any(link.unanswered for link in self._links)

    @property
    def is_busy(self) -> bool:
        """True while connections are on their way, or could be."""
        return bool(self._queue) or self.in_transit

    def give_to(self, descriptors: list[int]) -> None:
        """Give to the takers at the other ends of `descriptors` from now on."""
        self._newest = [Link(self._service.loop, each, self._on_answer) for each in descriptors]
        self._links += self._newest
        for connection in list(self._service.connections.values()):
            self.offer(connection)
        self._schedule()

    def takes(self, connection: Any) -> bool:
        """True if `connection` will be handed over, at once or when its handler has ended: leave it alone."""
        return connection.travels and connection.id not in self._stays

    def hold(self, connection: Any) -> None:
        """Read no more from a busy connection, so that its inbox runs dry."""
        if self._newest and self.takes(connection):
            connection._hold(BY_DEPARTURE)

    def offer(self, connection: Any) -> None:
        """Hand `connection` over if nothing binds it to this process now. From any greenlet."""
        if self._newest and self.takes(connection) and connection.is_movable:
            self._queue[connection.id] = connection
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._service.loop.run_callback(self._pump)

    # ---- giving: in the hub

    def _pump(self) -> None:
        self._scheduled = False
        while self._queue and (link := self._free_link()) is not None:
            batch, packed = self._next_batch(min(BATCH, link.room or 0))
            if batch and not self._give(link, batch, packed):
                return
        if self._newest and all(link.room == 0 for link in self._newest):
            self._keep_all("the successor has no room for it")
        if not self._queue and not self.in_transit:
            self._on_idle()

    def _free_link(self) -> Link | None:
        """The link with the fewest unanswered batches."""
        free = [link for link in self._newest if link.room and len(link.unanswered) < WINDOW]
        return min(free, key=lambda link: len(link.unanswered), default=None)

    def _next_batch(self, most: int) -> tuple[list[Connection], list[bytes]]:
        batch: list[Connection] = []
        packed: list[bytes] = []
        while self._queue and len(batch) < most:
            connection = self._queue.pop(next(iter(self._queue)))
            if not connection.is_movable:
                continue
            try:
                packed.append(pickle.dumps(connection.pack(), pickle.HIGHEST_PROTOCOL))
            except Exception as error:  # what the application has put there cannot be copied
                self._keep(connection, f"cannot be packed: {type(error).__name__}: {error}"[:MAX_REASON])
                continue
            batch.append(connection)
        return batch, packed

    def _give(self, link: Link, batch: list[Connection], packed: list[bytes]) -> bool:
        """Send one batch. False: not now."""
        descriptors = [connection.leave() for connection in batch]
        try:
            memory = os.memfd_create("gworker-handover")
        except OSError as error:
            return self._take_back(batch, error)
        try:
            with open(memory, "wb", closefd=False) as file:
                file.writelines(packed)
            link.send({"sizes": [len(each) for each in packed]}, [memory, *descriptors])
        except (BrokenPipeError, ConnectionResetError):
            self._take_back(batch, None)
            self._drop(link)
            return True
        except OSError as error:
            return self._take_back(batch, error)
        finally:
            os.close(memory)
        link.unanswered.append(batch)
        link.room = (link.room or 0) - len(batch)
        return True

    def _take_back(self, batch: list[Connection], error: OSError | None) -> bool:
        for connection in batch:
            connection.stay()
            self._queue[connection.id] = connection
        if error is not None:
            log.debug("handover: %s; trying again", error.strerror)
            self._retry.start(self._schedule)
        return False

    def _keep(self, connection: Connection, why: str) -> None:
        """This one cannot travel: it is retired politely, here."""
        self._stays.add(connection.id)
        connection._release(BY_DEPARTURE)
        if why not in self._reasons and len(self._reasons) < 16:
            self._reasons.add(why)
            log.warning("%r is not handed over: %s", connection, why)

    def _keep_all(self, why: str) -> None:
        queue, self._queue = self._queue, {}
        for connection in queue.values():
            self._keep(connection, why)

    def _on_answer(self, link: Link) -> None:
        try:
            message, _ = link.receive()
        except BlockingIOError:
            return
        if message is None:
            self._drop(link)
        elif "room" in message:
            link.room = message["room"]
        else:
            self._settle(link.unanswered.popleft(), dict(message["refused"]))
        self._schedule()

    def _settle(self, batch: list[Connection], refused: dict[int, str]) -> None:
        taken = [connection for index, connection in enumerate(batch) if index not in refused]
        forget(self._service.loop, [connection.fileno() for connection in taken])
        for connection in taken:
            connection.left()
        self._service.row[Column.HANDED_OVER] += len(taken)
        for index, why in refused.items():
            batch[index].stay()
            self._keep(batch[index], why)
        for callback in self._service.on_closed:
            callback()

    def _drop(self, link: Link) -> None:
        """The taker is gone. What it has not answered it has not touched."""
        self._links.remove(link)
        self._newest = [each for each in self._newest if each is not link]
        link.close()
        for batch in link.unanswered:
            for connection in batch:
                connection.stay()
                self._queue[connection.id] = connection
        if not self._newest:  # serve on until there is another one
            self._queue.clear()
            for connection in self._service.connections.values():
                if connection.travels:
                    connection._release(BY_DEPARTURE)

    def close(self) -> None:
        """This process ends."""
        for link in self._links:
            link.close()
        self._links.clear()
        self._newest.clear()
        self._retry.stop()


class Taker:
    """The connections that come from one predecessor. `expected`: how many they may be."""

    def __init__(self, service: Service, descriptor: int, expected: int, room: int) -> None:
        self._service = service
        self._expected = min(expected, room)
        service.expected += self._expected
        self._link = Link(service.loop, descriptor, self._on_batch)
        try:
            self._link.send({"room": room}, [])
        except OSError:
            self._finish()

    def _on_batch(self, link: Link) -> None:
        try:
            message, descriptors = link.receive()
        except BlockingIOError:
            return
        if message is None:
            self._finish()
            return
        sockets = [_socket.socket(fileno=each) for each in descriptors[1:]]
        arrived: list[dict[str, Any] | str] = []
        if descriptors:
            with mmap.mmap(descriptors[0], 0, prot=mmap.PROT_READ) as packed:
                os.close(descriptors[0])
                arrived = [self._check(each) for each in _unpacked(packed, message["sizes"][: len(sockets)])]
        # The kernel drops descriptors for which a process has no room (recvmsg(2), MSG_CTRUNC).
        arrived += ["the successor is out of descriptors"] * (len(message["sizes"]) - len(sockets))
        link.send({"refused": [[index, why] for index, why in enumerate(arrived) if isinstance(why, str)]}, [])
        self._expect_less(len(arrived))
        for state, socket in zip(arrived, sockets, strict=False):
            if isinstance(state, str):
                socket.close()
            else:
                self._restore(socket, state)

    def _check(self, state: dict[str, Any] | str) -> dict[str, Any] | str:
        if isinstance(state, dict) and state["id"] in self._service.connections:
            return f"its id {state['id']} is in use in the successor"
        return state

    def _restore(self, socket: _socket.socket, state: dict[str, Any]) -> None:
        socket.setblocking(False)
        protocol: Protocol = state["protocol"]
        kind = arriving_kind(self._service, protocol)
        connection = kind(self._service, socket, state["remote"], lambda _: protocol, state["id"])
        try:
            connection.unpack(state)
            connection.arrive()
        except Exception:  # packed by another version of its protocol, say
            self._service.row[Column.EXCEPTIONS] += 1
            log.exception("%r: cannot go on with it", connection)
            connection.destroy()

    def _expect_less(self, count: int) -> None:
        count = min(count, self._expected)
        self._expected -= count
        self._service.expected -= count

    def _finish(self) -> None:
        self._expect_less(self._expected)
        self._link.close()
        for callback in self._service.on_closed:
            callback()


def _unpacked(packed: mmap.mmap, sizes: list[int]) -> list[dict[str, Any] | str]:
    """What each connection consists of, or why it cannot be had."""
    found: list[dict[str, Any] | str] = []
    position = 0
    for size in sizes:
        try:
            found.append(pickle.loads(packed[position : position + size]))
        except Exception as error:  # its class is gone from the new code, say
            found.append(f"cannot be unpacked: {type(error).__name__}: {error}"[:MAX_REASON])
        position += size
    return found
