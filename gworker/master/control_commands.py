"""What the commands ask of the arbiter over its control socket, and the answers."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from gworker.config.report import rows
from gworker.errors import ConfigError
from gworker.master.control_connection import Call
from gworker.master.health import report as health_report
from gworker.master.instance import Instance
from gworker.master.status import log_target
from gworker.version import __version__

log = logging.getLogger("gworker")


def answer(instance: Instance, call: Call) -> None:
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
    # Raise ConfigError for an argument that the command does not have, or that is of another type.
    # null: not given.
    known = ARGUMENTS.get(call.command, {})
    for name, value in call.arguments.items():
        if name not in known:
            raise ConfigError(
                f"{call.command}: unknown argument {name!r}; there are {', '.join(known) or 'none'}"
            )
        kind, expected = known[name]
        if value is not None and type(value) is not kind:  # in JSON, true is no number
            raise ConfigError(f"{call.command}: {name}={value!r} is not {expected}")


def _status(instance: Instance, call: Call) -> None:
    call.send({"status": instance.status(), "log": log_target(instance.fleet.settings)})
    call.finish(0)


def _health(instance: Instance, call: Call) -> None:
    serving, faults = health_report(instance.view(), call.arguments.get("worker"))
    call.send({"health": serving})
    if faults:
        call.finish(1, error="; ".join(faults))
    else:
        call.finish(0)


def _settings(instance: Instance, call: Call) -> None:
    settings, declarations = instance.fleet.settings, instance.fleet.plan.declarations
    declared = {name: each.limits for name, each in declarations.items()}
    call.send({"settings": {"rows": rows(settings, declared), "pending": settings.pending}})
    call.finish(0)


def _who(instance: Instance, call: Call) -> None:
    view = instance.view()
    call.send(
        {
            "who": {
                "name": view.fleet.settings.name,
                "pid": os.getpid(),
                "target": view.fleet.settings.target,
                "version": __version__,
                "generation": view.fleet.generation,
                "workers": len(view.counted()),
                "uptime": round(view.now - view.started, 1),
            }
        }
    )
    call.finish(0)


def _reload(instance: Instance, call: Call) -> None:
    if call.arguments.get("wait") is not False:
        instance.reload(call)
    else:
        instance.reload()
        call.finish(0)


def _stop(instance: Instance, call: Call) -> None:
    log.info("asked to stop by a command")
    view = instance.view()
    in_use = [view.fleet.settings, *(process.settings for process in view.counted())]
    call.send({"timeout": max(each.graceful_timeout for each in in_use)})
    instance.stop(quick=call.arguments.get("quick") is True)
    count = len(view.counted())
    call.send({"step": f"stopping {count} process{'' if count == 1 else 'es'}"})


def _scale(instance: Instance, call: Call) -> None:
    worker, count = call.arguments.get("worker"), call.arguments.get("count")
    if worker is None or count is None:
        raise ConfigError("scale: expected a Worker's name and a number")
    instance.scale(worker, count, call)


def _connections(instance: Instance, call: Call) -> None:
    worker, names = call.arguments.get("worker"), instance.fleet.plan.declarations
    if worker is not None and worker not in names:
        raise ConfigError(f"there is no Worker {worker!r}; there are {', '.join(names)}")
    limit = call.arguments.get("limit")
    if limit is not None and limit < 0:
        raise ConfigError(f"connections: limit={limit} is less than nothing")
    instance.connections(call, worker, limit)


NAME, NUMBER, SWITCH = (str, "a Worker's name"), (int, "a whole number"), (bool, "true or false")

# The arguments of commands: the type in JSON, and its name in messages.
ARGUMENTS: dict[str, dict[str, tuple[type, str]]] = {
    "health": {"worker": NAME},
    "reload": {"wait": SWITCH},
    "stop": {"quick": SWITCH},
    "scale": {"worker": NAME, "count": NUMBER},
    "connections": {"worker": NAME, "limit": NUMBER},
}

ANSWERS: dict[str, Callable[[Instance, Call], None]] = {
    "status": _status,
    "health": _health,
    "settings": _settings,
    "who": _who,
    "reload": _reload,
    "upgrade": Instance.upgrade,
    "stop": _stop,
    "scale": _scale,
    "connections": _connections,
}
