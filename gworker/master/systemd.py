"""The service manager: what it passes to a service, and what the service reports: sd_notify(3),
sd_watchdog_enabled(3), sd_listen_fds(3).

    NOTIFY_SOCKET                             the address for reports
    WATCHDOG_USEC, WATCHDOG_PID               within which time it expects a sign of life
    LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES    the sockets that it has bound (socket_activation.py)

`take` reads them once, before the arbiter forks anything, and removes them from the environment:
they are meant for this process, and what user code starts must not speak in its name. `Supervision`
looks at the instance turn by turn and reports changes. The arbiter never waits for the
manager, and never fails because of it.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field

from gworker.master import health
from gworker.master.instance_view import InstanceState, InstanceView
from gworker.master.slots import Role
from gworker.master.socket_activation import Activated, inherited
from gworker.master.watchdog import BEAT_SECONDS

log = logging.getLogger("gworker")

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

MAX_STATUS = 400  # characters of a status text: it is one line of `systemctl status`

# Messages kept for a manager that does not read at the moment; of more, the oldest are dropped.
MAX_WAITING = 16

# sendmsg(2): the manager's queue is full; try again.
FULL = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})

# Until the next check of an instance that was not healthy.
RETRY_SECONDS = 1.0

INFINITY = float("inf")

# Seconds that are asked for beyond the arbiter's own deadlines, which come first.
EXTENSION_MARGIN = 10.0


@dataclass(frozen=True, slots=True)
class Invocation:
    """The service manager of this process, from the environment."""

    # The address for reports: a path, or `@name` for the abstract namespace (unix(7)); "": there
    # are none.
    notify: str = ""
    # Seconds within which the manager expects a sign of life.
    watchdog: float | None = None
    sockets: Activated = field(default_factory=Activated)
    # Faults in the variables that do not prevent a start: to be logged once there is a log.
    complaints: tuple[str, ...] = ()

    def environment(self, pid: int) -> dict[str, str]:
        """The same as environment variables for process `pid`."""
        told = {
            "NOTIFY_SOCKET": self.notify,
            "WATCHDOG_USEC": str(int(self.watchdog * 1e6)) if self.watchdog is not None else "",
            **self.sockets.environment(pid),
        }
        return {name: value for name, value in told.items() if value}


def take(environment: MutableMapping[str, str], pid: int) -> Invocation:
    """Read the variables that are meant for process `pid`, and remove them all.

    Raises ConfigError for sockets that are announced in a way that cannot be understood.
    """
    notify, period, meant = [environment.pop(name, "") for name in VARIABLES]
    complaints: list[str] = []
    sockets = Activated(inherited(environment, pid, complaints))
    if notify and not (notify.startswith(("/", "@")) and notify != "@"):
        complaints.append(
            f"NOTIFY_SOCKET={notify!r} is neither a path nor an abstract name (@…): no state is "
            "reported"
        )
        notify = ""
    watchdog = _watchdog(period, complaints) if meant in ("", str(pid)) else None
    return Invocation(notify, watchdog, sockets, tuple(complaints))


def _watchdog(text: str, complaints: list[str]) -> float | None:
    if not text:
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

    def __init__(self, address: str) -> None:
        self._address = address.replace("@", "\0", 1) if address.startswith("@") else address
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)

    def send(self, **fields: str | int) -> None:
        """Send `fields`, one NAME=value per line. What cannot be sent now waits for `flush`."""
        if not self._address:
            return
        text = "\n".join(f"{name}={_one_line(str(value))}" for name, value in fields.items())
        self._waiting.append(text.encode(errors="backslashreplace"))
        self.flush()

    def flush(self) -> None:
        while self._waiting:
            try:
                _send(self._waiting[0], self._address)
            except OSError as error:
                if error.errno in FULL:
                    return
                log.debug("cannot notify the service manager: %s", error.strerror or error)
            self._waiting.popleft()

    def forget_watchdog(self) -> None:
        """Drop the signs of life that wait: an old one proves nothing."""
        fresh = [message for message in self._waiting if message != b"WATCHDOG=1"]
        self._waiting = deque(fresh, maxlen=MAX_WAITING)


def _send(message: bytes, address: str) -> None:
    # A socket for each: states are rare, and one that is kept would have to be closed in every
    # child.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(message, socket.MSG_DONTWAIT, address)


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_STATUS else text[: MAX_STATUS - 2] + " …"


class Supervision:
    """Reports the state of the instance to the service manager. view: makes a fresh view."""

    def __init__(self, invocation: Invocation, view: Callable[[], InstanceView]) -> None:
        self._view = view
        self._is_supervised = bool(invocation.notify)
        self._notifier = Notifier(invocation.notify)
        self._interval = invocation.watchdog or INFINITY
        has_watchdog = self._is_supervised and self._interval < INFINITY
        self._next_sign = 0.0 if has_watchdog else INFINITY  # when it is due (monotonic)
        self._served: set[str] = set()  # the Workers that have been seen serving
        self._status = ""  # the last status text
        self._extended = 0.0  # until when (monotonic) the manager was asked to wait
        self._main_pid = {"MAINPID": os.getpid()}  # until it is told
        self._fault: str | None = None  # of the last look; it is logged once

    def entered(self, state: InstanceState) -> None:
        """The instance has entered `state`: report at once those that the manager knows.

        RELOADING=1 carries when that was (MONOTONIC_USEC), by which systemd knows which of its
        reloads is meant, and READY=1 ends every reload, also one that was refused:
        `Type=notify-reload` waits for both.
        """
        view = self._view()
        fields = {
            InstanceState.RELOADING: {"RELOADING": 1, "MONOTONIC_USEC": int(view.now * 1e6)},
            InstanceState.RUNNING: {"READY": 1, **self._main_pid},
            InstanceState.STOPPING: {"STOPPING": 1},
        }
        if state in fields:
            self._status = status_line(view)
            self._notifier.send(**fields[state], STATUS=self._status)
        if state is InstanceState.RUNNING:
            self._main_pid = {}

    def tick(self, now: float) -> None:
        """Report what has changed since the last turn, and give a sign of life when it is due."""
        if not self._is_supervised:
            return
        view = self._view()
        self._notifier.flush()
        status = status_line(view)
        if status != self._status:
            self._status = status
            self._notifier.send(STATUS=status)
        if view.state is not InstanceState.RUNNING:
            self._ask_for_time(view)
        if now >= self._next_sign:
            self._give_sign(view)

    def next_deadline(self) -> float:
        """When the next sign of life is due (monotonic); infinity without a watchdog."""
        return self._next_sign

    def _give_sign(self, view: InstanceView) -> None:
        fault = self.fault(view)
        if fault is None:
            self._notifier.forget_watchdog()
            self._notifier.send(WATCHDOG=1)
        elif fault != self._fault:
            log.error("the service manager gets no sign of life: %s", fault)
        self._fault = fault
        wait = self._interval / 2 if fault is None else min(RETRY_SECONDS, self._interval / 8)
        self._next_sign = view.now + wait

    def fault(self, view: InstanceView) -> str | None:
        """Why the service manager should not let the instance live; None if it should.

        It should if every Worker has at least one process that serves and whose event loop has
        turned within `--timeout` (with 0: within the watchdog's interval). While the instance
        starts or stops, the arbiter's own deadlines hold; so they do for Workers that a reload has
        only just declared, until it is over.
        """
        if view.is_stopping or view.state is InstanceState.STARTING:
            return None
        limit = view.fleet.settings.timeout or self._interval
        self._served |= {each.worker for each in view.ready()}
        self._served &= view.fleet.plan.counts.keys()
        names = view.fleet.plan.counts if view.state is InstanceState.RUNNING else self._served
        faults = (health.fault(view, name, limit + BEAT_SECONDS, limit) for name in names)
        return next(filter(None, faults), None)

    def _ask_for_time(self, view: InstanceView) -> None:
        # A start, a reload and a stop may take until the arbiter's own deadlines, not the
        # manager's.
        until = max((each.deadline or 0.0 for each in view.processes), default=0.0)
        if until > self._extended + 1.0:
            self._extended = until
            seconds = until - view.now + EXTENSION_MARGIN
            self._notifier.send(EXTEND_TIMEOUT_USEC=int(seconds * 1e6))


def status_line(view: InstanceView) -> str:
    if view.is_stopping:
        left = [each for each in view.counted() if each.role is not Role.PROBE]
        return f"stopping, {_processes(len(left))} left"
    if view.state is InstanceState.STARTING:
        return "starting" if view.is_rolling_out else "waiting for a change"
    wanted, ready = sum(view.fleet.plan.counts.values()), len(view.ready())
    text = _processes(wanted) if ready >= wanted else f"{ready} of {_processes(wanted)}"
    text += f", generation {view.fleet.generation}"
    if view.state is InstanceState.RELOADING:
        return f"reloading; {text}"
    if error := view.last_reload["error"]:
        text += f"; reload refused: {error}"
    return text


def _processes(count: int) -> str:
    return f"{count} process{'' if count == 1 else 'es'}"
