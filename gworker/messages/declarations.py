"""What an application declares of its groups, by patterns of their names.

Mode, history, ttl and presence are the same in all processes, and stored with the broker; `slow`
and `wrap` are each process's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, get_args

from gworker.errors import ConfigError
from gworker.messages.frame import canonical

Mode = Literal["fleeting", "recoverable", "latest"]
Slow = Literal["drop", "close"]
Wrap = Callable[[Any, str], Any]

# Groups whose declaration is remembered: beyond that it is looked up anew.
REMEMBERED: Final = 10_000

MAX_HISTORY: Final = 10_000


@dataclass(frozen=True, slots=True)
class Declaration:
    """What holds for the groups whose names `pattern` matches (fnmatch)."""

    pattern: str
    mode: Mode = "fleeting"
    history: int = 100
    ttl: float = 300.0  # seconds
    presence: bool = False
    slow: Slow = "drop"
    wrap: Wrap | None = None

    @property
    def keeps(self) -> bool:
        return self.mode != "fleeting"

    @property
    def ttl_ms(self) -> bytes:
        return b"%d" % round(self.ttl * 1000)

    @property
    def text(self) -> str:
        """What all processes have to agree on."""
        stored = {
            "mode": self.mode,
            "history": self.history,
            "ttl": self.ttl,
            "presence": self.presence,
        }
        return canonical(stored).decode()


# What holds for users, inboxes, broadcasts, and groups that nothing was declared for.
DEFAULT: Final = Declaration("*")


class Declarations:
    """Those of one process, in the order in which they were declared."""

    def __init__(self) -> None:
        self._declared: dict[str, Declaration] = {}
        self._found: dict[str, Declaration] = {}

    def __iter__(self) -> Iterator[Declaration]:
        return iter(self._declared.values())

    def __bool__(self) -> bool:
        return bool(self._declared)

    def add(self, one: Declaration) -> None:
        """Raises ConfigError if the same pattern was declared in another way."""
        known = self._declared.get(one.pattern)
        if known is not None and (known.text, known.slow) != (one.text, one.slow):
            raise ConfigError(conflict(one, known.text))
        self._declared[one.pattern] = one
        self._found.clear()

    def of(self, group: str) -> Declaration:
        """The first that matches."""
        found = self._found.get(group)
        if found is None:
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            matching = (each for each in self if fnmatchcase(group, each.pattern))
            found = self._found[group] = next(matching, DEFAULT)
        return found


def conflict(one: Declaration, other: str) -> str:
    return (
        f"the groups {one.pattern!r} are declared twice, and differ: {one.text} here, and "
        f"{other} before"
    )


def checked(
    pattern: str,
    mode: Mode = "fleeting",
    history: int = 100,
    ttl: float = 300,
    presence: bool = False,
    slow: Slow = "drop",
    wrap: Wrap | None = None,
) -> Declaration:
    """A declaration. Raises TypeError and ValueError."""
    if not isinstance(pattern, str):
        raise TypeError(f"a pattern is a str, not {type(pattern).__name__}")
    for value, what, known in ((mode, "mode", Mode), (slow, "slow", Slow)):
        if value not in get_args(known):
            expected = " or ".join(map(repr, get_args(known)))
            raise ValueError(f"{what}={value!r} of groups {pattern!r}: expected {expected}")
    if type(history) is not int or not 1 <= history <= MAX_HISTORY:
        raise ValueError(
            f"history={history!r} of groups {pattern!r}: expected 1 to {MAX_HISTORY} messages"
        )
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0.001 <= ttl < 1e9:
        raise ValueError(f"ttl={ttl!r} of groups {pattern!r}: expected seconds")
    if not isinstance(presence, bool):
        raise TypeError(f"presence={presence!r} of groups {pattern!r}: expected True or False")
    if wrap is not None and not callable(wrap):
        raise TypeError(f"wrap={wrap!r} of groups {pattern!r} cannot be called")
    if mode == "recoverable":  # a client that is slow comes back and recovers
        slow = "close"
    return Declaration(pattern, mode, history, float(ttl), presence, slow, wrap)


declared = Declarations()
"""Those of this process."""
