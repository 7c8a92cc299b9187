"""Figures of what a log says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from etl.analysis.figures.look import COLOURS, MONO, figure, label

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["templates"]


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
    shown = found.head(most)
    places = list(range(len(shown)))
    lines = shown["lines"].tolist()
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": lines,
        "y": places,
        "width": 0.34,
        "text": [f"{count:,}" for count in lines],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": COLOURS["blue"]},
        "customdata": [label(sample, 160) for sample in shown["sample"]],
        "hovertemplate": "%{customdata}<extra>%{x:,} lines</extra>",
    }
    texts = {
        "type": "scatter",
        "mode": "text",
        "x": [0] * len(shown),
        "y": [place - 0.36 for place in places],
        "text": [label(template, 110) for template in shown["template"]],
        "textposition": "middle right",
        "textfont": {"family": MONO, "size": 11.5},
        "cliponaxis": False,
        "hoverinfo": "skip",
    }
    layout = {
        "height": 92 + 44 * max(2, len(shown)),
        "xaxis": {"visible": False, "range": [0, max([*lines, 1]) * 1.12]},
        "yaxis": {"visible": False, "range": [len(shown) - 0.5, -0.7]},
        "margin": {"l": 24, "r": 24, "t": 76, "b": 16},
    }
    left = len(found) - len(shown)
    rest = f", {left:,} more not shown" if left > 0 else ""
    subtitle = f"{len(shown)} templates by lines{rest}"
    return figure([bars, texts], layout, title=title, subtitle=subtitle, dark=dark)
