"""What the commands ask of the arbiter over its control socket, and the answers."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gworker.config.report import rows
from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.master.control_connection import Call
from gworker.master.health import report as health_report
from gworker.master.slots import Process, Role, State
from gworker.master.status import log_target, report
from gworker.version import __version__

if TYPE_CHECKING:
    from gworker.arbiter import Arbiter

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


class Reports:
    """The `connections` commands that wait."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Report] = {}
        self._last = 0

    def begin(self, call: Call, processes: list[Process], limit: int | None) -> None:
        """Ask `processes` for their connections, each for `limit` at most."""
        self._last += 1
        now = time.monotonic()
        report = self._waiting[self._last] = _Report(call, now, now + REPORT_SECONDS)
        for process in processes:
            process.channel.send({"do": "connections", "request": self._last, "limit": limit})
            report.waiting[process.pid] = process
        self._finish_if_complete(self._last)

    def received(self, process: Process, request: int, descriptors: list[int]) -> None:
        """A process has answered with a file that holds its rows; without one, it could not make
        any."""
        report = self._waiting.get(request)
        if report is not None and process.pid in report.waiting:
            del report.waiting[process.pid]
            if descriptors:
                report.call.send({"pid": process.pid}, fds=descriptors[:1])
            else:
                report.missing.append(process.pid)
            self._finish_if_complete(request)
        for descriptor in descriptors:
            os.close(descriptor)

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


def answer(arbiter: Arbiter, call: Call) -> None:
    """Carry out one request."""
    handler = ANSWERS.get(call.command)
    if handler is None:
        call.finish(1, error=f"unknown command {call.command!r}")
        return
    try:
        _check_arguments(call)
        handler(arbiter, call)
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


def _status(arbiter: Arbiter, call: Call) -> None:
    call.send({"status": report(arbiter), "log": log_target(arbiter.settings)})
    call.finish(0)


def _health(arbiter: Arbiter, call: Call) -> None:
    serving, faults = health_report(
        arbiter.fleet, arbiter.is_stopping, call.arguments.get("worker")
    )
    call.send({"health": serving})
    if faults:
        call.finish(1, error="; ".join(faults))
    else:
        call.finish(0)


def _settings(arbiter: Arbiter, call: Call) -> None:
    declared = {name: each.limits for name, each in arbiter.fleet.plan.declarations.items()}
    call.send(
        {
            "settings": {
                "rows": rows(arbiter.settings, declared),
                "pending": arbiter.settings.pending,
            }
        }
    )
    call.finish(0)


def _who(arbiter: Arbiter, call: Call) -> None:
    call.send(
        {
            "who": {
                "name": arbiter.settings.name,
                "pid": os.getpid(),
                "target": arbiter.settings.target,
                "version": __version__,
                "generation": arbiter.fleet.generation,
                "workers": len(_counted(arbiter)),
                "uptime": round(time.monotonic() - arbiter.started, 1),
            }
        }
    )
    call.finish(0)


def _reload(arbiter: Arbiter, call: Call) -> None:
    if call.arguments.get("wait") is not False:
        arbiter.reload(call)
    else:
        arbiter.reload()
        call.finish(0)


def _upgrade(arbiter: Arbiter, call: Call) -> None:
    arbiter.upgrade.request(call)


def _stop(arbiter: Arbiter, call: Call) -> None:
    log.info("asked to stop by a command")
    call.send({"timeout": max(each.graceful_timeout for each in _in_use(arbiter))})
    arbiter.stop(quick=call.arguments.get("quick") is True)
    count = len(_counted(arbiter))
    call.send({"step": f"stopping {count} process{'' if count == 1 else 'es'}"})


def _counted(arbiter: Arbiter) -> list[Process]:
    """The children that a user knows of: all but the watcher."""
    children = arbiter.fleet.children.by_pid.values()
    return [process for process in children if process.role is not Role.WATCHER]


def _in_use(arbiter: Arbiter) -> list[Settings]:
    """The settings in force, and those of older processes that are still there."""
    older = (process.settings for process in _counted(arbiter))
    return [arbiter.settings, *older]


def _scale(arbiter: Arbiter, call: Call) -> None:
    worker, count = call.arguments.get("worker"), call.arguments.get("count")
    if worker is None or count is None:
        raise ConfigError("scale: expected a Worker's name and a number")
    arbiter.rollouts.when_idle(lambda: _scale_now(arbiter, call, worker, count))


def _scale_now(arbiter: Arbiter, call: Call, worker: str, count: int) -> None:
    try:
        arbiter.scale(worker, count)
    except ConfigError as error:
        call.finish(1, error=str(error))
        return
    call.send({"step": f"{worker}: {count} process{'' if count == 1 else 'es'}"})
    call.finish(0)


def _connections(arbiter: Arbiter, call: Call) -> None:
    worker = call.arguments.get("worker")
    if worker is not None and worker not in arbiter.fleet.plan.declarations:
        raise ConfigError(
            f"there is no Worker {worker!r}; there are {', '.join(arbiter.fleet.plan.declarations)}"
        )
    limit = call.arguments.get("limit")
    if limit is not None and limit < 0:
        raise ConfigError(f"connections: limit={limit} is less than nothing")
    asked = [
        process
        for process in arbiter.fleet.children.by_pid.values()
        if process.state in (State.READY, State.RETIRING) and worker in (None, process.worker)
    ]
    arbiter.reports.begin(call, asked, limit)


NAME, NUMBER, SWITCH = (str, "a Worker's name"), (int, "a whole number"), (bool, "true or false")

ARGUMENTS: dict[str, dict[str, tuple[type, str]]] = {
    "health": {"worker": NAME},
    "reload": {"wait": SWITCH},
    "stop": {"quick": SWITCH},
    "scale": {"worker": NAME, "count": NUMBER},
    "connections": {"worker": NAME, "limit": NUMBER},
}
"""Of the commands that have any: their types in JSON, and in words."""

ANSWERS: dict[str, Callable[[Arbiter, Call], None]] = {
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
