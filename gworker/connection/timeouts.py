"""The time that peers have, behind one door: for a handshake, a header, a body, to take what is
sent, to close, to ask again, to answer a ping.

A connection says what its peer owes (`expect`, `sending`, `closing`). When the time is up, its
`deadline_passed`, `close_timed_out` or `expire` is called, or it is closed. What a peer has used
of its time moves with it to another process (`save`, `restore`).
"""

from __future__ import annotations

import logging
from operator import attrgetter, methodcaller
from typing import Any, Literal

from gworker.app.limits import Limits
from gworker.connection.deadlines import Deadlines
from gworker.connection.idle_timeout import IdleTimeout
from gworker.connection.min_rate import MinRate
from gworker.connection.ping import PingTimer
from gworker.connection.registry import Isolate, Member, Registered, Registry
from gworker.system.event_loop import Loop

log = logging.getLogger("gworker")

# Nothing of a body that is to be read whole has come for so long. Where the handler may have it as
# it comes, it gets it then (`Protocol.streams_stalled`).
STALL_SECONDS = 1.0

Owed = Literal["", "handshake", "header", "body"]  # what a peer owes: `Protocol.waiting_for`


class Timeouts:
    """The timeouts of one process. isolate: see `ServerContext.isolate_errors`."""

    def __init__(
        self,
        loop: Loop,
        limits: Limits,
        registry: Registry,
        isolate: Isolate,
    ) -> None:
        self._limits = limits
        self._seconds = {"handshake": limits.handshake_timeout, "header": limits.header_timeout}
        late = isolate(methodcaller("deadline_passed"))
        self.deadlines = Deadlines(loop, late)
        # The peers that owe a handshake or a header: empty most of the time.
        self.pending = self.deadlines.due
        self.close_deadlines = Deadlines(loop, isolate(methodcaller("close_timed_out")))
        self.body_rate = MinRate(
            loop, limits.header_timeout, limits.min_rate, isolate(attrgetter("body_progress")), late
        )
        self.stalls = MinRate(
            loop, STALL_SECONDS, 0, isolate(attrgetter("body_progress")),
            isolate(methodcaller("body_stalled")),
        )  # fmt: skip
        self.send_rate = MinRate(
            loop, limits.send_timeout, limits.min_rate, attrgetter("taken"), _takes_too_little
        )
        self.idle = IdleTimeout(loop, limits, registry.connections, isolate)
        self.pings = PingTimer(loop, limits, registry.all, isolate)
        # What moves with a connection, by its name in what is saved.
        self._kept: dict[str, Deadlines | MinRate | IdleTimeout] = {
            "deadline": self.deadlines,
            "sending": self.send_rate,
            "body": self.body_rate,
            "idle": self.idle,
        }

    def start(self) -> None:
        self.pings.start()

    def stop(self) -> None:
        """In a process that user code has forked: look at nothing."""
        for each in (*self._kept.values(), self.stalls, self.close_deadlines, self.pings):
            each.stop()

    def expect(self, peer: object, owed: Owed) -> None:
        """`peer` owes this from now on, or still; "" ends the deadline."""
        if not owed:
            self.deadlines.forget(peer)
        elif owed == "body":
            self.deadlines.forget(peer)
            self.body_rate.watch(peer)
        else:
            self.deadlines.set(peer, self._seconds[owed])

    def may_stall(self, peer: object) -> None:
        """Call `body_stalled` of `peer` when its body has not moved for STALL_SECONDS."""
        self.stalls.watch(peer)

    def restart(self, peer: object, owed: Owed) -> None:
        """Give a peer that is under a deadline all of its time again."""
        if peer in self.pending:
            self.deadlines.forget(peer)
            self.expect(peer, owed)

    def sending(self, connection: object) -> None:
        """Something waits for its peer, which has to take it at the minimum rate."""
        self.send_rate.watch(connection)

    def sent(self, connection: object) -> None:
        """Nothing waits here for its peer any more."""
        self.send_rate.forget(connection)

    def closing(self, connection: object, anew: bool = False) -> None:
        """It is to be closed within `close_timeout`; with `anew`, from now on again."""
        if anew:
            self.close_deadlines.forget(connection)
        self.close_deadlines.set(connection, self._limits.close_timeout)

    def not_closing(self, connection: object) -> None:
        """What was to be sent before it closes is sent."""
        self.close_deadlines.forget(connection)

    def forget(self, connection: Registered) -> None:
        for each in self._kept.values():
            each.forget(connection)
        self.stalls.forget(connection)
        self.close_deadlines.forget(connection)

    def save(self, connection: Member) -> dict[str, Any]:
        """What its peer has used of its time, as plain values."""
        found = {name: each.save(connection) for name, each in self._kept.items()}
        return {name: saved for name, saved in found.items() if saved is not None}

    def restore(self, connection: Member, saved: dict[str, Any]) -> None:
        for name, each in self._kept.items():
            if name in saved:
                each.restore(connection, saved[name])


def _takes_too_little(connection: Member) -> None:
    waiting = connection.unacknowledged
    connection.reset()
    log.info("%r: it takes too little of what waits for it (%d bytes)", connection, waiting)
