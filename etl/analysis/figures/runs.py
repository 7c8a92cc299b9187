"""Figures of a whole run: how it went, where time and lines went, what changed since another."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from etl.analysis.figures.look import COLOURS, OTHER, SOFT, figure, label, span

__all__ = ["comparison", "flow", "latency_times", "paths", "time_shares"]

ENDS = {"done": COLOURS["green"], "filtered": OTHER, "dead": COLOURS["red"]}
"""Colours of what becomes of a line."""


SHORT = pd.Timedelta(seconds=10)
"""Runs that were over sooner have every second on their time axis."""


CHANGES = {"slower": COLOURS["red"], "faster": COLOURS["green"]}


def flow(history: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Draw lines a second, and below it the lines that wait, from the second before the first.

    Args:
        history: As `metrics.history` returns it.
        dark: For a dark page.
    """
    before = history.head(1).assign(done=0, filtered=0, dead=0, waiting=0)
    before["second"] -= pd.Timedelta(seconds=1)
    history = pd.concat([before, history])
    finished = history[["done", "filtered", "dead"]].sum(axis=1)
    rate = finished.diff() / history["second"].diff().dt.total_seconds()
    same = {"type": "scatter", "mode": "lines+markers", "x": history["second"].tolist()}
    traces: list[dict[str, Any]] = [
        same
        | {"y": rate.fillna(0.0).tolist(), "name": "lines a second", "fill": "tozeroy"}
        | {"line": {"color": COLOURS["green"], "shape": "vh"}}
        | {"hovertemplate": "%{x|%H:%M:%S}: %{y:,.0f} lines/s<extra></extra>"},
        same
        | {"y": history["waiting"].tolist(), "name": "waiting", "fill": "tozeroy"}
        | {"line": {"color": COLOURS["blue"], "shape": "hv"}, "yaxis": "y2"}
        | {"hovertemplate": "%{x|%H:%M:%S}: %{y:,} waiting<extra></extra>"},
    ]
    upright = {"rangemode": "tozero", "nticks": 5, "tickformat": ","}
    layout = {
        "height": 380,
        "xaxis": {"anchor": "y2", "title": {"text": "time, UTC"}} | _seconds(history["second"]),
        "yaxis": upright | {"domain": [0.56, 0.94]},
        "yaxis2": upright | {"domain": [0, 0.38]},
        "annotations": [_caption("lines a second", 0.95), _caption("lines waiting", 0.39)],
    }
    return figure(traces, layout, title="Throughput and depth of the queue", dark=dark)


def time_shares(shares: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Draw each processor's share of the busy time, the busiest on top.

    Args:
        shares: As `metrics.time_shares` returns it.
        dark: For a dark page.
    """
    names = _unlike([label(name, 24) for name in shares["processor"]])
    each = [
        f"  {row.share:.0%} · {span(row.seconds / row.lines)} a line" if row.lines else "  no line"
        for row in shares.itertuples()
    ]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": shares["share"].tolist(),
        "y": names,
        "text": each,
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": COLOURS["blue"]},
        "customdata": shares[["seconds", "lines", "rate"]].to_numpy().tolist(),
        "hovertemplate": "%{y}: %{customdata[0]:.3g} s for %{customdata[1]:,} lines, "
        "%{customdata[2]:,.0f} lines/s<extra></extra>",
    }
    top = max(shares["share"].max() if len(shares) else 0.0, 0.01)
    layout = {
        "height": 110 + 30 * max(3, len(names)),
        "xaxis": {"visible": False, "range": [0, top * 1.35]},
        "yaxis": _rows(names),
    }
    told = f"Shares of {span(float(shares['seconds'].sum()))} of busy time"
    return figure([bars], layout, title="Where the time goes", subtitle=told, dark=dark)


def latency_times(latency: pd.DataFrame, *, most: int = 6, dark: bool = False) -> go.Figure:
    """Draw each processor's time per line over time, on a logarithmic axis.

    Args:
        latency: As `metrics.latency_history` returns it.
        most: How many have a colour: those that took most time.
        dark: For a dark page.
    """
    busy = (latency["lines"] * latency["seconds_per_line"]).groupby(latency["processor"]).sum()
    names = busy.sort_values(ascending=False, kind="stable").index
    colours = [*list(COLOURS.values())[:most], *[OTHER] * len(names)]
    traces = []
    for name, colour in zip(names, colours, strict=False):
        rows = latency[latency["processor"] == name]
        seconds = rows["seconds_per_line"].tolist()
        line = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": label(name, 24),
            "x": rows["at"].tolist(),
            "y": seconds,
            "line": {"color": colour, "width": 2 if colour != OTHER else 1},
            "customdata": [span(time) for time in seconds],
            "hovertemplate": "%{x|%H:%M:%S}: %{customdata}<extra>%{fullData.name}</extra>",
        }
        traces.append(line)
    layout = {
        "height": 380,
        "yaxis": _decades(),
        "xaxis": {"title": {"text": "time, UTC"}},
        "showlegend": True,
        "legend": {"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top"},
    }
    return figure(traces, layout, title="Time per line over time", dark=dark)


def paths(edges: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Draw the ways that lines took from the input to their end, as broad as they are many.

    Args:
        edges: As `traces.path_edges` returns it.
        dark: For a dark page.
    """
    names = list(dict.fromkeys([*edges["before"], *edges["after"]]))
    number = {name: place for place, name in enumerate(names)}
    ends = set(edges["after"]) - set(edges["before"])
    colours = [ENDS.get(name, OTHER) if name in ends else COLOURS["blue"] for name in names]
    links = {
        "source": [number[name] for name in edges["before"]],
        "target": [number[name] for name in edges["after"]],
        "value": edges["lines"].tolist(),
        "color": [
            _pale(ENDS[name]) if name in ends & set(ENDS) else SOFT for name in edges["after"]
        ],
        "hovertemplate": "%{source.label} → %{target.label}: %{value:,} lines<extra></extra>",
    }
    lines = int(edges.loc[edges["before"] == "input", "lines"].sum())
    sankey = {
        "type": "sankey",
        "node": {
            "label": [label(name, 24) for name in names],
            "color": colours,
            "pad": 24,
            "thickness": 14,
            "line": {"width": 0},
            "hovertemplate": "%{label}: %{value:,} lines<extra></extra>",
        },
        "link": links,
        "domain": {"x": [0.01, 0.99], "y": [0.02, 0.98]},
    }
    layout = {"height": 380}
    told = f"The last {lines:,} lines"
    return figure([sankey], layout, title="The ways that lines take", subtitle=told, dark=dark)


def comparison(processors: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Draw each processor's time per line in run a and in run b, the most grown on top.

    Args:
        processors: `Comparison.processors`, as `etl.compare` returns it.
        dark: For a dark page.
    """
    both = processors.dropna(subset=["ratio"]).sort_values("ratio", ascending=False)
    names = _unlike([label(name, 24) for name in both["processor"]])
    colours = [CHANGES.get(change, OTHER) for change in both["change"]]
    a, b = both["seconds_per_line_a"].tolist(), both["seconds_per_line_b"].tolist()
    joined = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [one, other],
            "y": [name, name],
            "line": {"color": colour, "width": 3},
            "hoverinfo": "skip",
        }
        for name, one, other, colour in zip(names, a, b, colours, strict=True)
    ]
    ring = {"color": colours, "width": 2}
    dots = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": times,
            "y": names,
            "marker": {"size": 12, "symbol": symbol, "color": colours, "line": ring},
            "customdata": [span(seconds) for seconds in times],
            "hovertemplate": f"%{{y}} in {name}: %{{customdata}} a line<extra></extra>",
        }
        for name, times, symbol in (("run a", a, "circle-open"), ("run b", b, "circle"))
    ]
    ratios = {
        "type": "scatter",
        "mode": "text",
        "x": [max(pair) for pair in zip(a, b, strict=True)],
        "y": names,
        "text": [f"   {ratio:.2f} ×" for ratio in both["ratio"]],
        "textposition": "middle right",
        "hoverinfo": "skip",
        "cliponaxis": False,
    }
    room = 0.15 * (1 + math.log10(max(a + b) / min(a + b))) if names else 0.0
    ends = [math.log10(min(a + b)) - room / 3, math.log10(max(a + b)) + room] if names else [-6, -3]
    layout = {
        "height": 120 + 34 * max(3, len(names)),
        "xaxis": _decades() | {"title": {"text": "time per line"}, "range": ends},
        "yaxis": _rows(names),
    }
    told = "○ run a → ● run b, and b as a multiple of a"
    traces = [*joined, *dots, ratios]
    return figure(traces, layout, title="Time per line in two runs", subtitle=told, dark=dark)


def _decades() -> dict[str, Any]:
    """Return a logarithmic axis of seconds."""
    powers = range(-9, 4)
    ticks = {"tickvals": [10.0**power for power in powers]}
    return {"type": "log", "ticktext": [span(10.0**power) for power in powers]} | ticks


def _seconds(times: pd.Series[Any]) -> dict[str, Any]:
    """Return the time axis of a short run: whole seconds, with some room beside the ends."""
    if times.empty or times.iloc[-1] - times.iloc[0] >= SHORT:
        return {}
    room = pd.Timedelta(milliseconds=100)
    ends = [times.iloc[0] - room, times.iloc[-1] + room]
    return {"range": ends, "dtick": 1000, "tickformat": "%H:%M:%S"}


def _caption(text: str, y: float) -> dict[str, Any]:
    """Return what a plot below others shows."""
    place = {"xref": "paper", "x": 0, "yref": "paper", "y": y}
    return place | {"text": text, "xanchor": "left", "yanchor": "bottom", "showarrow": False}


def _rows(names: list[str]) -> dict[str, Any]:
    """Return a y axis with one row per name, the first on top."""
    axis = {"type": "category", "categoryorder": "array", "categoryarray": names}
    return axis | {"range": [len(names) - 0.5, -0.5], "showgrid": False}


def _unlike(names: list[str]) -> list[str]:
    """Tell names apart that look the same once they are cut: they would be one row."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _pale(colour: str) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.35)"
