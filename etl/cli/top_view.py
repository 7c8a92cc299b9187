"""What `etl top` shows of an overview: rates and trend, levels, processors, workers, failures.

Everything that comes from a log, a store or a pipeline is made printable first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from etl.cli.tables import Column, end_of, near, table
from etl.pipeline.plan import INPUT
from etl.queue import identity
from etl.text import first_line, percent, printable

__all__ = ["view"]

Overview = Mapping[str, Any]

KEYS = "q quit · p pause · r resume"

WIDE = 110
"""Columns of a terminal from which on parts stand beside each other."""

GAP = 3
"""Columns between parts that stand beside each other."""

LOW = 32
"""Lines of a terminal below which charts are flatter."""

LISTED = 20
"""Rows of a table at most, where no terminal is in the way of more."""

BLOCKS = " ▁▂▃▄▅▆▇█"

STATES = {
    "working": "green",
    "idle": "green",
    "late": "red",
    "paused": "bold yellow",
    "draining": "yellow",
    "absent": "bold red",
}
"""Styles of the states of a store and of its workers."""

WORDS = {"absent": "no worker runs"}
"""What a state is called, if not by its name."""

LEVELS = {"DEBUG": "dim", "INFO": "cyan", "WARNING": "yellow", "ERROR": "red"}
LEVELS |= {"CRITICAL": "bold magenta", "OTHER": "dim"}
"""Styles of levels."""


def view(
    seen: Overview, name: str, *, width: int, height: int | None = None, keys: bool = False
) -> Group:
    """Return an overview as what a terminal shows.

    Args:
        seen: See `etl.analysis.overview`.
        name: What the store is called.
        width: Columns of the terminal.
        height: Lines of it, of which no more are used; None for as many as there are.
        keys: Whether keys are read, so that they are named.
    """
    wide, low = width >= WIDE, height is not None and height < LOW
    half = (width - GAP) // 2 if wide else width
    trend = _trend(seen, half, rows=2 if low else 4)
    levels = _level_bars(seen["levels"], half) if wide else _level_words(seen["levels"], width)
    nodes = _in_order(seen["pipeline"])
    workers, kinds = seen["workers"], seen["kinds"]
    used = 3 + (max(4 if low else 6, 1 + len(seen["levels"])) if wide else 6 if low else 8)
    left = None if height is None else height - used - (4 if wide else 6)
    if wide:
        above, below = _shares([max(len(nodes), len(workers)), len(kinds)], left)
        most = [above, above, below]
    else:
        most = _shares([len(nodes), len(workers), len(kinds)], left)
    processors = _part("processors", nodes, PROCESSORS, most[0])
    running = _part("workers", workers, WORKERS, most[1])
    body: list[RenderableType] = [trend, levels, processors, running]
    if wide:
        body = [_beside(trend, levels, half), _beside(processors, running, half)]
    failures = _part(_failures(seen), kinds, KINDS, most[2])
    head = _head(seen, name, width, keys=keys)
    return Group(head, _identity(seen), _speed(seen), *body, failures)


def _in_order(pipeline: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the processors in an order in which lines may reach them."""
    nodes = {one["name"]: one for one in pipeline["nodes"] if one["name"] != INPUT}
    before: dict[str, set[str]] = {name: set() for name in nodes}
    for first, then in pipeline["edges"]:
        if first in nodes and then in nodes:
            before[then].add(first)
    try:
        return [nodes[name] for name in TopologicalSorter(before).static_order()]
    except CycleError:  # of two versions of a pipeline
        return list(nodes.values())


def _head(seen: Overview, name: str, width: int, *, keys: bool) -> Text:
    """Return the store's name and state, the keys and the time, over the whole width."""
    state = seen["state"]
    shown = end_of(printable(name), max(12, width - 70))
    word = WORDS.get(state, str(state))
    left = Text.assemble((shown, "bold"), "  ", (word, STATES[state]))
    if state == "paused":
        reason = f": {printable(seen['reason'], 60)}" if seen["reason"] else ""
        left.append(f" by {'a worker' if seen['paused_by'] == 'worker' else 'an operator'}{reason}")
    right = Text(f"{KEYS}   " if keys else "", "dim").append(
        time.strftime("%H:%M:%S", time.localtime(seen["at"]))
    )
    left.append(" " * max(2, width - left.cell_len - right.cell_len)).append_text(right)
    left.no_wrap, left.overflow = True, "ellipsis"
    return left


def _identity(seen: Overview) -> Text:
    totals = (identity(seen["totals"]), "bold")
    mark = ("✓", "green") if seen["conserved"] else ("✗ lines are missing", "bold red")
    first, last = (totals, mark) if seen["conserved"] else (mark, totals)
    return Text.assemble(first, " ", last, no_wrap=True, overflow="ellipsis")


def _speed(seen: Overview) -> Text:
    """Return the rates, and how long the oldest line and the last one have to wait."""
    parts = [f"{seen['rate']:,.1f} lines/s", f"{seen['rate_in']:,.1f} in"]
    if seen["totals"]["waiting"]:
        parts.append(f"the oldest waits for {_span(seen['oldest'])}")
    if seen["empty_in"] is not None:
        parts.append(f"empty in {_span(seen['empty_in'])}")
    text = Text(" · ".join(parts), no_wrap=True, overflow="ellipsis")
    return text.append(" · the backlog does not fall", "yellow") if seen["growing"] else text


def _trend(seen: Overview, width: int, *, rows: int) -> Group:
    """Return rate and backlog of the last minutes, as two charts beside each other."""
    history, part = seen["history"], max(10, (width - GAP) // 2)
    marks = history["seconds"]
    title = f"the last {_span(2 * marks[-1] - marks[-2] - marks[0])}" if marks[1:] else "no history"
    rate = _chart("lines/s", history["rate"], part, rows, "green")
    waiting = _chart("waiting", history["waiting"], part, rows, "yellow")
    return Group(Rule(title, align="left", style="dim"), _beside(rate, waiting, part))


def _chart(title: str, values: Sequence[float], width: int, rows: int, style: str) -> Text:
    """Return values as columns of blocks, with their largest and their last."""
    top = max(values, default=0.0)
    bars = _fit(values, width)
    lines = []
    for row in reversed(range(rows)):
        parts = (value / (top or 1.0) * rows * 8 - row * 8 for value in bars)
        lines.append("".join(BLOCKS[max(0, min(8, round(part)))] for part in parts))
    words = f"{title} {values[-1] if values else 0:,.0f} · at most {top:,.0f}"
    return Text.assemble(words[:width], "\n", ("\n".join(lines), style), no_wrap=True)


def _fit(values: Sequence[float], count: int) -> list[float]:
    """Return as many values as there is room for, each the largest of those that it stands for."""
    if not values:
        return [0.0] * count
    ends = [round((place + 1) * len(values) / count) for place in range(count)]
    starts = [place * len(values) // count for place in range(count)]
    pairs = zip(starts, ends, strict=True)
    return [max(values[start : max(end, start + 1)]) for start, end in pairs]


def _level_bars(levels: Sequence[tuple[str, int]], width: int) -> Group:
    """Return how many lines are of each level, as bars."""
    total = sum(count for _, count in levels) or 1
    digits = max((len(f"{count:,}") for _, count in levels), default=1)
    room = max(4, width - digits - 17)
    rows = []
    for name, count in levels:
        bar = "█" * (round(count / total * room) or bool(count))
        row = Text.assemble((f"{name:<8}", LEVELS[name]), f" {count:>{digits},} ")
        rows.append(row.append(f"{percent(count, total):>5} ").append(bar, LEVELS[name]))
    return Group(Rule("levels", align="left", style="dim"), *rows)


def _level_words(levels: Sequence[tuple[str, int]], width: int) -> Group:
    """Return how many lines are of each level, on one line."""
    text = Text(" · ", no_wrap=True, overflow="ellipsis").join(
        Text.assemble((name, LEVELS[name]), f" {count:,}") for name, count in levels if count
    )
    text.truncate(width, overflow="ellipsis")
    return Group(Rule("levels", align="left", style="dim"), text)


def _part(
    title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], most: int
) -> Group:
    """Return a titled table of the first rows; the title says if there are more."""
    more = f" · {most:,} of {len(rows):,}" if most < len(rows) else ""
    head = Rule(f"{title}{more}", align="left", style="dim")
    if not rows:
        return Group(head, Text("none", "dim"))
    return Group(head, table(rows[:most], columns)) if most else Group(head)


def _beside(left: RenderableType, right: RenderableType, width: int) -> Table:
    """Return two parts of one width beside each other."""
    grid = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    grid.add_column(width=width, no_wrap=True)
    grid.add_column(width=width, no_wrap=True)
    grid.add_row(left, right)
    return grid


def _shares(wanted: Sequence[int], room: int | None) -> list[int]:
    """Return how many rows each table gets: all, or in turn one more until there is no room."""
    if room is None:
        return [min(rows, LISTED) for rows in wanted]
    shares = [0] * len(wanted)
    while sum(shares) < room and shares != list(wanted):
        for place in reversed(range(len(wanted))):
            if sum(shares) < room and shares[place] < wanted[place]:
                shares[place] += 1
    return shares


def _failures(seen: Overview) -> str:
    more = f", {seen['discarded']:,} discarded" if seen["discarded"] else ""
    return f"dead letters: {seen['open']:,} open{more}, {seen['dead_last_minute']:,} in a minute"


def _span(seconds: float) -> str:
    """Return a time in two units at most: `38 s`, `4 min 12 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600:,} h" + (f" {whole % 3600 // 60} min" if whole % 3600 >= 60 else "")


def _spark(values: Sequence[int]) -> str:
    """Return counts as one line of blocks."""
    top = max(values, default=0)
    return "".join("·" if not one else BLOCKS[max(1, round(one / top * 8))] for one in values)


def _number(title: str, name: str) -> Column:
    value = lambda row: f"{row[name]:,}" if row[name] else "·"  # noqa: E731
    return Column(title, value, right=True, width=len(title))


def _rate(row: Mapping[str, Any]) -> str:
    return f"{row['rate']:,.1f}"


PROCESSORS = (
    Column("processor", "name", width=1),
    _number("received", "received"),
    _number("emitted", "emitted"),
    _number("filtered", "filtered"),
    _number("dead", "open"),
    Column("busy", lambda row: percent(row["share"]), right=True),
)

WORKERS = (
    Column("worker", "name"),
    Column("state", width=7),
    Column("lines/s", _rate, right=True),
    Column("for", lambda row: "" if row["for"] is None else _span(row["for"]), right=True),
    Column("batch", "batch"),
    Column("seen", lambda row: f"{_span(row['heartbeat'])} ago", right=True),
)

KINDS = (
    Column("open", "lines", right=True),
    Column("last 12 min", lambda row: _spark(row["last_minutes"]), width=12),
    Column("processor"),
    Column("why", lambda row: first_line(row["reason"])),
    Column("source", lambda row: end_of(near(row["source"]), 24)),
    Column("sample"),
)
