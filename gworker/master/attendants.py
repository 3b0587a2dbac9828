"""Those who do a thing beside the arbiter: each has a look after its chores, and may ask to be
woken."""

from __future__ import annotations

from typing import Protocol


class Attendant(Protocol):
    """One of them. What it does not need to do costs the arbiter next to nothing."""

    def attend(self, now: float) -> None:
        """Look and act; neither sleeps nor blocks. `now`: monotonic seconds."""

    def next_deadline(self) -> float:
        """The monotonic time of the next turn that it needs; infinity if it needs none."""

    def close_in_child(self) -> None:
        """Let go of what is the arbiter's, in a forked process."""


class Attendants:
    """All of them as one."""

    def __init__(self, *attendants: Attendant) -> None:
        self._all = attendants

    def attend(self, now: float) -> None:
        """Let each have its look."""
        for attendant in self._all:
            attendant.attend(now)

    def next_deadline(self) -> float:
        """The earliest time that one of them asks for."""
        return min((attendant.next_deadline() for attendant in self._all), default=float("inf"))

    def close_in_child(self) -> None:
        """Let all go of what is the arbiter's."""
        for attendant in self._all:
            attendant.close_in_child()
