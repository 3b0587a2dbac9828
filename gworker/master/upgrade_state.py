"""What an arbiter knows, as a JSON document, so that its successor in the same process can go on
with it.

`to_document` describes an arbiter without a rollout or a helper child (`Upgrade.proceed` waits for
that); `restore` makes another like it. Descriptors are given as numbers: an exec keeps them
open (see upgrade.py). `check` does all that needs no descriptors, for a trial.

Another version wrote the document than reads it. What is missing takes its default, what is unknown
is ignored; what cannot be understood at all raises ConfigError.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

from gworker.config.options import OPTIONS
from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.ipc.channel import Channel
from gworker.ipc.declaration import Declaration
from gworker.ipc.scoreboard import WORDS, Scoreboard
from gworker.master.exit_status import Exit
from gworker.master.fleet import Fleet
from gworker.master.plan import Key, Plan
from gworker.master.slots import Process, Role, Slot, State
from gworker.master.terminal import TerminalState
from gworker.master.worker_privileges import check_worker
from gworker.system.address import Address
from gworker.version import __version__

FORMAT = 4  # of the document. A reader refuses every other one

Document = dict[str, Any]


def to_document(
    fleet: Fleet, started: float, terminal: TerminalState, last_reload: dict[str, Any]
) -> Document:
    """All that an arbiter knows. started: monotonic seconds."""
    slots = fleet.slots.values()
    return {
        "format": FORMAT,
        "version": __version__,
        "words": WORDS,
        "scoreboard": fleet.children.scoreboard.fileno(),
        "ids": fleet.children.ids.fileno(),
        "instance": fleet.children.instance,
        "started": started,
        "terminal": list(terminal),
        "let_be": sorted(fleet.orphans.let_be),
        "last_reload": last_reload,
        "asked": dict(fleet.plan.asked),
        "generation": fleet.generation,
        "gone": fleet.gone,
        "exits": [asdict(each) for each in fleet.exits],
        "declarations": [asdict(each) for each in fleet.plan.declarations.values()],
        "counts": dict(fleet.plan.counts),
        "workers": fleet.plan.workers,
        "slots": [_scalars(slot) | {"totals": slot.totals} for slot in slots],
        "restart": _restart_only(fleet.settings),
        "processes": [_process(each, place) for slot in slots for each, place in _places(slot)],
        "broker": _broker(fleet),
        "listeners": [
            {
                "key": asdict(each.key),
                "port": each.port,
                "fds": list(each.descriptors),
                "address": asdict(each.address) if each.address is not None else None,
            }
            for each in fleet.listeners.held.values()
        ],
    }


def descriptors(document: Document) -> list[int]:
    listening = [fd for each in document["listeners"] for fd in each["fds"]]
    return [
        document["scoreboard"],
        document["ids"],
        *(each["fd"] for each in _processes(document)),
        *document["broker"]["socket"]["listeners"],
        *document["broker"]["socket"]["files"],
        *listening,
    ]


def _processes(document: Document) -> list[Document]:
    broker = document["broker"]["process"]
    return [*document["processes"], *([broker] if broker is not None else [])]


def _restart_only(settings: Settings) -> Document:
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
        for each in _processes(document):
            State(each["state"])
            Key(**each["key"]) if each["key"] is not None else None
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"gworker {__version__} does not understand what it is to take over: {error!r}"
        ) from None


def check_in_trial(document: Document, settings: Settings) -> None:
    """`check`, and what can be refused only before the exec. Raises ConfigError."""
    check(document, settings)
    for declared in _plan(document).declarations.values():
        check_worker(declared, settings)


def restore(fleet: Fleet, document: Document) -> None:
    """Let `fleet` go on with what the arbiter that wrote `document` had. Raises ConfigError."""
    check(document, fleet.settings)
    fleet.plan, fleet.generation = _plan(document), document["generation"]
    fleet.gone = document["gone"]
    fleet.exits.extend(Exit(**_known(Exit, each)) for each in document["exits"])
    for each in document["listeners"]:
        address = Address(**each["address"]) if each["address"] is not None else None
        fleet.listeners.adopt(Key(**each["key"]), each["port"], each["fds"], address)
    used = {each["row_number"] for each in _processes(document)}
    fleet.children.scoreboard = Scoreboard(descriptor=document["scoreboard"], used=used)
    fleet.children.ids.adopt(document["ids"])
    fleet.children.instance = document["instance"]
    for each in document["slots"]:
        fleet.slots[each["worker"], each["id"]] = Slot(**_known(Slot, each))
    for each in document["processes"]:
        _add_process(fleet, each)
    _restore_broker(fleet, document["broker"])
    fleet.orphans.let_be = set(document.get("let_be", ()))


def _scalars(record: Any) -> Document:
    found = {field.name: getattr(record, field.name) for field in fields(record)}
    return {
        name: value
        for name, value in found.items()
        if value is None or isinstance(value, int | float | str)
    }


def _places(slot: Slot) -> list[tuple[Process, str]]:
    places = {id(slot.current): "current", id(slot.successor): "successor"}
    return [(each, places.get(id(each), "leaving")) for each in slot.processes()]


def _broker(fleet: Fleet) -> Document:
    broker = fleet.broker
    return {
        "socket": fleet.listeners.broker.document(),
        "process": _process(broker.current, "") if broker.current is not None else None,
        "failures": broker.failures,
        "retry_at": broker.retry_at,
        "reason": broker.reason,
    }


def _restore_broker(fleet: Fleet, record: Document) -> None:
    broker = fleet.broker
    broker.failures, broker.retry_at = record["failures"], record["retry_at"]
    broker.reason = record["reason"]
    if record["process"] is not None:
        broker.current = _adopted(fleet, record["process"], Role.BROKER)
    if record["socket"]["listeners"]:
        fleet.listeners.broker.adopt(**record["socket"])
        broker.go_on(fleet.settings)


def _process(process: Process, place: str) -> Document:
    key = asdict(process.key) if process.key is not None else None
    return {
        **_scalars(process),
        "state": process.state.value,
        "key": key,
        "role": place,
        "fd": process.channel.fileno(),
    }


def _plan(document: Document) -> Plan:
    declared = [Declaration(**_known(Declaration, each)) for each in document["declarations"]]
    return Plan(
        {each.name: each for each in declared},
        document["counts"],
        document["workers"],
        document["asked"],
    )


def _add_process(fleet: Fleet, record: Document) -> None:
    # Put a child into its slot.
    process = _adopted(fleet, record, Role.WORKER)
    slot = fleet.slots[process.worker, process.id]
    if record["role"] == "leaving":
        slot.leaving.append(process)
    else:
        setattr(slot, record["role"], process)


def _adopted(fleet: Fleet, record: Document, role: Role) -> Process:
    # The child's end of the channel has not changed.
    others = {
        "channel": Channel(record["fd"]),
        "row": fleet.children.scoreboard.row(record["row_number"]),
        "key": Key(**record["key"]) if record["key"] is not None else None,
        "state": State(record["state"]),
        "role": role,
        "settings": fleet.settings,
    }
    process = Process(**_known(Process, record) | others)
    fleet.children.adopt(process)
    return process


def _known(kind: Any, record: Document) -> Document:
    # Those fields that dataclass `kind` has: another version may have more.
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in record.items() if name in names}
