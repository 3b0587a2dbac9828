"""Which process takes over the connections of a process that retires, which of them cannot move,
and what became of all.

The arbiter makes a SOCK_SEQPACKET pair for each sender and receiver, sends one end to each, and
keeps none; it never sees a connection. It reads in the scoreboard how many were handed over.
"""

from __future__ import annotations

import _socket
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict

from gworker.config.settings import Settings
from gworker.ipc.assignment import REMOVED, REMOVED_WITH_LISTENER, STOP, Why
from gworker.ipc.channel import MAX_DESCRIPTORS
from gworker.ipc.declaration import Declaration
from gworker.ipc.scoreboard import Column
from gworker.master.plan import Plan
from gworker.master.slots import Process, Slot, State
from gworker.master.watchdog import BUSY_SECONDS

log = logging.getLogger("gworker")


def compatibility(declared: Declaration, settings: Settings) -> str:
    """A text that is the same for the processes of a Worker that understand and trust each other:
    what one has pickled, the other may unpickle. "": none of its connections moves."""
    if declared.migration_obstacle:
        return ""
    user, group = declared.user or settings.user, declared.group or settings.group
    return f"{declared.speaks} as {user or ''}:{group or ''}"


def can_receive(sender: Process, receiver: Process) -> bool:
    """True if `receiver` understands the connections of `sender`, and may trust what it sends."""
    return (
        bool(sender.compatibility)
        and receiver.worker == sender.worker
        and receiver.compatibility == sender.compatibility
    )


def obstacle(sender: Process, declared: Declaration | None, settings: Settings) -> str:
    """Why no process of the Worker of `sender`, as it is declared now, can take over from it; "" if
    one can."""
    if declared is None:
        return "the Worker is gone"
    if declared.migration_obstacle:
        return declared.migration_obstacle
    if sender.compatibility and sender.compatibility != compatibility(declared, settings):
        return "the new code speaks another protocol, or runs as another user"
    return ""


def candidates(sender: Process, staying: Iterable[Process]) -> list[Process]:
    """The processes of `staying` that can take over from one whose slot goes: the emptiest
    first."""
    receivers = [
        each
        for each in staying
        if each is not sender and each.state is State.READY and can_receive(sender, each)
    ]
    return sorted(receivers, key=lambda each: each.row[Column.CONNECTIONS])


def removal(declared: Declaration | None) -> Why:
    """Why the process of a slot that goes retires. declared: its Worker now; None: it has none.

    The last process that serves a listener has to take what still waits in its queue.
    """
    if declared is None:
        return STOP
    return REMOVED_WITH_LISTENER if declared.reuse_port else REMOVED


def retire(sender: Process, why: Why, seconds: float, successors: Sequence[Process]) -> None:
    """Tell `sender` to end within `seconds`, and to hand its connections over to `successors`."""
    receivers = [each for each in successors if can_receive(sender, each)]
    message = {"do": "retire", **asdict(why), "seconds": seconds, "handover": bool(receivers)}
    _send(sender, message, receivers)


def link(sender: Process, receiver: Process) -> None:
    """Tell `sender`, which retires already, that from now on `receiver` is its successor."""
    if can_receive(sender, receiver):
        # Without a descriptor the message tells the sender nothing.
        _send(sender, {"do": "handover"}, [receiver])


def _send(sender: Process, message: Mapping[str, object], receivers: Sequence[Process]) -> None:
    pairs = []
    try:
        for each in receivers[:MAX_DESCRIPTORS]:
            pairs.append((each, *_socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)))
    except OSError as error:
        label, pid, reason = sender.label, sender.pid, error.strerror
        log.error("%s (pid %d) has no process to hand over to: %s", label, pid, reason)
    try:
        sender.channel.send(message, [ours.fileno() for _, ours, _ in pairs])
        for receiver, _, theirs in pairs:
            expected = sender.row[Column.CONNECTIONS] // len(pairs)
            receiver.channel.send({"do": "takeover", "expected": expected}, [theirs.fileno()])
    finally:
        for _, *ends in pairs:
            for end in ends:
                end.close()


class HandoverStats:
    """What became of the connections of the processes that a reload has retired.

    is_counting: the reload goes on; processes that retire later do not belong to it.
    """

    def __init__(self, is_counting: bool = False) -> None:
        self.is_counting = is_counting
        self._retiring: list[Process] = []
        # Those that have not told yet that all connections that can move at once have moved.
        self._handing_over: set[Process] = set()
        self._gone: list[tuple[int, int]] = []  # `_counts` of those that are dead

    def add(self, process: Process) -> None:
        if self.is_counting:
            self._retiring.append(process)
            self._handing_over.add(process)

    def mark_moved(self, process: Process) -> None:
        """All connections of `process` that could move at once have moved."""
        self._handing_over.discard(process)

    def remove(self, process: Process) -> None:
        """`process` is dead; its row can be read for the last time."""
        self._handing_over.discard(process)
        if process in self._retiring:
            self._retiring.remove(process)
            self._gone.append(_counts(process))

    def __contains__(self, process: Process) -> bool:
        """True if the reload has retired `process`, which still lives."""
        return process in self._retiring

    def is_handing_over(self, now: float) -> bool:
        """True while connections of the reload move that could move at once.

        A process whose event loop does not turn is not waited for: it may never turn again.
        """
        return any(each.beat_age(now) < BUSY_SECONDS for each in self._handing_over)

    def counts(self) -> tuple[int, int]:
        """(connections handed over, connections closed politely)."""
        rows = [*self._gone, *map(_counts, self._retiring)]
        return sum(handed_over for handed_over, _ in rows), sum(closed for _, closed in rows)


def _counts(process: Process) -> tuple[int, int]:
    return process.row[Column.HANDED_OVER], process.row[Column.TURNED_AWAY]


class Survey:
    """Which connections a reload cannot move, asked of the processes before the first retires.

    A process answers by itself, in its own time: the reload does not wait for it. What has been
    answered when all have, or when the first process retires, is reported as one sum for each
    reason; what comes later is reported at once.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._awaited: set[int] = set()  # the pids whose answers the sums wait for
        # By reason: how many connections of which Worker.
        self._found: dict[str, Counter[str]] = {}
        self._known: set[tuple[str, str]] = set()  # (Worker, reason) of all that was found
        self._whole: set[str] = set()  # the Workers of which no connection can move

    def begin(self, slots: Iterable[Slot], plan: Plan, settings: Settings) -> None:
        """Ask the processes that `plan` replaces, but for those that cannot hand over at all."""
        for slot in slots:
            process, declared = slot.current, plan.declarations.get(slot.worker)
            is_kept = declared is not None and not declared.reloadable
            if process is None or process.state is not State.READY or is_kept:
                continue
            if why := obstacle(process, declared, settings):
                self._whole.add(process.worker)
                self._count(process.worker, {why: process.row[Column.CONNECTIONS]})
            else:
                self._awaited.add(process.pid)
                process.channel.send({"do": "survey"})
        if not self._awaited:
            self.announce()

    def _count(self, worker: str, reasons: Mapping[str, int]) -> None:
        for reason, count in reasons.items():
            if count:
                self._found.setdefault(reason, Counter())[worker] += count
                self._known.add((worker, reason))

    def answered(self, process: Process, reasons: Mapping[str, int]) -> None:
        self._count(process.worker, reasons)
        self._awaited.discard(process.pid)
        if not self._awaited:
            self.announce()

    def found_later(self, process: Process, reasons: Mapping[str, int]) -> None:
        """A process found out only during the handover why connections stay."""
        for reason, count in reasons.items():
            if process.worker not in self._whole and (process.worker, reason) not in self._known:
                self._tell(f"{sentence(count, reason)} ({process.label})")

    def announce(self) -> None:
        """Report what was found; wait for no more answers."""
        found, self._found = self._found, {}
        self._awaited.clear()
        for reason, counts in found.items():
            self._tell(f"{sentence(counts.total(), reason)} ({', '.join(sorted(counts))})")


def sentence(count: int, reason: str) -> str:
    """`300 connections cannot move: TLS`."""
    return f"{count} connection{'' if count == 1 else 's'} cannot move: {reason}"
