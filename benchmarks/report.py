"""The figures: rows, their targets, the table and the JSON file."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: good up to its target, or context if it has none. `spread` is the least and the
    most of the rounds, `note` tells the value in another unit, `error` why there is none."""

    section: str
    name: str
    value: float | None
    unit: str
    target: float | None = None
    error: str | None = None
    spread: tuple[float, float] | None = None
    note: str = ""

    @property
    def ok(self) -> bool:
        if self.error is not None:
            return False
        return self.target is None or (self.value is not None and self.value <= self.target)

    @property
    def verdict(self) -> str:
        if self.target is None and self.error is None:
            return ""
        return "ok" if self.ok else "MISSED"


HEADER = ("section", "name", "value", "min–max", "unit", "", "target", "")
ALIGNMENT = "<<>><><<"  # of the columns of the table


def failed(section: str, name: str, error: Exception) -> Row:
    print(f"  ! {name}: {error}", flush=True)
    return Row(section, name, None, "", error=str(error).splitlines()[0])


def format_value(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.2f}"


def cells(row: Row) -> tuple[str, ...]:
    return (
        row.section,
        row.name,
        format_value(row.value),
        "–".join(format_value(each) for each in row.spread) if row.spread else "",
        row.unit,
        row.note,
        "" if row.target is None else f"≤ {row.target:g}",
        row.verdict,
    )


def print_table(rows: Sequence[Row]) -> None:
    lines = [HEADER, *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    print()
    for line in lines:
        columns = zip(line, ALIGNMENT, widths, strict=True)
        print("  ".join(f"{cell:{side}{width}}" for cell, side, width in columns).rstrip())


def describe_machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = [line for line in lines if line.startswith("model name")]
    return {
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "gevent": metadata.version("gevent"),
        "load_average": os.getloadavg(),
    }


def write_json(path: Path, machine: dict[str, Any], rows: Sequence[Row]) -> None:
    figures = [
        {
            "section": row.section,
            "name": row.name,
            "value": row.value,
            "unit": row.unit,
            "spread": row.spread,
            "note": row.note,
            "target": row.target,
            "ok": row.ok,
            "error": row.error,
        }
        for row in rows
    ]
    document = {"machine": machine, "command": sys.argv, "rows": figures}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
