"""Saved results of the benchmark as Plotly figures, in the look of those of etl.

Each takes rows as `results.load` returns them; `draw` chooses the table. Polars, the bar, is
orange; etl is blue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from etl.analysis.figures.look import COLOURS, OTHER, Figure, figure, label, labels
from etl.notebook.batch.tables import Note

Rows = Sequence[Mapping[str, Any]]

MEMORY_TARGET = 300
"""MB that a run may take."""

SIZES = [digit * 10**zeros for zeros in range(1, 6) for digit in (1, 2, 5)]
"""Values of a logarithmic axis that have a label."""


def draw(tables: Mapping[str, Rows], name: str) -> Figure | Note:
    """Return a figure of saved tables by its name, or a note if its table is not among them."""
    table, drawn = DRAWN[name]
    if not tables.get(table):
        return Note(f"not measured here: `run.py --save FOLDER` writes {table}.json")
    return drawn(tables[table])


def colour(name: str) -> str:
    """Return the colour of a contender."""
    if name.startswith("etl"):
        return COLOURS["blue"]
    return COLOURS["orange"] if name.startswith("polars") else OTHER


def speed(rows: Rows) -> Figure:
    """Draw lines a second of each contender, the fastest on top, as of its largest input."""
    largest = {row["name"]: row for row in _by_lines(rows)}
    order = sorted(largest.values(), key=lambda row: -row["rate"])
    subtitle = "Whole processes, from start to exit, with the largest input that each was given"
    return _rates(order, "Lines a second", subtitle)


def processors(rows: Rows) -> Figure:
    """Draw lines a second by the number of processors that pass rows on."""
    named = [{**row, "name": f"etl, {row['name']}"} for row in rows]
    subtitle = "Processors between parsing and writing that pass rows on"
    return _rates(named, "Lines a second by number of processors", subtitle)


def growth(rows: Rows) -> Figure:
    """Draw lines a second over the lines of the input, both logarithmic."""
    drawn = _by_size(rows, lambda row: row["rate"], "%{y:,.0f} lines/s")
    axes = {"xaxis": _log("lines of the input"), "yaxis": _log("lines a second")}
    return _sized(drawn, "Speed by size of the input", axes)


def memory(rows: Rows) -> Figure:
    """Draw the memory of the process tree over the lines of the input."""
    drawn = _by_size(rows, lambda row: row["tree"], "%{y:,.0f} MB")
    sizes = [row["lines"] for row in _by_lines(rows)]
    target = go.Scatter(
        name=f"target of etl: {MEMORY_TARGET} MB",
        mode="lines",
        x=[sizes[0], sizes[-1]],
        y=[MEMORY_TARGET, MEMORY_TARGET],
        line={"color": OTHER, "dash": "dot"},
        hoverinfo="skip",
    )
    axis = {"type": "log", "title": {"text": "MB at most"}, "tickvals": SIZES, "tickformat": ","}
    axes = {"xaxis": _log("lines of the input"), "yaxis": axis}
    return _sized([*drawn, target], "Memory by size of the input", axes)


def features(rows: Rows) -> Figure:
    """Draw what each feature takes of the CPU time: what is saved without it.

    The first row is of the run with all of them.
    """
    base, *others = rows
    saved = [1 - row["cpu"] / base["cpu"] for row in others]
    names = labels(row["name"] for row in others)
    bars = go.Bar(
        orientation="h",
        x=saved,
        y=names,
        marker_color=COLOURS["blue"],
        text=[f"  {share:+.1%}" for share in saved],
        customdata=[1 - row["wall"] / base["wall"] for row in others],
        hovertemplate="%{y}: %{x:+.1%} of the CPU time, %{customdata:+.1%} of the time is saved"
        "<extra></extra>",
    )
    lines = f"Shares of the {base['cpu']:.2f} CPU seconds of {base['lines']:,} lines"
    return _bars(bars, names, "What is saved with a feature off", lines)


def queues(rows: Rows) -> Figure:
    """Draw puts, and items taken and acknowledged, a second, of each queue."""
    rows = [row for row in rows if "puts" in row]
    names = labels(f"{row['name']} ({row['survives']})" for row in rows)
    parts = (("puts", "put", "blue"), ("takes", "get and acknowledge", "sky"))
    drawn = [
        go.Bar(
            name=title,
            orientation="h",
            x=[row[key] for row in rows],
            y=names,
            marker_color=COLOURS[tone],
            text=[f"  {row[key]:,.0f}" for row in rows],
            hovertemplate="%{y}: %{x:,.0f} a second<extra>" + title + "</extra>",
        )
        for key, title, tone in parts
    ]
    subtitle = "One by one; in brackets the end of what a put has survived"
    return _bars(drawn, names, "Items of durable queues a second", subtitle, rows=1, height=44)


def processes(rows: Rows) -> pd.DataFrame:
    """Return the CPU seconds and the memory of each process, as a table."""
    columns = ("contender", "lines", "process", "cpu_seconds", "peak_mb")
    found = [
        (row["name"], row["lines"], one["name"], one["cpu"], one["peak"])
        for row in rows
        for one in row["processes"]
    ]
    return pd.DataFrame(found, columns=columns)


DRAWN: dict[str, tuple[str, Callable[[Rows], Figure]]] = {
    "speed": ("contenders", speed),
    "growth": ("growth", growth),
    "memory": ("growth", memory),
    "processors": ("processors", processors),
    "features": ("features", features),
    "queues": ("queues", queues),
}
"""Figures by name: the table that each is of, and the function that draws it."""


def _by_size(rows: Rows, value: Callable[[Mapping[str, Any]], float], shown: str) -> list:
    """Return a line over the sizes for each contender."""
    names = dict.fromkeys(row["name"] for row in rows)
    others = iter([COLOURS["green"], COLOURS["pink"], COLOURS["sky"], COLOURS["red"]] * 9)
    return [
        go.Scatter(
            name=label(name),
            mode="lines+markers",
            x=[row["lines"] for row in own],
            y=[value(row) for row in own],
            line={"color": next(others) if colour(name) == OTHER else colour(name)},
            hovertemplate="%{x:,} lines: " + shown + "<extra>%{fullData.name}</extra>",
        )
        for name in names
        for own in [_by_lines(row for row in rows if row["name"] == name)]
    ]


def _by_lines(rows: Iterable[Mapping[str, Any]]) -> Rows:
    """Return rows by the size of their input, the smallest first."""
    return sorted(rows, key=lambda row: row["lines"])


def _log(title: str) -> dict[str, Any]:
    """Return a logarithmic axis."""
    return {"type": "log", "title": {"text": title}, "dtick": 1, "exponentformat": "power"}


def _sized(drawn: list, title: str, axes: dict[str, Any]) -> Figure:
    return figure(drawn, title=title, rows=1, height=400, dark=False, **axes)


def _rates(rows: Rows, title: str, subtitle: str) -> Figure:
    """Return bars of the lines a second of rows."""
    names = labels(row["name"] for row in rows)
    bars = go.Bar(
        orientation="h",
        x=[row["rate"] for row in rows],
        y=names,
        marker_color=[colour(row["name"]) for row in rows],
        text=[f"  {row['rate']:,.0f}" for row in rows],
        customdata=[[row["lines"], row["cpu"], row["tree"]] for row in rows],
        hovertemplate="%{y}: %{x:,.0f} lines/s; %{customdata[0]:,} lines, "
        "%{customdata[1]:.1f} CPU s, %{customdata[2]:.0f} MB<extra></extra>",
    )
    return _bars(bars, names, title, subtitle)


def _bars(
    bars: Any, names: Sequence[str], title: str, subtitle: str, *, rows: int = 0, height: int = 30
) -> Figure:
    """Return bars, one below the other in their order."""
    axis = {"type": "category", "categoryarray": names, "showgrid": False}
    ends = [0.0, *(x for bar in (bars if isinstance(bars, list) else [bars]) for x in bar.x)]
    room = (max(ends) - min(ends) or 1) * 0.3
    return figure(
        bars,
        title=title,
        subtitle=subtitle,
        rows=rows,
        height=130 + height * max(3, len(names)),
        xaxis={"visible": False, "range": [min(ends) - room * (min(ends) < 0), max(ends) + room]},
        yaxis=axis | {"range": [len(names) - 0.5, -0.5]},
        dark=False,
    )
