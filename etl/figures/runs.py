"""Figures of a whole run: how it went, where time and lines went, what changed since another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from etl.figures.look import COLOURS, OTHER, SOFT, figure, label, span

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["comparison", "flow", "latency_times", "paths", "time_shares"]

ENDS = {"done": COLOURS["green"], "filtered": OTHER, "dead": COLOURS["red"]}
"""Colours of what becomes of a line."""

CHANGES = {"slower": COLOURS["red"], "faster": COLOURS["green"]}


def flow(history: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Draw lines a second, and below it the lines that wait.

    Args:
        history: As `metrics.history` returns it.
        dark: For a dark page.
    """
    finished = history[["done", "filtered", "dead"]].sum(axis=1)
    seconds = history["second"].diff().dt.total_seconds().fillna(1.0)
    rate = finished.diff().fillna(finished) / seconds
    same = {"type": "scatter", "mode": "lines", "x": history["second"].tolist()}
    traces: list[dict[str, Any]] = [
        same
        | {"y": rate.tolist(), "name": "lines a second", "fill": "tozeroy"}
        | {"line": {"color": COLOURS["green"], "shape": "hv"}}
        | {"hovertemplate": "%{x|%H:%M:%S}: %{y:,.0f} lines/s<extra></extra>"},
        same
        | {"y": history["waiting"].tolist(), "name": "waiting", "fill": "tozeroy"}
        | {"line": {"color": COLOURS["blue"], "shape": "hv"}, "yaxis": "y2"}
        | {"hovertemplate": "%{x|%H:%M:%S}: %{y:,} waiting<extra></extra>"},
    ]
    upright = {"rangemode": "tozero", "nticks": 5}
    layout = {
        "height": 380,
        "showlegend": False,
        "xaxis": {"anchor": "y2", "title": {"text": "time, UTC"}},
        "yaxis": upright | {"domain": [0.56, 1], "title": {"text": "lines a second"}},
        "yaxis2": upright | {"domain": [0, 0.44], "title": {"text": "lines waiting"}},
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
        "height": 120 + 30 * max(3, len(names)),
        "xaxis": {"tickformat": ".0%", "range": [0, top * 1.3], "nticks": 6},
        "yaxis": _rows(names),
    }
    busy = span(float(shares["seconds"].sum()))
    head = {"title": "Where the time goes", "subtitle": f"Share of {busy} of busy time"}
    return figure([bars], layout, **head, dark=dark)


def latency_times(latency: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Draw each processor's time per line over time, on a logarithmic axis.

    Args:
        latency: As `metrics.latency_history` returns it.
        dark: For a dark page.
    """
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": label(name, 24),
            "x": rows["at"].tolist(),
            "y": rows["seconds_per_line"].tolist(),
            "customdata": [span(seconds) for seconds in rows["seconds_per_line"]],
            "hovertemplate": "%{x|%H:%M:%S}: %{customdata}<extra>%{fullData.name}</extra>",
        }
        for name, rows in latency.groupby("processor", sort=False)
    ]
    powers = range(-8, 3)
    layout = {
        "height": 380,
        "yaxis": {"type": "log", "title": {"text": "time per line"}}
        | {"tickvals": [10.0**power for power in powers]}
        | {"ticktext": [span(10.0**power) for power in powers]},
        "xaxis": {"title": {"text": "time, UTC"}},
        "legend": {"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top"},
        "showlegend": True,
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
    layout = {"height": 380, "margin": {"l": 16, "r": 16, "t": 84, "b": 24}}
    head = {"title": "The ways that lines take", "subtitle": f"The last {lines:,} lines"}
    return figure([sankey], layout, **head, dark=dark)


def comparison(processors: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Draw each processor's time per line in run a and in run b, the most grown on top.

    Args:
        processors: `Comparison.processors`, as `metrics.compare` returns it.
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
            "showlegend": False,
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
        "showlegend": False,
    }
    powers = range(-9, 4)
    layout = {
        "height": 130 + 34 * max(3, len(names)),
        "xaxis": {"type": "log", "title": {"text": "time per line"}}
        | {"tickvals": [10.0**power for power in powers]}
        | {"ticktext": [span(10.0**power) for power in powers]},
        "yaxis": _rows(names),
        "margin": {"l": 16, "r": 72, "t": 84, "b": 44},
        "showlegend": False,
    }
    head = {
        "title": "Time per line in two runs",
        "subtitle": "○ run a → ● run b, and b as a multiple of a",
    }
    return figure([*joined, *dots, ratios], layout, **head, dark=dark)


def _rows(names: list[str]) -> dict[str, Any]:
    """Return a y axis with one row per name, the first on top."""
    axis = {"type": "category", "categoryorder": "array", "categoryarray": names}
    return axis | {"range": [len(names) - 0.5, -0.5], "showgrid": False, "ticklabelstandoff": 8}


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
