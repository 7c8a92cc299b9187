"""The figures of the control room: what happens now.

The frames are those of `metrics`. `charts` gives those of the screen as plain data, always
of one shape, so that a live figure is sent only what differs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from etl.analysis.figures.look import (
    FONT,
    GLYPHS,
    LEVELS,
    LEVELS_DARK,
    OTHER,
    SOFT,
    figure,
    label,
    labels,
)
from etl.records.result import INPUT

WINDOW = 120
"""Seconds that `throughput` shows."""

TICKS = ("0.1 µs", "1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s")

Edges = Iterable[tuple[str, str]]

Spec = dict[str, Any]


def levels(counts: Mapping[str, float], *, dark: bool = False) -> go.Figure:
    """Draw lines processed by level; keys that are no level's name are drawn last."""
    return _single(*_levels(counts), title="Processed by level", dark=dark)


def throughput(history: pd.DataFrame, *, now: float, dark: bool = False) -> go.Figure:
    """Draw lines a second and waiting lines over the last two minutes.

    Args:
        history: As `metrics.history` returns it.
        now: Unix seconds at the right edge.
        dark: For a dark page.
    """
    return _single(*_throughput(history, now), title="The last two minutes", dark=dark)


def latency(processors: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Draw p50, p95 and p99 of the time per line, in µs, of `metrics.processors`."""
    few = len(processors) and processors["p50"].isna().all()
    title = "Time per line: too few batches for percentiles" if few else "Time per line"
    return _single(*_latency(processors), title=title, dark=dark)


def graph(
    processors: pd.DataFrame, edges: Edges, *, lit: Sequence[str] = (), dark: bool = False
) -> go.Figure:
    """Draw the pipeline: darker nodes took more time, ringed ones had errors.

    Args:
        processors: As `metrics.processors` returns it.
        edges: Pairs of names, from the one before to the one after.
        lit: A line's path, drawn over the rest.
        dark: For a dark page.
    """
    traces, axes = _graph(processors, edges, lit)
    widest = max(Counter(traces[-1]["x"]).values(), default=1)
    return figure(traces, title="Pipeline", height=120 + 90 * widest, dark=dark, **axes)


def charts(
    levels: Sequence[tuple[str, float]],
    history: Mapping[str, Sequence[float]],
    *,
    dark: bool = False,
    width: int = 676,
    height: int = 172,
) -> Spec:
    """Return the control room's charts as plain `data` and `layout`, always of one shape.

    At the left lines by level, at the right lines a second (left axis) and waiting lines (right
    axis, dotted) over time.

    Args:
        levels: Names of levels with their lines, as `overview` returns them.
        history: `seconds` up to now, `rate` and `waiting`, as `overview` returns them.
        dark: For a dark page.
        width: Pixels.
        height: Pixels.
    """
    split = 0.44 if width > 480 else 0.4
    bars, bar_axes = _bars_across(levels, [94 / width, split - 46 / width], height, dark=dark)
    lines, line_axes = _over_time(
        history, [split + 40 / width, 1 - 44 / width], height, width=width, dark=dark
    )
    rate_ink, wait_ink = INKS[dark]
    soft = QUIET_ON[dark]
    title = TITLE | {"font": {"size": 13, "color": INK_ON[dark]}, "y": 1 - 2 / height}
    key = f"<b>Over time</b>   <span style='font-size:11.5px;color:{soft}'>"
    key += f"<span style='color:{rate_ink}'>━</span> lines/s"
    key += f"   <span style='color:{wait_ink}'>┅</span> waiting</span>" if width > WIDE else ""
    annotations = [
        title | {"text": "<b>Processed by level</b>", "x": 12 / width},
        title | {"text": key, "x": split + 6 / width},
    ]
    layout: Spec = LAYOUT | {"width": width, "height": height, "bargap": 0.4}
    layout |= {"font": {"family": FONT, "size": 11, "color": soft}, "annotations": annotations}
    return {"data": [bars, *lines], "layout": layout | bar_axes | line_axes}


def _bars_across(
    levels: Sequence[tuple[str, float]], domain: list[float], height: int, *, dark: bool
) -> tuple[Spec, Spec]:
    """Return a bar from left to right for each level, and its axes."""
    colours = LEVELS_DARK if dark else LEVELS
    counts = [count for _, count in levels]
    bars: Spec = {
        "type": "bar",
        "orientation": "h",
        "x": counts,
        "y": [f"{name}  {GLYPHS[name]}" if name in GLYPHS else "no level  –" for name, _ in levels],
        "text": [f"{count:,.0f}" for count in counts],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": [colours.get(name, OTHER) for name, _ in levels]},
        "hovertemplate": "%{y}: %{x:,} lines<extra></extra>",
        "xaxis": "x",
        "yaxis": "y",
    }
    across: Spec = {"domain": domain, "visible": False, "anchor": "y"}
    names: Spec = {"domain": [0.02, 1 - 36 / height], "type": "category", "autorange": "reversed"}
    names |= {"showgrid": False, "showline": False, "ticklabelstandoff": 6, "anchor": "x"}
    names |= {"tickfont": {"size": 12, "color": INK_ON[dark]}}
    axes: Spec = {
        "xaxis": AXIS | across | {"range": [0, 1.3 * max([10, *counts])]},
        "yaxis": AXIS | names,
    }
    return bars, axes


def _over_time(
    history: Mapping[str, Sequence[float]],
    domain: list[float],
    height: int,
    *,
    width: int,
    dark: bool,
) -> tuple[list[Spec], Spec]:
    """Return rate and backlog as lines, and their axes: one for the time, one for each of them."""
    seconds = list(history["seconds"])
    rate_ink, wait_ink = INKS[dark]
    line: Spec = {"type": "scatter", "mode": "lines", "x": seconds, "xaxis": "x2"}
    rate = line | {"y": list(history["rate"]), "yaxis": "y2", "name": "lines/s"}
    rate |= {"line": {"color": rate_ink, "width": 1.6}, "fill": "tozeroy"}
    rate |= {"fillcolor": _faded(rate_ink), "hovertemplate": "%{y:,.1f} lines/s"}
    waiting = line | {"y": list(history["waiting"]), "yaxis": "y3", "name": "waiting"}
    waiting |= {"line": {"color": wait_ink, "width": 1.6, "dash": "dot"}}
    waiting |= {"hovertemplate": "%{y:,} waiting"}
    start = 2 * seconds[0] - seconds[1] if len(seconds) > 1 else -120
    parts = 4 if width > WIDE else 2
    ticks = [start * part / parts for part in range(parts, -1, -1)]
    time: Spec = {"domain": domain, "anchor": "y2", "range": [start, 0], "showgrid": False}
    time |= {"tickmode": "array", "tickvals": ticks, "ticktext": [_before(tick) for tick in ticks]}
    left: Spec = {"domain": [24 / height, 1 - 46 / height]}
    right: Spec = {"overlaying": "y2", "side": "right", "showgrid": False}
    axes: Spec = {
        "xaxis2": time,
        "yaxis2": left | _amounts(history["rate"], rate_ink),
        "yaxis3": right | _amounts(history["waiting"], wait_ink),
    }
    return [rate, waiting], {name: AXIS | axis for name, axis in axes.items()}


WIDE = 560
"""Pixels of width from which on there is room for more words in the charts."""

INKS = {False: ("#0f766e", "#6f52c4"), True: ("#41c7b4", "#b39cf0")}
"""Colours of rate and backlog, on a light and on a dark page."""

QUIET_ON = {False: "#626262", True: "#a6a6a6"}

INK_ON = {False: "#1f1f1f", True: "#e4e4e4"}


def _faded(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"


def _amounts(values: Sequence[float], ink: str) -> Spec:
    """Return an axis with three ticks from 0 to a round number: `0`, `5k`, `10k`."""
    top = _nice(max([*values, 0]), 10)
    return {
        "anchor": "x2",
        "range": [0, top],
        "showline": False,
        "tickmode": "array",
        "tickvals": [0, top / 2, top],
        "ticktext": ["0", *(_short(value) for value in (top / 2, top))],
        "tickfont": {"color": ink},
    }


def _short(value: float) -> str:
    for unit, each in (("M", 1e6), ("k", 1e3)):
        if value >= each:
            return f"{value / each:g}{unit}"
    return f"{value:g}"


def _before(second: float) -> str:
    """Return a second before now as people read it: `−90 s`, `−15 m`, `now`."""
    if not round(second):
        return "now"
    if second > -120:
        return f"−{-second:.0f} s"
    return f"−{-second / 60:.3g} m" if second > -3600 else f"−{-second / 3600:.3g} h"


def refresh(widget: go.FigureWidget, old: Spec, new: Spec) -> None:
    """Send a `FigureWidget` what differs between two of `charts`, in one message."""
    with widget.batch_update():
        for trace, before, after in zip(widget.data, old["data"], new["data"], strict=True):
            changed = {key: value for key, value in after.items() if before.get(key) != value}
            if changed:
                trace.update(changed)
        before, after = old["layout"], new["layout"]
        widget.update_layout({key: after[key] for key in after if before.get(key) != after[key]})


CROWDED = 6
"""Columns of a pipeline beyond which names stand above and below the nodes in turn."""

TITLE = {
    "xref": "paper",
    "yref": "paper",
    "xanchor": "left",
    "yanchor": "top",
    "showarrow": False,
    "font": {"size": 12.5},
}

LAYOUT: Spec = {
    "template": "none",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "showlegend": False,
    "hovermode": "closest",
    "bargap": 0.35,
    "margin": {"l": 0, "r": 0, "t": 2, "b": 2},
}

LINE = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False}

AXIS = {"gridcolor": SOFT, "linecolor": SOFT, "zeroline": False, "fixedrange": True}


def _levels(counts: Mapping[str, float]) -> tuple[list[Spec], Spec]:
    names = [*LEVELS, *sorted(set(counts) - set(LEVELS))]
    values = [counts.get(name, 0) for name in names]
    bars = {
        "type": "bar",
        "x": labels(names),
        "y": values,
        "text": [f"{value:,.0f}" for value in values],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": [LEVELS.get(name, OTHER) for name in names]},
        "hovertemplate": "%{x}: %{y:,} lines<extra></extra>",
    }
    yaxis = {"range": [0, _nice(max(values, default=0) * 1.08, 10)], "nticks": 5}
    return [bars], {"yaxis": yaxis, "xaxis": {"type": "category"}}


def _throughput(history: pd.DataFrame, now: float) -> tuple[list[Spec], Spec]:
    totals = history[["done", "waiting"]].set_axis(
        history["second"].dt.as_unit("s").astype("int64")
    )
    window = range(int(now) - WINDOW, int(now) + 1)
    totals = totals.reindex(window, method="ffill").fillna(0)  # as they stood at each end
    rate = totals["done"].diff().clip(lower=0)[1:].tolist()
    waiting = totals["waiting"][1:].tolist()
    same = {"type": "scatter", "mode": "lines", "x": list(range(1 - WINDOW, 1))}
    traces = [
        same
        | {"y": rate, "name": "lines/s", "fill": "tozeroy", "line": {"color": "#2a9d8f"}}
        | {"fillcolor": "rgba(42,157,143,0.18)", "hovertemplate": "%{y:,.0f} lines/s"},
        same
        | {"y": waiting, "name": "waiting", "line": {"color": "#8a70d6", "dash": "dot"}}
        | {"hovertemplate": "%{y:,} waiting"},
    ]
    ticks = {"tickvals": [-90, -60, -30, 0], "ticktext": ["−90 s", "−60 s", "−30 s", "now"]}
    yaxis = {"range": [0, _nice(max(*rate, *waiting), 10)], "nticks": 5}
    return traces, {"xaxis": {"range": [1 - WINDOW, 0]} | ticks, "yaxis": yaxis}


def _latency(processors: pd.DataFrame) -> tuple[list[Spec], Spec]:
    timed = processors[processors["p50"] > 0]
    names = labels(timed["processor"])
    times = {share: (timed[share] * 1e6).tolist() for share in ("p50", "p95", "p99")}
    ranges = zip(times["p50"], times["p99"], strict=True)
    line = LINE | {"x": [end for low, high in ranges for end in (low, high, None)]}
    line |= {"y": [name for name in names for _ in range(3)]}
    line["line"] = {"color": "rgba(128,136,148,0.45)", "width": 4}
    marks = {"p50": ("circle", "#2f7fc1"), "p95": ("diamond", "#e3a008"), "p99": ("x", "#d81b60")}
    dots = [
        {"type": "scatter", "mode": "markers", "x": times[share], "y": names, "name": share}
        | {"marker": {"symbol": symbol, "color": colour, "size": 9}}
        | {"hovertemplate": f"%{{y}} {share}: %{{x:.3g}} µs<extra></extra>"}
        for share, (symbol, colour) in marks.items()
    ]
    found = [math.log10(value) for values in times.values() for value in values]
    ends = [math.floor(min(found, default=0)), max(3, math.ceil(max(found, default=3)))]
    decades = [10.0**power for power in range(-1, 8)]
    xaxis = {"type": "log", "range": ends, "tickvals": decades, "ticktext": TICKS}
    yaxis: Spec = {"type": "category", "range": [len(names) - 0.5, -0.5], "categoryorder": "array"}
    yaxis |= {"categoryarray": names, "showticklabels": bool(names)}
    return [line, *dots], {"xaxis": xaxis, "yaxis": yaxis}


def _graph(processors: pd.DataFrame, edges: Edges, lit: Sequence[str]) -> tuple[list[Spec], Spec]:
    pairs = list(edges)
    spots = _spots(pairs, [str(name) for name in processors["processor"]])
    rows = processors.set_index("processor").reindex(list(spots), fill_value=0)
    if INPUT in spots:
        starts = [after for before, after in pairs if before == INPUT]
        rows.loc[INPUT, "received"] = rows.loc[starts, "received"].sum()
    shares = rows["seconds"] / max(rows["seconds"].sum(), 1e-9)
    failed = (rows["errors"] > 0).tolist()
    nodes: Spec = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [x for x, _ in spots.values()],
        "y": [y for _, y in spots.values()],
        "text": [
            f"<b>{label(name, 14)}</b><br>{received:,}" + (f"<br>{dead:,} dead" if dead else "")
            for name, received, dead in rows[["received", "dead"]].itertuples()
        ],
        "textposition": _sides(spots),
        "textfont": {"size": 11, "shadow": "auto"},
        "cliponaxis": False,
        "hovertext": [f"{share:.0%} of the time" for share in shares],
        "hoverinfo": "text",
    }
    ring = ["#d9541e" if bad else "rgba(128,136,148,0.7)" for bad in failed]
    nodes["marker"] = {"size": 26, "color": shares.tolist(), "cmin": 0, "cmax": 1}
    nodes["marker"] |= {"line": {"color": ring, "width": [4 if bad else 1 for bad in failed]}}
    nodes["marker"] |= {"colorscale": "Blues"}
    path = [pair for pair in pairwise(lit) if set(pair) <= set(spots)]
    grey = {"color": "rgba(128,136,148,0.5)", "width": 2}
    traces = [_lines(pairs, spots, grey), _lines(path, spots, {"color": "#2a9d8f", "width": 6})]
    xaxis = {"visible": False, "range": [-0.08, 1.08]}
    high = 1.3 if "top center" in nodes["textposition"] else 1.05
    return [*traces, nodes], {"xaxis": xaxis, "yaxis": {"visible": False, "range": [-0.3, high]}}


def _spots(edges: list[tuple[str, str]], more: list[str]) -> dict[str, tuple[float, float]]:
    """Return places of nodes: across by distance from the start, one distance above each other."""
    names = list(dict.fromkeys([name for edge in edges for name in edge] + more))
    depth = dict.fromkeys(names, 0)
    for _ in names:  # no path is longer
        for before, after in edges:
            depth[after] = min(max(depth[after], depth[before] + 1), len(names))
    columns = sorted(set(depth.values()))
    spots = {}
    for place, column in enumerate(columns):
        here = [name for name in names if depth[name] == column]
        for number, name in enumerate(here):
            x = place / max(1, len(columns) - 1) if len(columns) > 1 else 0.5
            y = 1 - number / (len(here) - 1) if len(here) > 2 else 1 - (number + 0.5) / len(here)
            spots[name] = (x, y)
    return spots


def _sides(spots: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return on which side of its node each name stands: away from edges and other names."""
    columns = sorted({x for x, _ in spots.values()})
    crowded = len(columns) > CROWDED
    sides = []
    for x, y in spots.values():
        others = [other for at, other in spots.values() if at == x]
        alone = len(others) == 1
        top = crowded and columns.index(x) % 2 == 1 if alone else y == max(others)
        sides.append("top center" if top else "bottom center")
    return sides


def _lines(
    edges: list[tuple[str, str]], spots: Mapping[str, tuple[float, float]], line: Spec
) -> Spec:
    points = [point for a, b in edges for point in (spots[a], spots[b], (None, None))]
    return LINE | {"x": [x for x, _ in points], "y": [y for _, y in points], "line": line}


def _nice(value: float, least: float) -> float:
    """Return the next of 10, 20, 50, 100, … so that an axis does not jump with every line."""
    if value <= least:
        return least
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def _single(traces: list[Spec], axes: Spec, *, title: str, dark: bool) -> go.Figure:
    named = any("name" in trace for trace in traces)
    return figure(traces, title=title, rows=int(named), height=340, dark=dark, **axes)
