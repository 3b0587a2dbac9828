"""Taking over the live connections of a process that retires: the other half of `handover`."""

from __future__ import annotations

import _socket
import logging
import mmap
import os
import pickle
from collections import deque
from typing import TYPE_CHECKING

from gworker.connection.connection import Connection
from gworker.connection.context import ServerContext
from gworker.connection.migration import Deferred
from gworker.handover.link import MAX_REASON, VERSION, Batch, Link
from gworker.handover.state import CannotThawError, thaw
from gworker.ipc.fd_socket import Message
from gworker.system import fork_guard

if TYPE_CHECKING:
    from gworker.messages.handover.arrival import Arrival
    from gworker.messages.handover.moved import Moved

log = logging.getLogger("gworker")


class HandoverReceiver:
    """The connections that come from one predecessor. `expected`: how many they may be."""

    def __init__(self, service: ServerContext, descriptor: int, expected: int) -> None:
        self._service = service
        room = max(0, service.registry.capacity_left)
        self._expected = min(expected, room)
        service.registry.expected += self._expected
        # Ours, but their predecessor has not said yet what it owes them.
        self._arriving: deque[Batch] = deque()
        self._arrival: Arrival | None = None  # None: the sender has no messages
        self._link = Link(service.loop, descriptor, self._on_message)
        service.receivers.add(self)
        self._link.tell({"room": room})

    def _on_message(self, _: Link, message: Message | None, descriptors: list[int]) -> None:
        if message is None:
            self.let_go()
        elif "marker" in message:
            self._mark(message["marker"], descriptors[0])
        elif "sizes" in message:
            self._take(message["sizes"], message["version"], descriptors)
        elif "late" in message:
            self._arrive(self._arriving.popleft(), message["late"])
        else:
            self._expect_less(self._expected)  # connections that still come have to find room
            if self._arrival is not None:
                self._arrival.release()
            self._service.registry.notify_closed()

    # ---- messages

    def _mark(self, marker: str, memory: int) -> None:
        with open(memory, "rb") as file:
            names: list[bytes] = pickle.load(file)
        self._obtain_arrival().mark(marker, names)

    def _obtain_arrival(self) -> Arrival:
        if self._arrival is None:
            self._arrival = self._service.unstarted_messaging.handover.arrival()
            for batch in self._arriving:
                self._arrival.expect(batch.connections)
        return self._arrival

    def _adopt(self, connections: list[Connection], moved: Moved | None) -> None:
        # They are members here, of what they were. moved: None if the sender has not said that.
        if moved is None:
            packed = {
                each.id: each.migration.belongings
                for each in connections
                if each.migration is not None and each.migration.belongings is not None
            }
            if packed:
                self._obtain_arrival().adopt_from_dead(connections, packed)
        elif moved.belongings or self._arrival is not None:
            self._obtain_arrival().adopt(connections, moved)

    # ---- a batch

    def _take(self, sizes: list[int], version: int, descriptors: list[int]) -> None:
        # Make connections of one batch and answer. Their sockets are not touched before the sender
        # has.
        made = self._make(sizes, version, descriptors)
        refused = [[index, why] for index, why in enumerate(made) if isinstance(why, str)]
        ours = [each for each in made if not isinstance(each, str)]
        if ours:
            self._arriving.append(Batch(ours, size=sum(sizes), memory=descriptors[0]))
            if self._arrival is not None:
                self._arrival.expect(ours)
        elif descriptors:
            os.close(descriptors[0])
        # If the sender is dead, or at its deadline, they are ours all the same.
        self._link.tell({"refused": refused})
        self._expect_less(len(made))
        if refused:
            self._service.registry.notify_closed()

    def _make(
        self, sizes: list[int], version: int, descriptors: list[int]
    ) -> list[Connection | str]:
        sockets = [_socket.socket(fileno=each) for each in descriptors[1:]]
        made: list[Connection | str] = []
        if descriptors:
            with mmap.mmap(descriptors[0], 0, prot=mmap.PROT_READ) as packed:
                position = 0
                for size, socket in zip(sizes, sockets, strict=False):
                    made.append(self._made(packed[position : position + size], version, socket))
                    position += size
        # The kernel drops descriptors for which a process has no room (recvmsg(2), MSG_CTRUNC).
        return made + ["no descriptors left in the successor"] * (len(sizes) - len(made))

    def _made(self, packed: bytes, version: int, socket: _socket.socket) -> Connection | str:
        # A connection that is not read yet, or why there can be none.
        try:
            self._check_room(version)
            return thaw(self._service, socket, packed)
        except CannotThawError as refusal:
            why = str(refusal)
        except BaseException as error:  # its class is gone from the new code, say
            fork_guard.end(error)
            why = f"not unpacked by the successor: {type(error).__name__}: {error}"[:MAX_REASON]
        socket.close()
        return why

    def _check_room(self, version: int) -> None:
        # Raise CannotThawError if no connection is taken at all.
        registry = self._service.registry
        if version != VERSION:
            raise CannotThawError(f"another version of gworker: {version}")
        if registry.capacity_left + registry.expected <= 0:
            raise CannotThawError("no room in the successor")

    def _arrive(self, batch: Batch, size: int) -> None:
        # Go on with them. size: bytes of what is owed to them.
        deferred: dict[int, list[Deferred]] = {}
        moved: Moved | None = None
        with open(batch.memory, "rb") as file:
            file.seek(batch.size)
            calls: list[bytes] = []
            if size:
                calls, moved = pickle.load(file)
            for packed in calls:
                try:
                    one: Deferred = pickle.loads(packed)
                    deferred.setdefault(one[0], []).append(one)
                except BaseException:  # a message whose class the new code does not have, say
                    self._service.report_exception(
                        "a message that was sent to a connection on its way is lost"
                    )
        try:
            self._adopt(batch.connections, moved)
        except BaseException:
            self._service.report_exception("connections have lost what they were members of")
        activate = self._service.isolate_errors(Connection.activate, "cannot go on with it")
        for connection in batch.connections:
            activate(connection, deferred.get(connection.id, []))

    # ---- room

    def _expect_less(self, count: int) -> None:
        count = min(count, self._expected)
        self._expected -= count
        self._service.registry.expected -= count

    def let_go(self) -> None:
        """The sender has ended, or user code has forked this process, whose parent goes on.

        Of connections for which the sender did not say what it owes them, nothing is owed.
        """
        self._expect_less(self._expected)
        while self._arriving:
            self._arrive(self._arriving.popleft(), 0)
        if self._arrival is not None:
            self._arrival.release()
        self._link.close()
        self._service.receivers.discard(self)
        self._service.registry.notify_closed()
