"""Taking over the live connections of a process that retires: the other half of `handover`."""

from __future__ import annotations

import _socket
import contextlib
import logging
import mmap
import os
import pickle
from typing import Any

from gworker.connection import Connection
from gworker.link import MAX_REASON, VERSION, Link
from gworker.protocols.base import Protocol
from gworker.recording import arriving_kind
from gworker.scoreboard import Column
from gworker.service import Service

log = logging.getLogger("gworker")


class Taker:
    """The connections that come from one predecessor. `expected`: how many they may be."""

    def __init__(self, service: Service, descriptor: int, expected: int) -> None:
        self._service = service
        room = max(0, service.room)
        self._expected = min(expected, room)
        service.expected += self._expected
        self._link = Link(service.loop, descriptor, self._on_message)
        service.takers.add(self)
        try:
            self._link.send({"room": room}, [])
        except OSError:
            self._finish()

    def _on_message(self, link: Link) -> None:
        try:
            message, descriptors = link.receive()
        except BlockingIOError:
            return
        if message is None:
            self._finish()
        elif "sizes" in message:
            self._take(message["sizes"], message["version"], descriptors)
        elif "late" in message:
            for number, name, *arguments in message["late"]:
                self._catch_up(number, name, arguments)
        else:
            self._expect_less(self._expected)  # whoever is still to come has to find room
            self._service.tell_closed()

    # ---- a batch

    def _take(self, sizes: list[int], version: int, descriptors: list[int]) -> None:
        """Make connections of one batch, answer, and only then touch their sockets."""
        made = self._make(sizes, version, descriptors)
        refused = [[index, why] for index, why in enumerate(made) if isinstance(why, str)]
        with contextlib.suppress(OSError):  # the giver is dead, or at its deadline: they are ours all the same
            self._link.send({"refused": refused}, [])
        self._expect_less(len(made))
        for connection in made:
            if not isinstance(connection, str):
                self._guarded(connection, connection.arrive)
        if refused:
            self._service.tell_closed()

    def _make(self, sizes: list[int], version: int, descriptors: list[int]) -> list[Connection | str]:
        sockets = [_socket.socket(fileno=each) for each in descriptors[1:]]
        made: list[Connection | str] = []
        if descriptors:
            with mmap.mmap(descriptors[0], 0, prot=mmap.PROT_READ) as packed:
                os.close(descriptors[0])
                position = 0
                for size, socket in zip(sizes, sockets, strict=False):
                    made.append(self._made(packed[position : position + size], version, socket))
                    position += size
        # The kernel drops descriptors for which a process has no room (recvmsg(2), MSG_CTRUNC).
        return made + ["the successor is out of descriptors"] * (len(sizes) - len(made))

    def _made(self, packed: bytes, version: int, socket: _socket.socket) -> Connection | str:
        """A connection that is not read yet, or why there can be none."""
        connection = None
        try:
            if version != VERSION:
                return f"it was packed by another version ({version})"
            if self._service.room + self._service.expected <= 0:
                return "the successor has no room for it"
            state: dict[str, Any] = pickle.loads(packed)
            if state["id"] in self._service.connections:
                return f"its id {state['id']} is in use in the successor"
            protocol: Protocol = state["protocol"]
            socket.setblocking(False)
            kind = arriving_kind(self._service, protocol)
            connection = kind(self._service, socket, state["remote"], lambda _: protocol, state["id"])
            connection.unpack(state)
            return connection
        except Exception as error:  # its class is gone from the new code, say
            if connection is not None:
                connection.leave()
                connection.left()
            return f"cannot be unpacked: {type(error).__name__}: {error}"[:MAX_REASON]
        finally:
            if connection is None:
                socket.close()

    def _guarded(self, connection: Connection, step: Any, *arguments: Any) -> None:
        """What goes wrong with one connection must not keep us from the others."""
        try:
            step(*arguments)
        except Exception:
            connection.destroy()
            self._service.row[Column.EXCEPTIONS] += 1
            log.exception("%r: cannot go on with it", connection)

    def _catch_up(self, number: int, name: str, arguments: list[Any]) -> None:
        """Do what was asked of a connection, in the process that it was leaving, while it moved."""
        connection = self._service.connections.get(number)
        if connection is not None:
            self._guarded(connection, connection.catch_up, name, *arguments)

    # ---- room

    def _expect_less(self, count: int) -> None:
        count = min(count, self._expected)
        self._expected -= count
        self._service.expected -= count

    def _finish(self) -> None:
        self._expect_less(self._expected)
        self._link.close()
        self._service.takers.discard(self)
        self._service.tell_closed()
