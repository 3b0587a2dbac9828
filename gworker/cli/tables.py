"""What the commands print: figures made readable, and one kind of table in two renderings.

A `Table` is text already: title lines, headings, rows. A terminal gets it drawn by rich; anything
else gets aligned columns, one line per row at full width, without colour, so that grep, awk and
diff can work on it. The aligned columns are not rich's, which keeps every row in memory: lists of
connections are long.

rich is imported by the function that draws and nowhere else: the arbiter loads this file's
neighbours.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Final, Literal, TextIO

NONE = "-"

Row = Mapping[str, Any]  # JSON


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


@dataclass(frozen=True, slots=True)
class Column:
    key: str
    heading: str
    show: Callable[[Any], str] = number
    spare: int = 0  # columns are left out on a narrow terminal, highest number first; 0 stays

    @property
    def right(self) -> bool:
        return self.show not in (text, moment)


STATUS: Final = (
    Column("worker", "WORKER", text),
    Column("id", "ID"),
    Column("pid", "PID"),
    Column("listen", "LISTEN", text),
    Column("state", "STATE", text),
    Column("generation", "GEN", spare=7),
    Column("uptime", "UPTIME", duration, 1),
    Column("rss", "RSS", size),
    Column("uss", "USS", size, 3),
    Column("cpu_percent", "CPU%", spare=1),
    Column("connections", "CONNS"),
    Column("requests", "REQUESTS", spare=5),
    Column("requests_per_second", "REQ/S"),
    Column("send_queue", "SEND-Q", size, 6),
    Column("send_failures", "FAILS", spare=4),
    Column("exceptions", "EXC", spare=1),
    Column("timers", "TIMERS", spare=6),
    Column("loop_lag_ms", "LAG/MS", spare=2),
)

MESSAGES: Final = (
    Column("worker", "WORKER", text),
    Column("id", "ID"),
    Column("pid", "PID"),
    Column("state", "BROKER", text),
    Column("latency_ms", "LATENCY/MS", spare=2),
    Column("groups", "GROUPS"),
    Column("subscriptions", "SUBS", spare=3),
    Column("published", "PUBLISHED"),
    Column("delivered", "DELIVERED"),
    Column("dropped", "DROPPED"),
    Column("gaps", "GAPS", spare=1),
)

# Equal ends are one row: the pid and the time are the last one's.
EXITS: Final = (
    Column("worker", "WORKER", text),
    Column("ids", "ID", numbers),
    Column("pid", "PID", spare=1),
    Column("times", "TIMES", "×{}".format),
    Column("time", "LAST", moment, spare=2),
    Column("ago", "AGO", duration),
    Column("reason", "REASON", text),
)

WAITS: Final = (
    Column("worker", "WORKER", text),
    Column("id", "ID"),
    Column("retry_in", "NEXT TRY IN", duration),
    Column("reason", "REASON", text),
)

CONNECTIONS: Final = (
    Column("pid", "PID"),
    Column("worker", "WORKER", text),
    Column("id", "ID"),
    Column("transport", "TRANS", text, 3),
    Column("protocol", "PROTO", text),
    Column("local", "LOCAL", text),
    Column("remote", "REMOTE", text),
    Column("recv_queue", "RECV-Q", size, 2),
    Column("send_queue", "SEND-Q", size, 1),
    Column("bytes_read", "READ", size, 4),
    Column("bytes_written", "WRITTEN", size, 5),
    Column("status", "STATUS", text),
    Column("age", "AGE", duration, 1),
)

INSTANCES: Final = (
    Column("name", "NAME", text),
    Column("pid", "PID"),
    Column("workers", "PROCESSES"),
    Column("generation", "GEN"),
    Column("uptime", "UPTIME", duration),
    Column("target", "TARGET", text),
    Column("version", "VERSION", text),
)


@dataclass(slots=True)
class Table:
    """Lines above, a heading per column, rows of cells, and as last row the totals if there are
    any."""

    columns: Sequence[Column]
    rows: list[list[str]]
    above: Sequence[str] = ()
    totals: list[str] | None = None

    @property
    def lines(self) -> list[list[str]]:
        headings = [column.heading for column in self.columns]
        return [headings, *self.rows, *([self.totals] if self.totals else [])]


def table(
    columns: Sequence[Column],
    rows: Iterable[Row],
    above: Sequence[str] = (),
    totals: Row | None = None,
) -> Table:
    """The rows as text. What is missing shows as a dash, so that every line has every column."""
    last = None if totals is None else ["total", *_cells(columns[1:], totals)]
    return Table(columns, [_cells(columns, row) for row in rows], above, last)


def _cells(columns: Sequence[Column], row: Row) -> list[str]:
    return [column.show(row.get(column.key)) for column in columns]


def status_tables(status: Row, log: str) -> list[Table]:
    """The whole answer of the status command. log: where the log is, and what says so."""
    arbiter = status["arbiter"]
    above = [
        f"{text(status['name'])}  gworker {text(status['version'])}, "
        f"{text(status.get('core'))} core"
        f"  {text(status['state'])}  generation {number(status['generation'])}",
        f"arbiter pid {arbiter['pid']}  up {duration(arbiter.get('uptime'))}"
        f"  rss {size(arbiter.get('rss'))}  cpu {number(arbiter.get('cpu_percent'))}%",
        f"log {text(log)}",
    ]
    if (broker := status.get("broker")) and broker.get("state") != "idle":
        above.append(_broker(broker))
    tables = [table(STATUS, status["workers"], above, status.get("totals"))]
    if used := [row for row in status["workers"] if row.get("messages")]:
        rows = [{**row, **row["messages"]} for row in used]
        totals = (status.get("totals") or {}).get("messages")
        tables.append(table(MESSAGES, rows, ["messages between processes"], totals))
    if waits := [row for row in status["workers"] if row.get("reason")]:
        tables.append(table(WAITS, waits, ["failed, and waiting for the next try"]))
    if exits := status.get("exits"):
        tables.append(table(EXITS, _grouped(exits, time.time()), ["last exits"]))
    last = status.get("last_reload") or {}
    if last.get("ok") is not None:
        seconds = duration(last.get("seconds"))
        moved, closed = number(last.get("handed_over")), number(last.get("closed"))
        done = f"ok in {seconds}, connections: {moved} handed over, {closed} closed"
        failed = f"failed after {seconds}: {text(last.get('error'))}"
        how = done if last["ok"] else failed
        tables.append(Table((), [], [f"last reload: {how}"]))
    return tables


def _broker(row: Row) -> str:
    words = [f"broker {text(row['url'])}"]
    if row.get("state"):
        words.append(text(row["state"]))
    if row.get("pid"):
        words += [
            f"pid {row['pid']}",
            f"up {duration(row.get('uptime'))}",
            f"rss {size(row.get('rss'))}",
            f"cpu {number(row.get('cpu_percent'))}%",
        ]
    if row.get("reason"):
        words.append(text(row["reason"]))
    if row.get("retry_in"):
        words.append(f"next try in {duration(row['retry_in'])}")
    return "  ".join(words)


def _grouped(exits: Sequence[Row], now: float) -> list[Row]:
    # One row for all ends of a Worker's processes with the same reason, in the order of the last
    # ones.
    groups: dict[tuple[str, str], list[Row]] = {}
    for each in exits:
        key = each["worker"], each["reason"]
        groups[key] = [*groups.pop(key, []), each]
    return [
        {
            **group[-1],
            "ids": [each["id"] for each in group],
            "times": len(group),
            "ago": max(0.0, now - group[-1]["time"]),
        }
        for group in groups.values()
    ]


def render(tables: Iterable[Table], out: TextIO) -> None:
    if out.isatty():
        _draw(tables, out)
    else:
        for position, each in enumerate(tables):
            out.write("\n" if position else "")
            out.writelines(f"{line}\n" for line in each.above)
            if each.columns:
                write_aligned(partial(list, each.lines), out, each.columns)
    out.flush()


MOST_DRAWN = 500  # rows that a terminal gets drawn; more are aligned columns, as elsewhere


def stream(columns: Sequence[Column], rows: Iterable[Row], out: TextIO) -> None:
    """Print the table of `rows`, which are iterated over several times and never all kept."""
    few = list(itertools.islice(rows, MOST_DRAWN + 1)) if out.isatty() else None
    if few is not None and len(few) <= MOST_DRAWN:
        render([table(columns, few)], out)
        return
    headings = [column.heading for column in columns]
    write_aligned(
        lambda: itertools.chain([headings], (_cells(columns, row) for row in rows)), out, columns
    )


def write_aligned(
    lines: Callable[[], Iterable[Sequence[str]]], out: TextIO, columns: Sequence[Column] = ()
) -> None:
    """Print `lines()` as columns, two spaces apart. It is called twice: for the widths, then for
    the text."""
    widths: list[int] = []
    for line in lines():
        widths = [max(each) for each in itertools.zip_longest(widths, map(len, line), fillvalue=0)]
    is_right = [column.right for column in columns] or [False] * len(widths)
    for line in lines():
        cells = zip(line, widths, is_right, strict=True)
        shown = (cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells)
        out.write("  ".join(shown).rstrip() + "\n")


def _draw(tables: Iterable[Table], out: TextIO) -> None:
    from rich.console import Console

    console = Console(file=out, highlight=False)
    for each in tables:
        for line in each.above:
            console.print(line, style="bold", markup=False)
        if each.columns:
            _draw_table(fitting(each, console.width), console)


def _draw_table(each: Table, console: Any) -> None:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD, show_footer=each.totals is not None, pad_edge=False)
    for column, total in zip(each.columns, each.totals or [""] * len(each.columns), strict=True):
        justify: Literal["right", "left"] = "right" if column.right else "left"
        drawn.add_column(column.heading, Text(total), justify=justify, overflow="fold")
    for row in each.rows:
        drawn.add_row(*map(Text, row))  # Text: a name like "[red]" is no markup
    console.print(drawn)


def fitting(each: Table, width: int) -> Table:
    """The table without the columns that matter least, as many as it takes to fit into `width`."""
    columns = each.columns
    # As drawn, three spaces part the columns.
    widths = [max(map(len, cells)) + 3 for cells in zip(*each.lines, strict=True)]
    keep = sorted(range(len(columns)), key=lambda index: (columns[index].spare, -index))
    while sum(widths[index] for index in keep) > width and columns[keep[-1]].spare:
        keep.pop()
    chosen = itemgetter(*sorted(keep))
    totals = list(chosen(each.totals)) if each.totals else None
    return Table(chosen(columns), [list(chosen(row)) for row in each.rows], each.above, totals)
