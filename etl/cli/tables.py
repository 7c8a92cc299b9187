"""What the command line prints: JSON, tables, summaries. Text from logs is made harmless first.

A table is described by `Column`s, once: `GROUPS`, `DEAD_LETTERS`, `TRACES`, ...
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from etl.cli.commands import relative
from etl.queue.check import Check
from etl.records.columns import COUNTERS
from etl.text import clock, first_line, percent, printable, say

Row = Mapping[str, Any]

MOST = 100
"""Characters of a text in a table; the terminal may have room for less."""

MULTILINE = ("line", "message", "traceback")
"""Fields of a dead letter whose line breaks are shown as such."""

STYLES = dict.fromkeys(("dead", "failed", "killed", "refused"), "red")
STYLES |= {"running": "green", "gate": "yellow", "filtered": "dim"}
"""Styles of states."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        title: Its heading.
        value: The field it shows, or a function of the row; by default the field named `title`.
        right: Whether it is aligned to the right, as numbers are.
        width: Least number of characters; 0 for a column that gives way to the others.
        wrap: Whether its text goes on below where there is no room, rather than being cut.
    """

    title: str
    value: str | Callable[[Row], object] = ""
    right: bool = False
    width: int = 0
    wrap: bool = False

    def cell(self, row: Row) -> Text:
        """Return what the column shows of a row, on one line, cut where there is no room."""
        value = self.value(row) if callable(self.value) else row[self.value or self.title]
        number = isinstance(value, int | float)
        most = None if self.wrap else MOST
        text = "" if value is None else f"{value:,}" if number else printable(str(value), most)
        style = STYLES.get(text, "") if self.title == "state" else ""
        return Text(
            text, style, no_wrap=not self.wrap, overflow="fold" if self.wrap else "ellipsis"
        )


def table(rows: Sequence[Row], columns: Sequence[Column], *, red: str = "") -> Table:
    """Return a table with a line per row; a row whose field `red` is not zero is red."""
    padding = 2 if len(columns) < 8 else 1
    shown = Table(box=None, padding=(0, padding, 0, 0), header_style="bold")
    for column in columns:
        shown.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=column.right or column.width > 0,
            min_width=column.width,
            overflow="ellipsis",
        )
    for row in rows:
        cells = [column.cell(row) for column in columns]
        shown.add_row(*cells, style="red" if row.get(red) else None)
    return shown


def _count(name: str, row: Row) -> str:
    """Return a count in at most seven characters; a dot for none."""
    number = row[name]
    return f"{number / 1e6:.3f}M" if number >= 1_000_000 else f"{number:,}" if number else "·"


def _micros(name: str, row: Row) -> str:
    """Return seconds as microseconds with three digits, or as many as are before the point."""
    micros = row[name] * 1e6
    return f"{micros:.3g}" if micros < 999.5 else f"{micros:,.0f}"


def _reason(row: Row) -> str:
    why = f"{row['error'] or row['code']}: {first_line(row['message'])}"
    return f"DAMAGED in the store; {why}" if row.get("damaged") else why


def _took(row: Row) -> str:
    return "" if row["seconds"] is None else f"{row['seconds']:,.1f} s"


def end_of(path: str, most: int = 36) -> str:
    """Return the end of a path, which tells most of it."""
    return path if len(path) <= most else f"…{path[1 - most :]}"


def near(place: str) -> str:
    """Return a path as people read it: relative to the current folder, if it is below it."""
    return printable(relative(place))


_number = partial(Column, right=True)

PERCENTILES = (
    _number("p50 µs", partial(_micros, "p50")),
    _number("p99 µs", partial(_micros, "p99")),
)
"""Microseconds per line."""

PROCESSORS = (
    Column("processor", lambda row: printable(row["processor"], 20), width=1),
    *(_number(name, partial(_count, name)) for name in COUNTERS.drop("seconds").names),
    _number("busy s", lambda row: f"{row['seconds']:.2f}"),
    *PERCENTILES,
)

GROUPS = (
    _number("lines"),
    Column("fingerprint"),
    Column("source", lambda row: near(row["source"])),
    Column("processor"),
    Column("why", _reason),
    Column("sample"),
)

DEAD_LETTERS = (
    _number("id", lambda row: str(row["id"])),
    Column("source"),
    _number("line", "line_number"),
    Column("processor"),
    Column("why", _reason),
    Column("text", "line"),
)

TRACES = (
    _number("line", lambda row: str(row["line_number"])),
    Column("text", "line"),
    Column("path", lambda row: " → ".join(row["path"])),
    Column("state"),
    _number("µs", lambda row: f"{row['seconds'] * 1e6:.1f}"),
)

SOURCES = (
    Column("file", lambda row: end_of(near(row["source"]))),
    _number("records", width=7),
    Column("format", "formats"),
    _number("matched", lambda row: percent(row["matched"]), width=7),
    _number("generic", lambda row: percent(row["generic"]), width=7),
    _number("no time", lambda row: percent(row["timeless"]), width=7),
)
"""How each source was read."""

PARTS = (
    Column("part"),
    *map(_number, ("checked", "unchecked", "damaged")),
    _number("lines affected", "lines"),
)
"""What `etl check` has verified."""

FINDINGS = (
    Column("part"),
    Column("name", lambda row: near(row["name"]), wrap=True),
    Column("source", lambda row: near(row["source"])),
    _number("lines"),
    Column("problem", wrap=True),
)
"""What is damaged or missing."""

RUNS = (
    Column("run", width=20),
    Column("kind", width=5),
    Column("state", width=8),
    Column("started (UTC)", lambda row: clock(row["started_at"])[:16], width=16),
    _number("took", _took),
    _number("accepted"),
    _number("dead"),
    Column("sources", lambda row: ", ".join(map(near, row["sources"] or [row["store"] or ""]))),
)

BATCHES = (
    Column("file"),
    Column("state"),
    *map(_number, ("accepted", "done", "dead", "seconds")),
    Column("why", "error"),
)


FORMATS = (
    Column("format", width=14),
    Column("what writes it", lambda row: row["about"].replace("`", ""), wrap=True),
    Column("from", lambda row: row["file"] or ""),
)

CANDIDATES = (
    Column("format", width=14),
    _number("fit it", lambda row: "" if row["fit"] is None else percent(row["fit"])),
    _number("read by it", lambda row: percent(row["read"])),
)

UNFIT = (_number("line", lambda row: str(row["line_number"])), Column("text", "line"))

ROWS = {
    "line_number": _number("line", lambda row: str(row["line_number"])),
    "line_count": _number("lines", "line_count"),
    "timestamp": Column("timestamp", lambda row: _moment(row["timestamp"]), width=19),
    "level": Column("level"),
    "logger": Column("logger", lambda row: printable(row["logger"] or "", 24)),
    "message": Column("message"),
    "line": Column("text", "line"),
}
"""What the table of a log's first rows may show, by the column of the row."""


def row_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns in which some of a log's rows have something to show."""
    usual = {"line_count": 1}
    said = {name for name in ROWS for row in rows if row[name] != usual.get(name)}
    return [ROWS[name] for name in ROWS if name in said - {"line" if "message" in said else ""}]


def _moment(value: datetime | None) -> str:
    """Return a time with the digits of its second that are not zero."""
    return f"{value:%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".") if value else ""


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    print(json.dumps(value, default=str))  # noqa: T201 - escapes what is not ASCII


def show_rows(
    key: str, rows: Sequence[Row], columns: Sequence[Column], *, as_json: bool, empty: str = ""
) -> None:
    """Print rows as a table, or as one JSON object with a list under `key`.

    Args:
        key: Their name in the object.
        rows: What to print.
        columns: Of the table.
        as_json: Whether to print the object.
        empty: Printed instead of a table without rows.
    """
    if as_json:
        print_json({key: rows})
    elif rows or not empty:
        Console().print(table(rows, columns))
    else:
        say(empty)


def show_dead_letter(dead_letter: Row) -> None:
    """Print all that is known of one dead letter, a field a line."""
    text = Text()
    for name, value in dead_letter.items():
        if value is None or value is False or (value == "" and name != "line"):
            continue
        shown = clock(value) if name.endswith("_at") else str(value)
        parts = shown.split("\n") if name in MULTILINE else [shown]
        body = "\n".join(map(printable, parts))
        text.append(f"{name}: ", "bold").append(f"\n{body}" if "\n" in body else body).append("\n")
    Console().print(text, soft_wrap=True)


def show_check(store: str, found: Check, *, as_json: bool) -> None:
    """Print what was verified of a store, and what of it is damaged or missing."""
    if as_json:
        print_json(found.to_dict() | {"store": store})
        return
    console = Console()
    console.print(table([{"part": part} | asdict(one) for part, one in found.parts.items()], PARTS))
    if found.findings:
        console.print()
        console.print(table([asdict(one) for one in found.findings], FINDINGS))
    damaged = sum(part.damaged for part in found.parts.values())
    if (more := damaged - len(found.findings)) > 0:
        console.print(Text(f"and {more:,} more", "dim"))
    result = ("whole ✓", "green") if found.whole else (f"not whole: {damaged:,} ✗", "bold red")
    console.print(Text.assemble(f"{near(store)} is ", result), soft_wrap=True)
