"""Figures of what happened when: lines by level, failures by what killed them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from etl.analysis.figures.look import COLOURS, FAINT, LEVELS, OTHER, figure, label

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["failure_times", "level_times"]


def level_times(counts: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Draw lines by level over time, stacked, the gravest on top.

    Args:
        counts: One row per span and level: `at` (datetime64), `level` (str or
            null), `lines` (int).
        dark: For a dark page.
    """
    named = counts.assign(level=counts["level"].astype("object").fillna("none"))
    found = set(named["level"])
    names = [*sorted(found - set(LEVELS)), *(name for name in LEVELS if name in found)]
    traces = [
        _bars(rows["at"], rows["lines"], label(name), LEVELS.get(name, FAINT))
        for name in names
        for rows in [named[named["level"] == name].sort_values("at")]
    ]
    return figure(traces, _stacked(), title="Lines by level over time", legend=1, dark=dark)


def failure_times(
    dead_letters: pd.DataFrame, *, every: str = "1s", most: int = 5, dark: bool = False
) -> go.Figure:
    """Draw when lines died, by kind of failure, the most frequent at the bottom.

    Args:
        dead_letters: As `DeadLetters.frame` returns it.
        every: Length of a span, as pandas writes it: `1s`, `1min`, `1h`.
        most: How many kinds have a colour of their own; the rest are one.
        dark: For a dark page.
    """
    times = dead_letters.assign(at=dead_letters["first_failed_at"].dt.floor(every))
    sizes = times.groupby("fingerprint")["lines"].sum().sort_values(ascending=False, kind="stable")
    kinds = [times["fingerprint"] == mark for mark in sizes.index[:most]]
    rest = times["fingerprint"].isin(sizes.index[most:])
    traces = []
    for where, colour in zip(kinds, COLOURS.values(), strict=False):
        first = times[where].iloc[0]
        why = f"{first['processor']}: {first['error'] or first['code']}, {first['message']}"
        sums = times[where].groupby("at")["lines"].sum()
        traces.append(_bars(sums.index, sums, label(why, 90), colour))
    if rest.any():
        sums = times[rest].groupby("at")["lines"].sum()
        traces.append(_bars(sums.index, sums, f"{len(sizes) - most} other kinds", OTHER))
    rows = len(traces)
    layout = _stacked() | {"legend": {"orientation": "v"}, "height": 340 + 20 * rows}
    return figure(traces, layout, title="When lines died, and of what", legend=rows, dark=dark)


def _bars(at: Any, lines: Any, name: str, colour: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "x": list(at),
        "y": [int(count) for count in lines],
        "marker": {"color": colour, "line": {"width": 0}},
        "hovertemplate": "%{x|%Y-%m-%d %H:%M:%S}: %{y:,} lines<extra>%{fullData.name}</extra>",
    }


def _stacked() -> dict[str, Any]:
    return {
        "height": 360,
        "barmode": "stack",
        "bargap": 0.1,
        "xaxis": {"title": {"text": "time, UTC"}},
        "yaxis": {"rangemode": "tozero"},
    }
