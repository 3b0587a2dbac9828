"""What a worker process is told of its place when it is forked."""

from __future__ import annotations

from dataclasses import dataclass

from gworker.scoreboard import Scoreboard


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which slot a process fills, and what it inherits for that."""

    worker: str
    id: int
    generation: int
    listener: int | None
    """The descriptor of the bound socket that it serves."""
    scoreboard: Scoreboard
    """In which it finds the others that serve it."""
    serial: int = 0
    """Which of all the worker processes of the instance this is."""
    user: str | None = None
    group: str | None = None
    """As its Worker says; None: as the settings say."""
