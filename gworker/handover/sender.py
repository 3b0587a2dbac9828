"""The sending half of a handover: from a process that retires to its successors.

Between the two lies a SOCK_SEQPACKET pair, made by the arbiter, on which the sender sends batches
and the receiver (`receiver.HandoverReceiver`) answers each of them:

    receiver  {"room": n}                        how many connections it can take; first of all
    sender    {"version": v, "sizes": [...]}     + a memfd with that many packed connections + their
                                                 sockets
    receiver  {"refused": [[index, why], ...]}   the others are its own from now on
    sender    {"late": n}                        the receiver may begin; n bytes were appended to
                                                 that memfd: what was asked of the connections, and
                                                 sent, while they moved, and what they are members
                                                 of
    sender    {"idle": true}                     all that can go now has gone; busy ones may follow
    sender    {"marker": id}                     + a memfd with channels of groups and users, of
                                                 which connections are to come: the receiver
                                                 publishes a marker on each (`messages.positions`)

A connection moves only while nothing binds it to its process: no handler runs, no message waits.
Before it goes, the sender suspends it; bytes that arrive meanwhile wait in the kernel. If the
receiver dies before it has answered, or refuses, the sender resumes it. Else the sender forgets it
and sends on what was asked of it meanwhile. The receiver does not touch the socket before it has
heard that, or the end of the sender: so the messages of both processes keep their order.

A connection that is a member of groups goes when their channels are marked. What moves while there
are messages parts from the sender between two of them, so that it is known how far it is in each
channel.

What is packed are plain values and what the application has put there (`context`, its protocol),
copied by pickle: both processes are ours and run as the same user.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from operator import attrgetter, methodcaller
from typing import Any

from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.state import PauseReason
from gworker.handover.departures import Departures
from gworker.handover.link import BATCH, MAX_REASON, VERSION, Batch, Link
from gworker.handover.member_queue import MemberQueue
from gworker.handover.parting import Parting
from gworker.handover.state import CannotFreezeError, freeze
from gworker.ipc.fd_socket import Message

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
        departures = Departures(service, self._schedule)
        self._members = MemberQueue(departures, self._may_go, self._try_again)
        self._parting = Parting(
            service, departures, self._on_refused, self._schedule, self._try_again
        )

    @property
    def has_receiver(self) -> bool:
        return bool(self._newest)

    @property
    def is_busy(self) -> bool:
        """True while connections are on their way, or could be."""
        return bool(self._queue or self._members) or any(link.is_busy for link in self._links)

    def give_to(self, descriptors: list[int]) -> None:
        """Give to the receivers at the other ends of `descriptors` from now on."""
        for link in self._newest:
            self._members.take_back(link)
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
        if self._newest and self._may_go(connection):
            self._enqueue(connection)
            self._schedule()

    def _may_go(self, connection: Connection) -> bool:
        return not self.obstacle(connection) and bool(self._is_movable(connection))

    def _enqueue(self, connection: Connection) -> None:
        if connection.membership is None:
            self._queue[connection.id] = connection
        else:
            self._members.add(connection)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._service.loop.run_callback(self._pump)

    def _try_again(self) -> None:
        self._retry.start(self._schedule)

    # ---- giving: in the hub

    def _pump(self) -> None:
        self._scheduled = False
        self._retry.stop()
        for each in list(self._links):
            self._parting.part(each)
            self._close_if_done(each)
        self._members.prepare(self._newest)
        for each in self._newest:
            while each.prepared and each.room and len(each.unanswered) < WINDOW:
                batch = self._next_batch(each.prepared, each)
                if batch.connections and not self._give(each, batch):
                    return
        while self._queue and (link := self._free_link()) is not None:
            batch = self._next_batch(self._queue, link)
            if batch.connections and not self._give(link, batch):
                return
        if self._newest and all(link.room == 0 for link in self._newest):
            while self._queue:
                self._keep(self._queue.popitem(last=False)[1], "no room in the successor")
            while self._members:
                self._keep(self._members.pop(), "no room in the successor")
        if not self.is_busy:
            for link in self._newest:
                if link.departure is not None:
                    link.departure.rest()
                link.tell({"idle": True})
            self._on_idle()

    def _free_link(self) -> Link | None:
        # The link with the fewest unanswered batches.
        free = [
            link for link in self._newest if link.room_left > 0 and len(link.unanswered) < WINDOW
        ]
        return min(free, key=lambda link: len(link.unanswered), default=None)

    def _next_batch(self, queue: OrderedDict[int, Connection], link: Link) -> Batch:
        batch = Batch()
        most = min(BATCH, link.room or 0)
        while queue and len(batch.connections) < most and batch.size < BATCH_BYTES:
            _, connection = queue.popitem(last=False)
            if not self._may_go(connection):
                continue  # something has happened to it while it waited
            if connection.membership is not None and not self._members.is_marked(link, connection):
                self._members.add(connection)  # it has joined something meanwhile
                self._schedule()
                continue
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
            self._try_again()
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
            self._enqueue(connection)

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
            self._members.mark_common(link)
        else:
            batch = link.unanswered.popleft()
            batch.refused = dict(message["refused"])
            link.answered.append(batch)
            self._parting.part(link)
            self._close_if_done(link)
        self._schedule()

    def _on_refused(self, connection: Connection, why: str) -> None:
        self._stay(connection)
        self._keep(connection, *why.split(": ", 1))

    def _close_if_done(self, link: Link) -> None:
        # Let go of a receiver that has got a successor itself: it waits for us.
        if link in self._links and link not in self._newest and not link.is_busy:
            self._links.remove(link)
            link.close()

    def _drop(self, link: Link) -> None:
        # The receiver is gone. What it has not answered it has not touched.
        self._links.remove(link)
        self._newest = [each for each in self._newest if each is not link]
        link.close()
        self._members.take_back(link)
        for batch in (*link.unanswered, *link.answered):
            if batch.owed is None:
                batch.is_parting = False
                self._take_back(batch)
            else:  # it had them
                os.close(batch.memory)
        link.unanswered.clear()
        link.answered.clear()
        if not self._newest:  # serve on until there is another one
            self._queue.clear()
            self._members.clear()
            for connection in self._service.registry.connections.values():
                if isinstance(connection, Connection):
                    connection.read_on()

    def close(self) -> None:
        for link in self._links:
            self._parting.end(link)
            link.close()
        self._links.clear()
        self._newest.clear()
        self._retry.stop()
        self._retry.close()
