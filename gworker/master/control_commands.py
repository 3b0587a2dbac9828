"""What the commands ask of the arbiter over its control socket, and the answers."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gworker.config.report import rows
from gworker.errors import ConfigError
from gworker.master.control_connection import Call
from gworker.master.health import report as health_report
from gworker.master.instance_view import InstanceView
from gworker.master.slots import Process
from gworker.master.status import log_target
from gworker.version import __version__

log = logging.getLogger("gworker")

REPORT_SECONDS = 2.0
"""How long a process that does not turn its event loop is waited for. One that does is at work on
its list, which may take longer if it has much else to do."""

MOST_REPORT_SECONDS = 60.0

LOOK_SECONDS = 0.25
"""Between two looks at those that are waited for longer than that."""


@dataclass(eq=False)
class _Report:
    """One `connections` command that waits for the worker processes."""

    call: Call
    began: float
    look_at: float
    waiting: dict[int, Process] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)

    def give_up(self, now: float) -> None:
        """Wait no longer for those that do not turn, are dead, or take far too long."""
        self.look_at = now + LOOK_SECONDS
        is_over = now - self.began >= MOST_REPORT_SECONDS
        for process in list(self.waiting.values()):
            if is_over or process.beat_age(now) >= REPORT_SECONDS:
                del self.waiting[process.pid]
                self.missing.append(process.pid)


class ConnectionReports:
    """The `connections` commands that wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[int, _Report] = {}
        self._last = 0

    def begin(self, call: Call, processes: list[Process], limit: int | None) -> None:
        """Ask `processes` for their connections, each for `limit` at most."""
        self._last += 1
        now = self._clock()
        report = self._waiting[self._last] = _Report(call, now, now + REPORT_SECONDS)
        for process in processes:
            process.channel.send({"do": "connections", "request": self._last, "limit": limit})
            report.waiting[process.pid] = process
        self._finish_if_complete(self._last)

    def received(self, process: Process, request: int, descriptors: list[int]) -> None:
        """A process has answered with a file that holds its rows; without one, it could not make
        any. The descriptors stay the caller's."""
        report = self._waiting.get(request)
        if report is not None and process.pid in report.waiting:
            del report.waiting[process.pid]
            if descriptors:
                report.call.send({"pid": process.pid}, fds=descriptors[:1])
            else:
                report.missing.append(process.pid)
            self._finish_if_complete(request)

    def next_deadline(self) -> float:
        """When those that are waited for are to be looked at; infinity if nobody waits."""
        return min((report.look_at for report in self._waiting.values()), default=float("inf"))

    def expire(self, now: float) -> None:
        """Finish the commands that have waited long enough."""
        for request, each in list(self._waiting.items()):
            if each.look_at <= now:
                each.give_up(now)
            if each.call.gone:
                each.waiting.clear()
            self._finish_if_complete(request)

    def _finish_if_complete(self, request: int) -> None:
        report = self._waiting[request]
        if not report.waiting:
            del self._waiting[request]
            report.call.finish(0, missing=sorted(report.missing))


class InstanceApi(Protocol):
    """What a command may do to an instance. `call` is answered by whatever takes it."""

    def view(self) -> InstanceView:
        """The instance as it is now."""

    def status(self) -> dict[str, Any]:
        """As `status --json` prints it."""

    def reload(self, call: Call | None = None) -> None:
        """Begin a reload, or let one follow the rollout that goes on."""

    def upgrade(self, call: Call | None = None) -> None:
        """Replace the arbiter's own code."""

    def stop(self, quick: bool = False) -> None:
        """End the instance."""

    def scale(self, worker: str, count: int, call: Call | None = None) -> None:
        """Set the number of processes of a Worker."""

    def connections(self, call: Call, worker: str | None, limit: int | None) -> None:
        """Gather the connections, of one Worker or all, at most `limit` of each process."""


def answer(instance: InstanceApi, call: Call) -> None:
    """Carry out one request."""
    handler = ANSWERS.get(call.command)
    if handler is None:
        call.finish(1, error=f"unknown command {call.command!r}")
        return
    try:
        _check_arguments(call)
        handler(instance, call)
    except ConfigError as error:
        call.finish(1, error=str(error))
    except Exception as error:
        # A fault of ours in a command must not end the service.
        log.exception("control: %r failed", call.command)
        call.finish(1, error=f"{type(error).__name__}: {error}")


def _check_arguments(call: Call) -> None:
    """Raise ConfigError for an argument that the command does not have, or that is of another type.
    null: not given."""
    known = ARGUMENTS.get(call.command, {})
    for name, value in call.arguments.items():
        if name not in known:
            raise ConfigError(
                f"{call.command}: unknown argument {name!r}; there are {', '.join(known) or 'none'}"
            )
        kind, expected = known[name]
        if value is not None and type(value) is not kind:  # in JSON, true is no number
            raise ConfigError(f"{call.command}: {name}={value!r} is not {expected}")


def _status(instance: InstanceApi, call: Call) -> None:
    call.send({"status": instance.status(), "log": log_target(instance.view().settings)})
    call.finish(0)


def _health(instance: InstanceApi, call: Call) -> None:
    serving, faults = health_report(instance.view(), call.arguments.get("worker"))
    call.send({"health": serving})
    if faults:
        call.finish(1, error="; ".join(faults))
    else:
        call.finish(0)


def _settings(instance: InstanceApi, call: Call) -> None:
    view = instance.view()
    declared = {name: each.limits for name, each in view.plan.declarations.items()}
    found = {"rows": rows(view.settings, declared), "pending": view.settings.pending}
    call.send({"settings": found})
    call.finish(0)


def _who(instance: InstanceApi, call: Call) -> None:
    view = instance.view()
    call.send(
        {
            "who": {
                "name": view.settings.name,
                "pid": os.getpid(),
                "target": view.settings.target,
                "version": __version__,
                "generation": view.generation,
                "workers": len(view.counted()),
                "uptime": round(view.now - view.started, 1),
            }
        }
    )
    call.finish(0)


def _reload(instance: InstanceApi, call: Call) -> None:
    if call.arguments.get("wait") is not False:
        instance.reload(call)
    else:
        instance.reload()
        call.finish(0)


def _upgrade(instance: InstanceApi, call: Call) -> None:
    instance.upgrade(call)


def _stop(instance: InstanceApi, call: Call) -> None:
    log.info("asked to stop by a command")
    view = instance.view()
    in_use = [view.settings, *(process.settings for process in view.counted())]
    call.send({"timeout": max(each.graceful_timeout for each in in_use)})
    instance.stop(quick=call.arguments.get("quick") is True)
    count = len(instance.view().counted())
    call.send({"step": f"stopping {count} process{'' if count == 1 else 'es'}"})


def _scale(instance: InstanceApi, call: Call) -> None:
    worker, count = call.arguments.get("worker"), call.arguments.get("count")
    if worker is None or count is None:
        raise ConfigError("scale: expected a Worker's name and a number")
    instance.scale(worker, count, call)


def _connections(instance: InstanceApi, call: Call) -> None:
    worker, names = call.arguments.get("worker"), instance.view().plan.declarations
    if worker is not None and worker not in names:
        raise ConfigError(f"there is no Worker {worker!r}; there are {', '.join(names)}")
    limit = call.arguments.get("limit")
    if limit is not None and limit < 0:
        raise ConfigError(f"connections: limit={limit} is less than nothing")
    instance.connections(call, worker, limit)


NAME, NUMBER, SWITCH = (str, "a Worker's name"), (int, "a whole number"), (bool, "true or false")

ARGUMENTS: dict[str, dict[str, tuple[type, str]]] = {
    "health": {"worker": NAME},
    "reload": {"wait": SWITCH},
    "stop": {"quick": SWITCH},
    "scale": {"worker": NAME, "count": NUMBER},
    "connections": {"worker": NAME, "limit": NUMBER},
}
"""Of the commands that have any: their types in JSON, and in words."""

ANSWERS: dict[str, Callable[[InstanceApi, Call], None]] = {
    "status": _status,
    "health": _health,
    "settings": _settings,
    "who": _who,
    "reload": _reload,
    "upgrade": _upgrade,
    "stop": _stop,
    "scale": _scale,
    "connections": _connections,
}
