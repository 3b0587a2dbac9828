"""What should run: the declarations of one generation, and how many processes of each.

A Plan is a value made from what the probe child printed, the settings, and the counts that an
operator has asked for since. It binds and starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gworker.errors import ConfigError
from gworker.ipc.declaration import Declaration
from gworker.system.address import Address, Transport, overlap

MAX_PROCESSES = 1024

Place = tuple[str, int]  # a slot's name: (Worker, id)


@dataclass(frozen=True, slots=True)
class Key:
    """What makes a listener the same one across reloads: where it is bound, whatever is spoken
    there."""

    transport: Transport
    host: str = ""
    port: int = 0
    path: str = ""
    slot: int | None = None  # for reuse_port only: each slot has a socket of its own
    worker: str = ""  # for port 0 only: two Workers that let the kernel choose get two ports


def listener_key(address: Address, worker: str, slot: int | None = None) -> Key:
    chosen_by_kernel = address.transport != "unix" and address.port == 0
    return Key(
        address.transport,
        address.host,
        address.port,
        address.path,
        slot,
        worker if chosen_by_kernel else "",
    )


@dataclass(frozen=True, slots=True)
class Plan:
    declarations: Mapping[str, Declaration] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    workers: int | None = None  # the setting that counted where a Worker has no count of its own
    asked: Mapping[str, int] = field(default_factory=dict)  # the counts that an operator has set

    def places(self) -> list[Place]:
        """Every slot, in the order in which it is started and replaced."""
        return [(name, number) for name, count in self.counts.items() for number in range(count)]

    def key(self, place: Place) -> Key | None:
        name, number = place
        declaration = self.declarations[name]
        address = declaration.address()
        if address is None:
            return None
        own = declaration.reuse_port and address.transport != "unix"
        return listener_key(address, name, number if own else None)

    def keys(self) -> set[Key]:
        return {key for place in self.places() if (key := self.key(place)) is not None}

    def with_count(self, name: str, count: int) -> Plan:
        """The same with another number of processes for one Worker. Raises ConfigError."""
        if name not in self.declarations:
            raise ConfigError(
                f"there is no Worker {name!r}; there are {', '.join(self.declarations)}"
            )
        if not 1 <= count <= MAX_PROCESSES:
            raise ConfigError(f"{name}: {count} processes; expected 1 to {MAX_PROCESSES}")
        counts = {**self.counts, name: count}
        _check_sum(counts, "asked for")
        return Plan(self.declarations, counts, self.workers, {**self.asked, name: count})


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: object) -> bool:
    return value is None or (type(value) is int and value >= 1)


def _are_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


# What the attributes of a declaration have to be: user code can have put anything into them.
EXPECTED: dict[str, tuple[Callable[[object], bool], str]] = {
    "name": (_is_text, "a string"),
    "user": (_is_text, "a string"),
    "group": (_is_text, "a string"),
    "migration_obstacle": (_is_text, "a string"),
    "count": (_is_count, "a whole number from 1"),
    "backlog": (_is_count, "a whole number from 1"),
    "files": (_are_texts, "a list of paths"),
    "hooks": (_are_texts, "a list of names"),
}


def _check(declaration: Declaration) -> None:
    for key, (is_valid, expected) in EXPECTED.items():
        value = getattr(declaration, key)
        if not is_valid(value):
            raise ConfigError(f"Worker {declaration.name!r}: {key}={value!r} is not {expected}")


def make_plan(found: Iterable[Declaration], workers: int | None, before: Plan) -> Plan:
    """The plan for freshly loaded declarations.

    workers: `-w`. before: the plan in force. The counts that an operator has set hold unless the
    code or the setting now says another count than it did. Raises ConfigError.
    """
    declarations: dict[str, Declaration] = {}
    addresses: dict[Key, str] = {}
    counts: dict[str, int] = {}
    for declaration in found:
        name = declaration.name
        if name in declarations:
            raise ConfigError(f"two Workers are named {name!r}")
        _check(declaration)
        declarations[name] = declaration
        address = declaration.address()
        if address is not None:
            other = addresses.setdefault(listener_key(address, name), name)
            if other != name:
                raise ConfigError(f"Workers {other!r} and {name!r} both listen on {address.url}")
            _check_overlap(declaration, address, declarations)
        count = declaration.count or workers or 1
        known = before.declarations.get(name)
        if known is not None and (known.count or before.workers or 1) == count:
            count = before.asked.get(name, count)
        counts[name] = count
    _check_sum(counts, "declared")
    asked = {name: count for name, count in before.asked.items() if counts.get(name) == count}
    return Plan(declarations, counts, workers, asked)


def _check_overlap(new: Declaration, address: Address, declared: Mapping[str, Declaration]) -> None:
    for each in declared.values():
        other = each.address()
        if other is None or each is new or (each.reuse_port and new.reuse_port):
            continue
        if why := overlap(other, address):
            raise ConfigError(
                f"Workers {each.name!r} and {new.name!r} cannot listen on {other.url} and "
                f"{address.url}: {why}."
                " Leave the narrower one out, or give it another port"
            )


def _check_sum(counts: Mapping[str, int], how: str) -> None:
    if sum(counts.values()) > MAX_PROCESSES:
        raise ConfigError(
            f"{sum(counts.values())} processes are {how}; at most {MAX_PROCESSES} are possible"
        )
