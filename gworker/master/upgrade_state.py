"""What an arbiter knows, as a JSON document, so that its successor in the same process can go on
with it.

`take` describes an arbiter without a rollout or a helper child (`Upgrade.proceed` waits for that);
`restore` makes a fresh one know the same. Descriptors are given as numbers: an exec keeps them open
(see upgrade.py). `check` does all of `restore` that needs neither descriptors nor an arbiter, for a
trial.

Another version wrote the document than reads it. What is missing takes its default, what is unknown
is ignored; what cannot be understood at all raises ConfigError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

from gworker.config.options import OPTIONS
from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.ipc.channel import Channel
from gworker.ipc.declaration import Declaration
from gworker.ipc.scoreboard import WORDS, Row, Scoreboard
from gworker.master.exit_status import Exit
from gworker.master.plan import Key, Plan
from gworker.master.slots import Process, Role, Slot, State
from gworker.master.worker_privileges import check_worker
from gworker.system.address import Address
from gworker.version import __version__

if TYPE_CHECKING:
    from gworker.arbiter import Arbiter

FORMAT = 3
"""Of the document. A reader refuses every other one."""

Document = dict[str, Any]
T = TypeVar("T")


def take(arbiter: Arbiter) -> Document:
    """Everything that must outlive an exec."""
    fleet = arbiter.fleet
    return {
        "format": FORMAT,
        "version": __version__,
        "words": WORDS,
        "scoreboard": fleet.children.scoreboard.fileno(),
        "ids": fleet.children.ids.fileno(),
        "started": arbiter.started,
        "terminal": [arbiter.terminal.is_ours, arbiter.terminal.ignores_hangup],
        "let_be": sorted(fleet.orphans.let_be),
        "last_reload": arbiter.rollouts.report(),
        "asked": dict(fleet.plan.asked),
        "generation": fleet.generation,
        "gone": fleet.gone,
        "exits": fleet.exits.rows(),
        "declarations": [each.to_dict() for each in fleet.plan.declarations.values()],
        "counts": dict(fleet.plan.counts),
        "workers": fleet.plan.workers,
        "slots": [_scalars(slot) | {"totals": slot.totals} for slot in fleet.slots.values()],
        "restart": _restart_only(arbiter.settings),
        "processes": [
            _process(slot, each) for slot in fleet.slots.values() for each in slot.processes()
        ],
        "listeners": [
            {
                "key": asdict(each.key),
                "port": each.port,
                "fds": each.descriptors,
                "address": asdict(each.address) if each.address is not None else None,
            }
            for each in fleet.listeners.all()
        ],
    }


def descriptors(document: Document) -> list[int]:
    """Every descriptor that the document speaks of."""
    listening = [fd for each in document["listeners"] for fd in each["fds"]]
    return [
        document["scoreboard"],
        document["ids"],
        *(each["fd"] for each in document["processes"]),
        *listening,
    ]


def _restart_only(settings: Settings) -> Document:
    """What no reload can change, as JSON has it."""
    values = {
        option.key: getattr(settings, option.key, None) for option in OPTIONS if option.restart
    }
    restored: Document = json.loads(json.dumps(values, default=str))
    return restored


def check(document: Document, settings: Settings) -> None:
    """Raise ConfigError for a document that this version cannot take over with `settings`."""
    if document.get("format") != FORMAT or document.get("words") != WORDS:
        raise ConfigError(
            f"gworker {__version__} cannot take over from gworker {document.get('version')}: "
            "that needs a restart"
        )
    before, now = document["restart"], _restart_only(settings)
    if changed := [
        key.replace("_", "-") for key in now if key in before and now[key] != before[key]
    ]:
        raise ConfigError(f"restart needed for: {', '.join(changed)}")
    try:
        _plan(document)
        for each in document["processes"]:
            State(each["state"])
            Key(**each["key"]) if each["key"] is not None else None
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"gworker {__version__} does not understand what it is to take over: {error!r}"
        ) from None


def check_in_trial(document: Document, settings: Settings) -> None:
    """`check`, and what may be refused as long as nothing has changed. Raises ConfigError."""
    check(document, settings)
    for declared in _plan(document).declarations.values():
        check_worker(declared, settings)


def restore(arbiter: Arbiter, document: Document) -> None:
    """Let a fresh arbiter know what the one before it knew. Raises ConfigError."""
    check(document, arbiter.settings)
    fleet = arbiter.fleet
    arbiter.started = document["started"]
    arbiter.terminal.is_ours, arbiter.terminal.ignores_hangup = document["terminal"]
    fleet.orphans.let_be = set(document.get("let_be", ()))
    arbiter.rollouts.restore(document["last_reload"])
    fleet.generation, fleet.gone = document["generation"], document["gone"]
    for row in document["exits"]:
        fleet.exits.keep(_made(Exit, row))
    fleet.plan = _plan(document)
    for each in document["listeners"]:
        address = Address(**each["address"]) if each["address"] is not None else None
        fleet.listeners.adopt(Key(**each["key"]), each["port"], each["fds"], address)
    used = {each["row_number"] for each in document["processes"]}
    fleet.children.ids.adopt(document["ids"])
    fleet.children.scoreboard = Scoreboard(descriptor=document["scoreboard"], used=used)
    for each in document["slots"]:
        fleet.slots[each["worker"], each["id"]] = _made(Slot, each)
    for each in document["processes"]:
        _adopt(arbiter, each)


def _scalars(record: Any) -> Document:
    """The fields of a dataclass that JSON carries as they are."""
    found = {field.name: getattr(record, field.name) for field in fields(record)}
    return {
        name: value
        for name, value in found.items()
        if value is None or isinstance(value, int | float | str)
    }


def _process(slot: Slot, process: Process) -> Document:
    role = (
        "current"
        if process is slot.current
        else "successor"
        if process is slot.successor
        else "leaving"
    )
    key = asdict(process.key) if process.key is not None else None
    return {
        **_scalars(process),
        "state": process.state.value,
        "key": key,
        "role": role,
        "fd": process.channel.fileno(),
    }


def _plan(document: Document) -> Plan:
    declared = [_made(Declaration, each) for each in document["declarations"]]
    return Plan(
        {each.name: each for each in declared},
        document["counts"],
        document["workers"],
        document["asked"],
    )


def _adopt(arbiter: Arbiter, record: Document) -> None:
    """Take over one child: it notices nothing, for its end of the channel is as it was."""
    children = arbiter.fleet.children
    row: Row = children.scoreboard.row(record["row_number"])
    process = _made(
        Process,
        record,
        channel=Channel.inherited(record["fd"]),
        row=row,
        key=Key(**record["key"]) if record["key"] is not None else None,
        state=State(record["state"]),
        role=Role.WORKER,
        settings=arbiter.settings,
    )
    slot = arbiter.fleet.slots[process.worker, process.id]
    if record["role"] == "leaving":
        slot.leaving.append(process)
    else:
        setattr(slot, record["role"], process)
    children.adopt(process)


def _made(kind: type[T], record: Mapping[str, Any], **others: Any) -> T:
    """A dataclass from what of `record` it has fields for."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in record.items() if name in known} | others)
