"""What a service manager tells a service, and what it is told: sd_notify(3),
sd_watchdog_enabled(3), sd_listen_fds(3).

    NOTIFY_SOCKET                             where states are told
    WATCHDOG_USEC, WATCHDOG_PID               how often it wants to hear that all is well
    LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES    the sockets that it has bound (activation.py)

`take` reads them once, before the arbiter forks anything, and removes them from the environment:
they are meant for this process, and what user code starts must not speak in its name. `Supervision`
watches the arbiter turn by turn and tells what has changed. No library; whatever the manager does,
or does not read, the arbiter never waits for it and never fails because of it.
"""

from __future__ import annotations

import _socket
import errno
import logging
import os
import time
from collections import deque
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gworker.master.health import fault
from gworker.master.slots import Role, State
from gworker.master.socket_activation import Activated, inherited
from gworker.master.watchdog import BEAT_SECONDS

if TYPE_CHECKING:
    from gworker.arbiter import Arbiter
    from gworker.master.slots import Process

log = logging.getLogger("gworker")

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

MAX_STATUS = 400
"""Characters of a status text: it is one line of `systemctl status`."""

MAX_WAITING = 16
"""Messages kept for a manager that does not read at the moment; of more, the oldest are dropped."""

FULL = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
"""sendmsg(2): the manager's queue is full; try again."""

RETRY_SECONDS = 1.0
"""How long after a look that found the instance ill, or a queue that was full, it looks again at
the latest."""

EXTENSION_MARGIN = 10.0
"""Seconds that are asked for beyond the arbiter's own deadlines, which come first."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """How this process was invoked: what the environment said about its service manager."""

    notify: str | bytes | None = None
    """The address to send states to; None: nobody wants to know."""
    watchdog: float | None = None
    """Seconds within which the manager wants to hear that all is well."""
    sockets: Activated = field(default_factory=Activated)
    complaints: tuple[str, ...] = ()
    """What was wrong and can be lived without, to be logged once there is a log."""

    def environment(self, pid: int) -> dict[str, str]:
        """The variables that tell process `pid` the same once more."""
        told = {}
        if self.notify is not None:
            told["NOTIFY_SOCKET"] = (
                self.notify if isinstance(self.notify, str) else "@" + os.fsdecode(self.notify[1:])
            )
        if self.watchdog is not None:
            told["WATCHDOG_USEC"] = str(int(self.watchdog * 1e6))
        return told | self.sockets.environment(pid)


def take(environment: MutableMapping[str, str], pid: int) -> Invocation:
    """Read the variables that are meant for process `pid`, and remove them all.

    Raises ConfigError for sockets that are announced in a way that cannot be understood.
    """
    complaints: list[str] = []
    try:
        sockets = Activated(inherited(environment, pid, complaints))
        notify = _address(environment.get("NOTIFY_SOCKET"), complaints)
        watchdog = _watchdog(environment, pid, complaints)
    finally:
        for name in VARIABLES:
            environment.pop(name, None)
    return Invocation(notify, watchdog, sockets, tuple(complaints))


def _address(text: str | None, complaints: list[str]) -> str | bytes | None:
    """A path, or `@name` for the abstract namespace (unix(7)), where a zero byte stands for the
    @."""
    if not text:
        return None
    if text.startswith("/"):
        return text
    if text.startswith("@") and len(text) > 1:
        return b"\0" + os.fsencode(text[1:])
    complaints.append(
        f"NOTIFY_SOCKET={text!r} is neither a path nor an abstract name (@…): nobody is notified"
    )
    return None


def _watchdog(
    environment: MutableMapping[str, str], pid: int, complaints: list[str]
) -> float | None:
    text, meant = environment.get("WATCHDOG_USEC"), environment.get("WATCHDOG_PID")
    if not text or (meant and meant != str(pid)):
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        complaints.append(
            f"WATCHDOG_USEC={text!r} is not a number of microseconds: there is no watchdog"
        )
        return None
    return int(text) / 1e6


class Notifier:
    """Sends states to the service manager, each in a datagram of its own. Never blocks, never
    raises."""

    def __init__(self, address: str | bytes | None) -> None:
        self._address = address
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)

    def send(self, **fields: str | int) -> None:
        """Tell `fields`, one NAME=value per line; one that cannot be sent now is sent by a later
        `flush`."""
        if self._address is None:
            return
        text = "\n".join(f"{name}={_one_line(str(value))}" for name, value in fields.items())
        self._waiting.append(text.encode(errors="backslashreplace"))
        self.flush()

    def flush(self) -> None:
        """Send what waits, in order."""
        while self._waiting and self._address is not None:
            try:
                _send(self._waiting[0], self._address)
            except OSError as error:
                if error.errno in FULL:
                    return
                log.debug("cannot notify the service manager: %s", error.strerror or error)
            self._waiting.popleft()

    def forget_watchdog(self) -> None:
        """Drop the waiting signs of life: only a fresh one says anything."""
        fresh = [message for message in self._waiting if message != b"WATCHDOG=1"]
        self._waiting = deque(fresh, maxlen=MAX_WAITING)


def _send(message: bytes, address: str | bytes) -> None:
    # A socket for each: states are rare, and one that is kept would have to be closed in every
    # child.
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    try:
        socket.setblocking(False)
        socket.sendto(message, address)
    finally:
        socket.close()


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_STATUS else text[: MAX_STATUS - 2] + " …"


class Supervision:
    """The arbiter as its service manager sees it. Implements `attendants.Attendant`."""

    def __init__(self, arbiter: Arbiter, invocation: Invocation) -> None:
        self._arbiter = arbiter
        self._is_supervised = invocation.notify is not None
        self._notifier = Notifier(invocation.notify)
        self._interval = invocation.watchdog if self._is_supervised else None
        self._next_sign = 0.0
        self._said = ""
        """The last status text."""
        self._extended = 0.0
        """Until when (monotonic) the manager was asked to be patient."""
        self._is_ready = False
        self._served: set[str] = set()
        """The Workers that have been seen serving."""
        self._failure = ""

    def entered(self, state: str) -> None:
        """The arbiter has entered `state`: one that the manager has to know of is told at once.

        RELOADING=1 carries when that was (MONOTONIC_USEC), by which systemd knows which of its
        reloads is meant, and READY=1 ends every reload, also one that was refused:
        `Type=notify-reload` waits for both.
        """
        fields: dict[str, int] = {}
        if state == "reloading":
            fields = {"RELOADING": 1, "MONOTONIC_USEC": int(time.monotonic() * 1e6)}
        elif state == "running":
            fields = {"READY": 1} if self._is_ready else {"READY": 1, "MAINPID": os.getpid()}
            self._is_ready = True
        elif state == "stopping":
            fields = {"STOPPING": 1}
        if fields:
            self._said = self._status()
            self._notifier.send(**fields, STATUS=self._said)

    def attend(self, now: float) -> None:
        """Tell what has changed since the last turn, and that all is well when it is time to."""
        if not self._is_supervised:
            return
        self._notifier.flush()
        status = self._status()
        if status != self._said:
            self._said = status
            self._notifier.send(STATUS=status)
        self._ask_for_patience(now)
        if self._interval is not None and now >= self._next_sign:
            self._give_sign(now, self._interval)

    def next_deadline(self) -> float:
        """When the next sign of life is due (monotonic); infinity without a watchdog."""
        return self._next_sign if self._interval is not None else float("inf")

    def close_in_child(self) -> None:
        """A forked process is not the one that is supervised: its variables are gone, and nothing
        is open."""

    def _give_sign(self, now: float, interval: float) -> None:
        ill = self.ill(now)
        if ill is None:
            self._notifier.forget_watchdog()
            self._notifier.send(WATCHDOG=1)
            self._failure = ""
            self._next_sign = now + interval / 2
            return
        if ill != self._failure:
            log.error("the service manager gets no sign of life: %s", ill)
            self._failure = ill
        self._next_sign = now + min(RETRY_SECONDS, interval / 8)

    def ill(self, now: float) -> str | None:
        """Why this instance is not healthy; None if it is.

        Healthy is one of which every Worker has at least one process that serves and whose event
        loop has turned within `--timeout` (with 0: within the watchdog's interval). While it starts
        or stops, the arbiter's own deadlines hold, and it is healthy as long as its loop turns; so
        it is with Workers that a reload has only just declared, until it is over.
        """
        arbiter = self._arbiter
        if arbiter.is_stopping or not self._is_ready:
            return None
        limit = arbiter.settings.timeout or self._interval or float("inf")
        names = arbiter.fleet.plan.counts
        ready = [each for each in self._processes() if each.state is State.READY]
        self._served = {
            name for name in (*self._served, *(each.worker for each in ready)) if name in names
        }
        for name in names if arbiter.state == "running" else self._served:
            if (reason := fault(arbiter.fleet, name, now, limit + BEAT_SECONDS, limit)) is not None:
                return reason
        return None

    def _processes(self) -> list[Process]:
        return [
            each
            for each in self._arbiter.fleet.children.by_pid.values()
            if each.role not in (Role.PROBE, Role.WATCHER)
        ]

    def _ask_for_patience(self, now: float) -> None:
        """Whoever starts, reloads or stops may take until the arbiter's own deadlines, not the
        manager's."""
        if self._arbiter.state == "running":
            return
        deadlines = [
            each.deadline for each in self._arbiter.fleet.children.by_pid.values() if each.deadline
        ]
        until = max(deadlines, default=0.0)
        if until > self._extended + 1.0:
            self._extended = until
            self._notifier.send(EXTEND_TIMEOUT_USEC=int((until - now + EXTENSION_MARGIN) * 1e6))

    def _status(self) -> str:
        """One line for `systemctl status`."""
        arbiter, plan = self._arbiter, self._arbiter.fleet.plan
        if arbiter.is_stopping:
            return f"stopping, {_processes(len(self._processes()))} left"
        if not self._is_ready:
            is_starting = arbiter.rollouts.current is not None or arbiter.state == "running"
            return "starting" if is_starting else "waiting for a change"
        wanted = sum(plan.counts.values())
        ready = sum(process.state is State.READY for process in self._processes())
        text = _processes(wanted) if ready >= wanted else f"{ready} of {_processes(wanted)}"
        text += f", generation {arbiter.fleet.generation}"
        if arbiter.state == "reloading":
            return f"reloading; {text}"
        if error := arbiter.rollouts.report()["error"]:
            text += f"; reload refused: {error}"
        return text


def _processes(count: int) -> str:
    return f"{count} process{'' if count == 1 else 'es'}"
