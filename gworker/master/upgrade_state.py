"""What an arbiter knows, as values and as a JSON document, so that its successor in the same
process can go on with it.

`to_document` describes an arbiter without a rollout or a helper child (`Upgrade.proceed` waits for
that); `from_document` makes the values again. Descriptors are given as numbers: an exec keeps them
open (see upgrade.py). `check` does all that needs no descriptors, for a trial.

Another version wrote the document than reads it. What is missing takes its default, what is unknown
is ignored; what cannot be understood at all raises ConfigError.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from gworker.config.options import OPTIONS
from gworker.config.settings import Settings
from gworker.errors import ConfigError
from gworker.ipc.channel import Channel
from gworker.ipc.declaration import Declaration
from gworker.ipc.scoreboard import WORDS, Scoreboard
from gworker.master.exit_status import Exit
from gworker.master.plan import Key, Plan
from gworker.master.slots import Process, Role, Slot, State
from gworker.master.terminal import TerminalState
from gworker.master.worker_privileges import check_worker
from gworker.system.address import Address
from gworker.version import __version__

FORMAT = 3  # of the document. A reader refuses every other one

Document = dict[str, Any]
if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class FleetState:
    """Processes, slots, listeners and counters. let_be: pids of orphans to leave alone."""

    plan: Plan
    generation: int
    gone: list[int]
    exits: Sequence[Exit]
    slots: Sequence[Slot]
    listeners: Sequence[tuple[Key, int, Sequence[int], Address | None]]
    scoreboard: Scoreboard
    ids: int
    let_be: Collection[int]


@dataclass(frozen=True, slots=True)
class ArbiterState:
    """All that an arbiter knows. started: monotonic seconds."""

    started: float
    terminal: TerminalState
    last_reload: dict[str, Any]
    settings: Settings
    fleet: FleetState


def to_document(state: ArbiterState) -> Document:
    fleet = state.fleet
    return {
        "format": FORMAT,
        "version": __version__,
        "words": WORDS,
        "scoreboard": fleet.scoreboard.fileno(),
        "ids": fleet.ids,
        "started": state.started,
        "terminal": list(state.terminal),
        "let_be": sorted(fleet.let_be),
        "last_reload": state.last_reload,
        "asked": dict(fleet.plan.asked),
        "generation": fleet.generation,
        "gone": fleet.gone,
        "exits": [asdict(each) for each in fleet.exits],
        "declarations": [each.to_dict() for each in fleet.plan.declarations.values()],
        "counts": dict(fleet.plan.counts),
        "workers": fleet.plan.workers,
        "slots": [_scalars(slot) | {"totals": slot.totals} for slot in fleet.slots],
        "restart": _restart_only(state.settings),
        "processes": [_process(slot, each) for slot in fleet.slots for each in slot.processes()],
        "listeners": [
            {
                "key": asdict(key),
                "port": port,
                "fds": list(descriptors),
                "address": asdict(address) if address is not None else None,
            }
            for key, port, descriptors, address in fleet.listeners
        ],
    }


def descriptors(document: Document) -> list[int]:
    listening = [fd for each in document["listeners"] for fd in each["fds"]]
    return [
        document["scoreboard"],
        document["ids"],
        *(each["fd"] for each in document["processes"]),
        *listening,
    ]


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
        for each in document["processes"]:
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


def from_document(document: Document, settings: Settings) -> ArbiterState:
    """What the arbiter that wrote `document` knew. Raises ConfigError."""
    check(document, settings)
    used = {each["row_number"] for each in document["processes"]}
    scoreboard = Scoreboard(descriptor=document["scoreboard"], used=used)
    slots = {(each["worker"], each["id"]): _made(Slot, each) for each in document["slots"]}
    for each in document["processes"]:
        _add_process(slots[each["worker"], each["id"]], each, scoreboard, settings)
    fleet = FleetState(
        plan=_plan(document),
        generation=document["generation"],
        gone=document["gone"],
        exits=[_made(Exit, row) for row in document["exits"]],
        slots=list(slots.values()),
        listeners=[
            (
                Key(**each["key"]),
                each["port"],
                each["fds"],
                Address(**each["address"]) if each["address"] is not None else None,
            )
            for each in document["listeners"]
        ],
        scoreboard=scoreboard,
        ids=document["ids"],
        let_be=document.get("let_be", ()),
    )
    terminal = TerminalState(*document["terminal"])
    return ArbiterState(document["started"], terminal, document["last_reload"], settings, fleet)


def _scalars(record: Any) -> Document:
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


def _add_process(slot: Slot, record: Document, scoreboard: Scoreboard, settings: Settings) -> None:
    # Put a child into its slot. The child's end of the channel has not changed.
    process = _made(
        Process,
        record,
        channel=Channel.inherited(record["fd"]),
        row=scoreboard.row(record["row_number"]),
        key=Key(**record["key"]) if record["key"] is not None else None,
        state=State(record["state"]),
        role=Role.WORKER,
        settings=settings,
    )
    if record["role"] == "leaving":
        slot.leaving.append(process)
    else:
        setattr(slot, record["role"], process)


def _made(kind: type[T], record: Mapping[str, Any], **others: Any) -> T:
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in record.items() if name in known} | others)
