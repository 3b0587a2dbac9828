"""What the commands print: one kind of table in two renderings.

A `Table` is text already: title lines, headings, rows. A terminal gets it drawn by rich; anything
else gets aligned columns, one line per row at full width, without colour, so that grep, awk and
diff can work on it. The aligned columns are not rich's, which keeps every row in memory: lists of
connections are long.

rich is imported by the function that draws and nowhere else: the arbiter loads this file's
neighbours.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Final, Literal, TextIO

from gworker.cli.figures import duration, moment, number, size, text

Row = Mapping[str, Any]  # JSON


@dataclass(frozen=True, slots=True)
class Column:
    key: str
    heading: str
    show: Callable[[Any], str] = number
    spare: int = 0  # columns are left out on a narrow terminal, highest number first; 0 stays

    @property
    def right(self) -> bool:
        return self.show not in (text, moment)


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
