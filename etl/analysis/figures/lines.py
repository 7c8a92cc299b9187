"""Figures of the lines of a run: throughput, paths, levels, failures, message templates."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from etl.analysis.figures.look import (
    COLOURS,
    FAINT,
    LEVELS,
    MONO,
    OTHER,
    SOFT,
    figure,
    label,
    labels,
)
from etl.records.result import INPUT
from etl.text import first_line

ENDS = {"done": COLOURS["green"], "filtered": OTHER, "dead": COLOURS["red"]}
"""Colours by the state in which lines end."""

SHORT = pd.Timedelta(seconds=10)
"""Runs that were over sooner have every second on their time axis."""


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
    rate = (finished.diff() / history["second"].diff().dt.total_seconds()).fillna(0.0)
    plots = (
        (rate, "green", "vh", "%{y:,.0f} lines/s"),
        (history["waiting"], "blue", "hv", "%{y:,} waiting"),
    )
    times, titles = history["second"].tolist(), ("lines a second", "lines waiting")
    drawn = make_subplots(rows=2, cols=1, shared_xaxes=True, subplot_titles=titles)
    for row, (values, colour, shape, shown) in enumerate(plots, start=1):
        line = {"color": COLOURS[colour], "shape": shape}
        hover = f"%{{x|%H:%M:%S}}: {shown}<extra></extra>"
        drawn.add_scatter(x=times, y=values, line=line, hovertemplate=hover, row=row, col=1)
    drawn.update_traces(mode="lines+markers", fill="tozeroy")
    drawn.update_yaxes(rangemode="tozero", nticks=5, tickformat=",")
    drawn.update_xaxes(_seconds(history["second"])).update_xaxes(title_text="time, UTC", row=2)
    drawn.update_annotations(x=0, xanchor="left", font_size=12)
    title, margin = "Throughput and depth of the queue", {"l": 16, "r": 24, "t": 76, "b": 44}
    return figure(drawn, title=title, height=380, margin=margin, dark=dark)


def paths(edges: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Draw the paths of lines from the input to their end, as broad as they are frequent.

    The ends have their names in the subtitle, where none is in the way of another.

    Args:
        edges: As `traces.path_edges` returns it.
        dark: For a dark page.
    """
    names = list(dict.fromkeys([*edges["before"], *edges["after"]]))
    number = {name: place for place, name in enumerate(names)}
    inner = dict.fromkeys(edges["before"], COLOURS["blue"])
    ends = {name: colour for name, colour in ENDS.items() if name not in inner}
    sankey = go.Sankey(
        node={
            "label": ["" if name in ends else label(name, 24) for name in names],
            "customdata": [label(name, 24) for name in names],
            "color": [(inner | ends).get(name, OTHER) for name in names],
            "pad": 24,
            "thickness": 14,
            "line": {"width": 0},
            "hovertemplate": "%{customdata}: %{value:,} lines<extra></extra>",
        },
        link={
            "source": edges["before"].map(number),
            "target": edges["after"].map(number),
            "value": edges["lines"],
            "color": [_pale(ends[name]) if name in ends else SOFT for name in edges["after"]],
            "customdata": [
                f"{label(row.before, 24)} → {label(row.after, 24)}" for row in edges.itertuples()
            ],
            "hovertemplate": "%{customdata}: %{value:,} lines<extra></extra>",
        },
        domain={"x": [0.01, 0.99], "y": [0.02, 0.98]},
    )
    lines = edges.loc[edges["before"] == INPUT, "lines"].sum()
    ended = edges[edges["after"].isin(ends)].groupby("after")["lines"].sum()
    marks = (
        f'<span style="color:{colour}">■</span> {name} {ended[name]:,}'
        for name, colour in ends.items()
        if name in ended.index
    )
    subtitle = f"The last {lines:,} lines: {' · '.join(marks)}"
    return figure(sankey, title="Paths of lines", subtitle=subtitle, height=380, dark=dark)


def level_times(counts: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Draw lines by level over time, stacked, the most severe on top.

    Args:
        counts: One row per interval and level: `at` (datetime64), `level` (str or
            null), `lines` (int).
        dark: For a dark page.
    """
    names = counts["level"].astype("object").fillna("no level").map(label)
    others = dict.fromkeys(sorted(set(names) - set(LEVELS)), FAINT)
    bars = _stacked(counts.assign(name=names).sort_values("at"), others | LEVELS)
    return figure(bars, title="Lines by level over time", rows=1, height=360, bargap=0.1, dark=dark)


def failure_times(
    dead_letters: pd.DataFrame, *, every: str = "1s", most: int = 5, dark: bool = False
) -> go.Figure:
    """Draw when lines failed, by kind of failure, the most frequent at the bottom.

    Args:
        dead_letters: As `DeadLetters.frame` returns it.
        every: Length of an interval, as pandas writes it: `1s`, `1min`, `1h`.
        most: How many kinds have a colour of their own; the rest are one.
        dark: For a dark page.
    """
    sizes = dead_letters.groupby("fingerprint")["lines"].sum()
    kinds = sizes.sort_values(ascending=False, kind="stable").index
    first = dead_letters.drop_duplicates("fingerprint").set_index("fingerprint").loc[kinds[:most]]
    why = [
        f"{row.processor}: {row.error or row.code}, {first_line(row.message)}"
        for row in first.itertuples()
    ]
    names = dict(zip(first.index, labels(why, 90), strict=True))
    rest = f"{len(kinds) - most} other kinds"
    named = dead_letters.assign(
        name=dead_letters["fingerprint"].map(names).fillna(rest),
        at=dead_letters["first_failed_at"].dt.floor(every),
    )
    sums = named.groupby(["name", "at"], as_index=False)["lines"].sum()
    colours = dict(zip(names.values(), COLOURS.values(), strict=False)) | {rest: OTHER}
    bars = _stacked(sums, colours)
    return figure(
        bars,
        title="Dead letters over time, by kind of failure",
        rows=len(bars.data),
        legend={"orientation": "v"},
        height=340 + 20 * len(bars.data),
        bargap=0.1,
        dark=dark,
    )


def templates(
    found: pd.DataFrame, *, most: int = 12, title: str = "Message templates", dark: bool = False
) -> go.Figure:
    """Draw how many lines the most frequent templates have, each written above its bar.

    Args:
        found: As `templates.templates` or `new_templates` returns it.
        most: How many.
        title: What they are.
        dark: For a dark page.
    """
    shown = found.head(most).reset_index(drop=True)
    bars = go.Bar(
        orientation="h",
        x=shown["lines"],
        y=shown.index,
        width=0.34,
        texttemplate="%{x:,}",
        customdata=[label(sample, 160) for sample in shown["sample"]],
        hovertemplate="%{customdata}<extra>%{x:,} lines</extra>",
    )
    texts = go.Scatter(
        mode="text",
        x=[0] * len(shown),
        y=shown.index - 0.36,
        text=[label(template, 80) for template in shown["template"]],
        textposition="middle right",
        textfont={"family": MONO, "size": 11.5},
        hoverinfo="skip",
    )
    left = len(found) - len(shown)
    rest = f", {left:,} more not shown" if left else ""
    return figure(
        [bars, texts],
        title=title,
        subtitle=f"{len(shown)} templates by lines{rest}",
        height=92 + 44 * max(2, len(shown)),
        xaxis={"visible": False, "range": [0, max([*shown["lines"], 1]) * 1.12]},
        yaxis={"visible": False, "range": [len(shown) - 0.5, -0.7]},
        margin={"l": 24, "r": 24, "t": 76, "b": 16},
        dark=dark,
    )


def _stacked(counts: pd.DataFrame, colours: dict[str, str]) -> go.Figure:
    """Return bars of `lines` over `at`, a colour for each `name`, in the order of the colours."""
    bars = px.bar(
        counts,
        x="at",
        y="lines",
        color="name",
        color_discrete_map=colours,
        category_orders={"name": list(colours)},
        labels={"at": "time, UTC", "lines": "", "name": ""},
        barmode="stack",
    )
    hover = "%{x|%Y-%m-%d %H:%M:%S}: %{y:,} lines<extra>%{fullData.name}</extra>"
    bars.update_xaxes(nticks=6, tickangle=0)
    return bars.update_traces(marker_line_width=0, legendgroup=None, hovertemplate=hover)


def _seconds(times: pd.Series[Any]) -> dict[str, Any]:
    """Return the time axis of a short run: whole seconds, with some room beside the ends."""
    if times.empty or times.iloc[-1] - times.iloc[0] >= SHORT:
        return {}
    room = pd.Timedelta(milliseconds=100)
    ends = [times.iloc[0] - room, times.iloc[-1] + room]
    return {"range": ends, "dtick": 1000, "tickformat": "%H:%M:%S"}


def _pale(colour: str) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.35)"
