"""Figures made readable: what stands in one cell of a table, or in a line above it."""

from __future__ import annotations

import time
from collections.abc import Iterable

NONE = "-"


def size(value: float | None) -> str:
    """Bytes, in the largest unit that leaves at least 1: 512B, 1.5K, 20M."""
    if value is None:
        return NONE
    for unit in "BKMGTP":
        if value < 1024 or unit == "P":
            break
        value /= 1024
    return f"{value:.0f}{unit}" if unit == "B" or value >= 100 else f"{value:.1f}{unit}"


def duration(value: float | None) -> str:
    """Seconds, in the two largest units: 0.3s, 42s, 3m05s, 2h07m, 5d03h."""
    if value is None:
        return NONE
    if value < 10:
        return f"{value:.1f}s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds:02}s" if minutes else f"{seconds}s"


def number(value: float | None) -> str:
    """A count or a rate: whole if it is whole, else one decimal."""
    if value is None:
        return NONE
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def text(value: object) -> str:
    """Anything else, on one line: what an app chose as a name must not forge lines of a table."""
    shown = NONE if value is None else ", ".join(value) if isinstance(value, list) else str(value)
    return "".join(c if c.isprintable() else "?" for c in shown)


def moment(value: float | None) -> str:
    return NONE if value is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))


def numbers(value: Iterable[int]) -> str:
    """Whole numbers, runs of them as 0-3: 0-3, 7."""
    runs: list[list[int]] = []
    for each in sorted(set(value)):
        if runs and each == runs[-1][1] + 1:
            runs[-1][1] = each
        else:
            runs.append([each, each])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
