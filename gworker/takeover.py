"""Taking over the live connections of a process that retires: the other half of `handover`."""

from __future__ import annotations

import _socket
import contextlib
import logging
import mmap
import os
import pickle
from typing import Any

from gworker.link import MAX_REASON, Link
from gworker.protocols.base import Protocol
from gworker.recording import arriving_kind
from gworker.scoreboard import Column
from gworker.service import Service

log = logging.getLogger("gworker")


class Taker:
    """The connections that come from one predecessor. `expected`: how many they may be."""

    def __init__(self, service: Service, descriptor: int, expected: int, room: int) -> None:
        self._service = service
        self._expected = min(expected, room)
        service.expected += self._expected
        self._link = Link(service.loop, descriptor, self._on_batch)
        service.takers.add(self)
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
        refused = [[index, why] for index, why in enumerate(arrived) if isinstance(why, str)]
        with contextlib.suppress(OSError):  # the giver is dead, or at its deadline: they are ours all the same
            link.send({"refused": refused}, [])
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
        self._service.takers.discard(self)
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
