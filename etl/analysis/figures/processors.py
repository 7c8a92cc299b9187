"""Figures of the time that processors take: in all, over the run, in two runs."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import plotly.express as px
import plotly.graph_objects as go

from etl.analysis.figures.look import COLOURS, OTHER, figure, labels
from etl.text import duration

CHANGES = {"slower": COLOURS["red"], "faster": COLOURS["green"]}


def time_shares(shares: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Draw each processor's share of the busy time, the busiest on top.

    Args:
        shares: As `metrics.time_shares` returns it.
        dark: For a dark page.
    """
    names = labels(shares["processor"], 24)
    texts = [
        f"  {row.share:.0%} · {duration(row.seconds / row.lines)} a line"
        if row.lines
        else "  no line"
        for row in shares.itertuples()
    ]
    hover = "%{y}: %{customdata[0]:.3g} s for %{customdata[1]:,} lines, "
    bars = go.Bar(
        orientation="h",
        x=shares["share"],
        y=names,
        text=texts,
        customdata=shares[["seconds", "lines", "rate"]],
        hovertemplate=hover + "%{customdata[2]:,.0f} lines/s<extra></extra>",
    )
    return figure(
        bars,
        title="Where the time goes",
        subtitle=f"Shares of {duration(float(shares['seconds'].sum()))} of busy time",
        height=110 + 30 * max(3, len(names)),
        xaxis={"visible": False, "range": [0, max([*shares["share"], 0.01]) * 1.35]},
        yaxis=_rows(names),
        dark=dark,
    )


def latency_times(latency: pd.DataFrame, *, most: int = 6, dark: bool = False) -> go.Figure:
    """Draw each processor's time per line over time, on a logarithmic axis.

    Args:
        latency: As `metrics.latency_history` returns it.
        most: How many have a colour: those that took most time.
        dark: For a dark page.
    """
    busy = (latency["lines"] * latency["seconds_per_line"]).groupby(latency["processor"]).sum()
    busiest = busy.sort_values(ascending=False, kind="stable").index
    names = dict(zip(busiest, labels(busiest, 24), strict=True))
    colours = [*COLOURS.values()][:most] + [OTHER] * len(names)
    lines = px.line(
        latency.assign(
            processor=latency["processor"].map(names),
            duration=latency["seconds_per_line"].map(duration),
        ),
        x="at",
        y="seconds_per_line",
        color="processor",
        markers=True,
        custom_data="duration",
        category_orders={"processor": list(names.values())},
        color_discrete_sequence=colours,
    )
    hover = "%{x|%H:%M:%S}: %{customdata[0]}<extra>%{fullData.name}</extra>"
    lines.update_traces(legendgroup=None, hovertemplate=hover)
    lines.update_traces(line_width=1, selector={"line.color": OTHER})
    return figure(
        lines,
        title="Time per line over time",
        height=380,
        xaxis={"title": {"text": "time, UTC"}},
        yaxis=_decades(title=""),
        showlegend=True,
        legend={"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top"},
        dark=dark,
    )


def comparison(processors: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Draw each processor's time per line in run a and in run b, the most grown on top.

    Args:
        processors: `Comparison.processors`, as `etl.compare` returns it.
        dark: For a dark page.
    """
    both = processors[processors["ratio"] > 0].sort_values("ratio", ascending=False)
    names = labels(both["processor"], 24)
    colours = [CHANGES.get(change, OTHER) for change in both["change"]]
    pairs = both[["seconds_per_line_a", "seconds_per_line_b"]].to_numpy()
    joined = [
        go.Scatter(
            mode="lines",
            x=pair,
            y=[name, name],
            line={"color": colour, "width": 3},
            hoverinfo="skip",
        )
        for name, pair, colour in zip(names, pairs, colours, strict=True)
    ]
    dots = [
        go.Scatter(
            mode="markers",
            name=name,
            x=times,
            y=names,
            marker={"size": 12, "symbol": symbol, "color": colours},
            marker_line={"color": colours, "width": 2},
            customdata=[duration(seconds) for seconds in times],
            hovertemplate=f"%{{y}} in {name}: %{{customdata}} a line<extra></extra>",
        )
        for name, times, symbol in zip(
            ("run a", "run b"), pairs.T, ("circle-open", "circle"), strict=True
        )
    ]
    ratios = go.Scatter(
        mode="text",
        x=pairs.max(axis=1),
        y=names,
        text=[f"   {ratio:.2f} ×" for ratio in both["ratio"]],
        textposition="middle right",
        hoverinfo="skip",
    )
    times = pairs.ravel() if names else (1e-6, 1e-3)
    least, most = math.log10(min(times)), math.log10(max(times))
    room = 0.15 * (1 + most - least)
    return figure(
        [*joined, *dots, ratios],
        title="Time per line in two runs",
        subtitle="○ run a → ● run b, and b as a multiple of a",
        height=120 + 34 * max(3, len(names)),
        xaxis=_decades(title="time per line") | {"range": [least - room / 3, most + room]},
        yaxis=_rows(names),
        dark=dark,
    )


def _decades(title: str) -> dict[str, Any]:
    """Return a logarithmic axis of seconds."""
    ticks = [10.0**power for power in range(-9, 4)]
    axis = {"type": "log", "tickvals": ticks, "ticktext": [duration(tick) for tick in ticks]}
    return axis | {"title": {"text": title}}


def _rows(names: list[str]) -> dict[str, Any]:
    """Return a y axis with one row per name, the first on top."""
    axis = {"type": "category", "categoryorder": "array", "categoryarray": names}
    return axis | {"range": [len(names) - 0.5, -0.5], "showgrid": False}
