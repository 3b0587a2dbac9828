"""The sending half of a handover: from a process that retires to its successors.

Between the two lies a SOCK_SEQPACKET pair, made by the arbiter, on which the sender sends batches
and the receiver (`receiver.HandoverReceiver`) answers each of them:

    receiver  {"room": n}                        how many connections it can take; first of all
    sender    {"version": v, "sizes": [...]}     + a memfd with that many packed connections + their
                                                 sockets
    receiver  {"refused": [[index, why], ...]}   the others are its own from now on
    sender    {"late": n}                        the receiver may begin; n bytes were appended to
                                                 that memfd: what was asked of the connections, and
                                                 sent, while they moved
    sender    {"idle": true}                     all that can go now has gone; busy ones may follow

A connection moves only while nothing binds it to its process: no handler runs, no message waits.
Before it goes, the sender suspends it; bytes that arrive meanwhile wait in the kernel. If the
receiver dies before it has answered, or refuses, the sender resumes it. Else the sender forgets it
and sends on what was asked of it meanwhile. The receiver does not touch the socket before it has
heard that, or the end of the sender: so the messages of both processes keep their order.

What is packed are plain values and what the application has put there (`context`, its protocol),
copied by pickle: both processes are ours and run as the same user.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from operator import attrgetter, methodcaller
from typing import Any

from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.migration import Deferred
from gworker.connection.state import PauseReason
from gworker.handover.link import BATCH, MAX_REASON, VERSION, Batch, Link
from gworker.handover.state import CannotFreezeError, freeze
from gworker.ipc.fd_socket import Message
from gworker.ipc.scoreboard import Column
from gworker.system import fork_guard

log = logging.getLogger("gworker")

# A batch that has become so large is sent: half-received bodies and unsent bytes travel too.
BATCH_BYTES = 1 << 20

# Batches that may be unanswered: one is packed while the other is unpacked.
WINDOW = 2

MOST_REASONS = 16  # why connections stay, or wait: the log has so many

# Until the next try when the kernel takes no more descriptors (ETOOMANYREFS, unix(7)) or messages.
RETRY_SECONDS = 0.05


class HandoverSender:
    """The connections of a retiring process on their way out. `on_idle`: everything that can go now
    has gone."""

    def __init__(self, service: ServerContext, on_idle: Callable[[], None]) -> None:
        self._service = service
        self._on_idle = on_idle
        self._links: list[Link] = []
        # Those that connections are given to. Over the others only answers are still to come.
        self._newest: list[Link] = []
        # By id: a connection that is offered several times goes once.
        self._queue: OrderedDict[int, Connection] = OrderedDict()
        # Why connections cannot travel, by their ids: what shows only when one is packed or
        # unpacked.
        self._stays: dict[int, str] = {}
        self._reasons: set[str] = set()  # those that the log has
        self._scheduled = False
        self._retry = service.loop.timer(RETRY_SECONDS, RETRY_SECONDS)
        # Each of these asks the connection's protocol. One that raises must not keep us from the
        # others.
        self._is_movable = service.isolate_errors(attrgetter("is_movable"))
        self._obstacle = service.isolate_errors(attrgetter("migration_obstacle"))
        self._stay = service.isolate_errors(methodcaller("resume"))

    @property
    def has_receiver(self) -> bool:
        return bool(self._newest)

    @property
    def is_busy(self) -> bool:
        """True while connections are on their way, or could be."""
        return bool(self._queue) or any(link.unanswered for link in self._links)

    def give_to(self, descriptors: list[int]) -> None:
        """Give to the receivers at the other ends of `descriptors` from now on."""
        self._newest = [Link(self._service.loop, each, self._on_answer) for each in descriptors]
        self._links += self._newest
        for link in list(self._links):
            self._close_if_done(link)
        for connection in self._service.registry.connections.values():
            self.offer(connection)
        self._schedule()

    def obstacle(self, connection: Any) -> str:
        """Why `connection` is not handed over; "" if it will be, at once or when its handler has
        ended."""
        why: str | None = self._stays.get(connection.id) or self._obstacle(connection)
        return "a faulty protocol" if why is None else why

    def hold(self, connection: Any) -> None:
        """Read no more from a busy connection, so that its job runs out of events; but only
        for a receiver that answers."""
        if any(link.room for link in self._newest) and not self.obstacle(connection):
            connection.io.pause(PauseReason.HANDOVER)

    def offer(self, connection: Any) -> None:
        """Hand `connection` over if nothing binds it to this process now. From any greenlet."""
        if self._newest and not self.obstacle(connection) and self._is_movable(connection):
            self._queue[connection.id] = connection
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._service.loop.run_callback(self._pump)

    # ---- giving: in the hub

    def _pump(self) -> None:
        self._scheduled = False
        self._retry.stop()
        while self._queue and (link := self._free_link()) is not None:
            batch = self._next_batch(min(BATCH, link.room or 0))
            if batch.connections and not self._give(link, batch):
                return
        if self._newest and all(link.room == 0 for link in self._newest):
            while self._queue:
                self._keep(self._queue.popitem(last=False)[1], "no room in the successor")
        if not self.is_busy:
            for link in self._newest:
                link.tell({"idle": True})
            self._on_idle()

    def _free_link(self) -> Link | None:
        # The link with the fewest unanswered batches.
        free = [link for link in self._newest if link.room and len(link.unanswered) < WINDOW]
        return min(free, key=lambda link: len(link.unanswered), default=None)

    def _next_batch(self, most: int) -> Batch:
        batch = Batch()
        while self._queue and len(batch.connections) < most and batch.size < BATCH_BYTES:
            _, connection = self._queue.popitem(last=False)
            if self.obstacle(connection) or not self._is_movable(connection):
                continue  # something has happened to it while it waited
            # first: code of the application that pickle calls may use the connection
            descriptor = connection.suspend()
            try:
                packed = freeze(connection)
            except CannotFreezeError as error:
                self._stay(connection)
                self._keep(connection, error.part, str(error))
                continue
            batch.connections.append(connection)
            batch.packed.append(packed)
            batch.descriptors.append(descriptor)
            batch.size += len(packed)
        return batch

    def _give(self, link: Link, batch: Batch) -> bool:
        # Send one batch. False: not now.
        try:
            batch.memory = os.memfd_create("gworker-handover")
            with open(batch.memory, "wb", closefd=False) as file:
                file.writelines(batch.packed)
            sizes = [len(each) for each in batch.packed]
            link.send({"version": VERSION, "sizes": sizes}, [batch.memory, *batch.descriptors])
        except (BrokenPipeError, ConnectionResetError):
            # The receiver is dead. Its earlier answers are still to be read, and then its end.
            link.room = None
            self._take_back(batch)
            return True
        except OSError as error:
            self._take_back(batch)
            self._warn_once(error.strerror or "", "handover: %s; trying again", error.strerror)
            self._retry.start(self._schedule)
            return False
        batch.packed.clear()
        link.unanswered.append(batch)
        link.room = (link.room or 0) - len(batch.connections)
        return True

    def _take_back(self, batch: Batch) -> None:
        if batch.memory >= 0:
            os.close(batch.memory)
        for connection in batch.connections:
            self._stay(connection)
            self._queue[connection.id] = connection

    def _keep(self, connection: Connection, why: str, details: str = "") -> None:
        # This one cannot travel: it is retired politely, here.
        self._stays[connection.id] = why
        connection.read_on()
        text = f"{why}: {details}" if details else why
        self._warn_once(text, "%r is not handed over: %s", connection, text[:MAX_REASON])

    def _warn_once(self, reason: str, message: str, *arguments: object) -> None:
        if reason not in self._reasons and len(self._reasons) < MOST_REASONS:
            self._reasons.add(reason)
            log.warning(message, *arguments)

    # ---- answers: in the hub

    def _on_answer(self, link: Link, message: Message | None, _: list[int]) -> None:
        if message is None:
            self._drop(link)
        elif "room" in message:
            link.room = message["room"]
        else:
            self._settle(link, link.unanswered.popleft(), dict(message["refused"]))
            self._close_if_done(link)
        self._schedule()

    def _settle(self, link: Link, batch: Batch, refused: dict[int, str]) -> None:
        taken = [
            connection for index, connection in enumerate(batch.connections) if index not in refused
        ]
        deferred = [one for connection in taken for one in connection.forget()]
        if taken:
            link.tell({"late": self._append(batch, deferred)})
        os.close(batch.memory)
        self._service.row[Column.HANDED_OVER] += len(taken)
        for index, why in refused.items():
            connection = batch.connections[index]
            self._stay(connection)
            self._keep(connection, *why.split(": ", 1))
        self._service.registry.notify_closed()

    def _append(self, batch: Batch, deferred: list[Deferred]) -> int:
        # Put `deferred` behind what was packed; return its size in bytes.
        packed = []
        for one in deferred:
            try:
                packed.append(pickle.dumps(one, pickle.HIGHEST_PROTOCOL))
            except BaseException as error:  # a message of a user's protocol
                fork_guard.end(error)
                self._service.row[Column.SEND_FAILURES] += 1
                text = "handover: a message cannot follow connection %d: %s: %s"
                log.error(text, one[0], type(error).__name__, error)
        data = pickle.dumps(packed, pickle.HIGHEST_PROTOCOL) if packed else b""
        try:
            return os.pwrite(batch.memory, data, batch.size)
        except OSError as error:
            self._service.row[Column.SEND_FAILURES] += len(packed)
            log.error(
                "handover: what was sent to connections on their way is lost: %s", error.strerror
            )
            return 0

    def _close_if_done(self, link: Link) -> None:
        # Let go of a receiver that has got a successor itself: it waits for us.
        if link not in self._newest and not link.unanswered:
            self._links.remove(link)
            link.close()

    def _drop(self, link: Link) -> None:
        # The receiver is gone. What it has not answered it has not touched.
        self._links.remove(link)
        self._newest = [each for each in self._newest if each is not link]
        link.close()
        for batch in link.unanswered:
            self._take_back(batch)
        if not self._newest:  # serve on until there is another one
            self._queue.clear()
            for connection in self._service.registry.connections.values():
                if isinstance(connection, Connection):
                    connection.read_on()

    def close(self) -> None:
        for link in self._links:
            link.close()
        self._links.clear()
        self._newest.clear()
        self._retry.stop()
        self._retry.close()
