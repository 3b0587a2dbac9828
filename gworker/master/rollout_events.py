"""What can happen to a rollout, and its end. Values: `rollout.Rollout.on` says what they cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gworker.errors import ConfigError
from gworker.ipc.declaration import Declaration
from gworker.master.slots import Process, Slot


# The probe has loaded the target, which declares these Workers.
@dataclass(frozen=True, slots=True)
class Declared:
    workers: list[dict[str, Any]]

    def declarations(self) -> list[Declaration]:
        """What they say. The probe has run the user's code, so it may be anything: raises
        ConfigError."""
        try:
            return [Declaration(**fields) for fields in self.workers]
        except TypeError as error:
            raise ConfigError(f"the target's declaration makes no sense: {error}") from None


# The target could not be loaded.
@dataclass(frozen=True, slots=True)
class ProbeFailed:
    reason: str
    traceback: str


# A process of a slot is ready.
@dataclass(frozen=True, slots=True)
class SlotReady:
    slot: Slot
    process: Process


# A process of a slot could not be started, or died.
@dataclass(frozen=True, slots=True)
class SlotFailed:
    slot: Slot
    reason: str
    traceback: str = ""


# A process has counted its connections that cannot move, by reason.
@dataclass(frozen=True, slots=True)
class Surveyed:
    process: Process
    staying: dict[str, int]


# A process that retires has handed over what could move at once; `staying`: what could not.
@dataclass(frozen=True, slots=True)
class HandedOver:
    process: Process
    staying: dict[str, int]


@dataclass(frozen=True, slots=True)
class ProcessLeft:
    """A process is dead, or may hang: fewer may be on their way."""


Event = Declared | ProbeFailed | SlotReady | SlotFailed | Surveyed | HandedOver | ProcessLeft


@dataclass(frozen=True, slots=True)
class Ended:
    """The rollout is over. error: why it failed; None: it did not."""

    error: str | None
    traceback: str
    seconds: float
