"""The look of all figures: colours, type, the Plotly templates `etl` and `etl_dark`.

Colours are told apart with any colour vision. Text that came from a log or a
pipeline goes through `label`: Plotly reads some HTML in text, and it must not
read that of others.
"""

from __future__ import annotations

import html
from typing import Any

import plotly.graph_objects as go
import plotly.io

from etl.text import printable

__all__ = [
    "COLOURS",
    "FAINT",
    "FONT",
    "INK",
    "LEVELS",
    "MONO",
    "OTHER",
    "SOFT",
    "escape",
    "figure",
    "label",
    "span",
]

LEVELS = {
    "DEBUG": "#7d8590",
    "INFO": "#2f7fc1",
    "WARNING": "#e3a008",
    "ERROR": "#d9541e",
    "CRITICAL": "#d81b60",
}
"""Colour by level: they differ in lightness too, and white or black text is readable on each."""


COLOURS = {
    "blue": "#0072b2",
    "orange": "#e69f00",
    "green": "#009e73",
    "pink": "#cc79a7",
    "sky": "#56b4e9",
    "red": "#d55e00",
}
"""The palette of Okabe and Ito, https://jfly.uni-koeln.de/color/, but for its yellow and black."""


OTHER = "#a0a6ae"


FAINT = "rgba(128,136,148,0.35)"


SOFT = "rgba(128,136,148,0.22)"


INK = {False: "#2b3137", True: "#d7dbe0"}


QUIET = {False: "#656d76", True: "#9aa2ab"}


PAPER = {False: "#ffffff", True: "#15181c"}


FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def label(text: object, most: int = 40) -> str:
    """Return text that Plotly shows as it is: escaped, on one line, cut to some characters."""
    return escape(printable(str(text), most))


def escape(text: str) -> str:
    """Return text that Plotly reads neither as HTML nor, between dollars, as TeX."""
    return html.escape(text).replace("$", "&#36;")


def span(seconds: float) -> str:
    """Return a time as a person says it: `850 ns`, `12.5 µs`, `3.2 ms`, `1.4 s`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def figure(
    traces: list[dict[str, Any]],
    layout: dict[str, Any],
    *,
    title: str,
    subtitle: str = "",
    legend: int = 0,
    dark: bool,
) -> go.Figure:
    """Return a figure with the look; `legend` is how many rows of it stand above the plot."""
    top = 56 + (24 if subtitle else 0) + (8 + 20 * legend if legend else 0)
    head: dict[str, Any] = {"title": {"text": title}}
    head["margin"] = {"l": 16, "r": 24, "t": top, "b": 44}
    if subtitle:
        head["title"]["subtitle"] = {"text": subtitle}
    look = {"template": "etl_dark" if dark else "etl", "showlegend": legend > 0}
    return go.Figure({"data": traces, "layout": look | head | layout})


def _template(*, dark: bool) -> go.layout.Template:
    axis = {
        "automargin": True,
        "ticklabelstandoff": 6,
        "gridcolor": SOFT,
        "linecolor": SOFT,
        "zeroline": False,
        "title": {"standoff": 10, "font": {"size": 12, "color": QUIET[dark]}},
    }
    title = {
        "x": 0,
        "xanchor": "left",
        "xref": "container",
        "pad": {"l": 16, "t": 16},
        "y": 1,
        "yanchor": "top",
        "yref": "container",
        "font": {"size": 16, "weight": 600},
        "subtitle": {"font": {"size": 12.5, "color": QUIET[dark]}},
    }
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"}
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 12, "color": INK[dark]},
            "title": title,
            "paper_bgcolor": PAPER[dark],
            "plot_bgcolor": PAPER[dark],
            "colorway": list(COLOURS.values()),
            "xaxis": axis,
            "yaxis": axis,
            "legend": legend | {"title": {"text": ""}},
            "hovermode": "closest",
            "hoverlabel": {"font": {"family": FONT, "size": 12}},
            "bargap": 0.35,
        }
    )


plotly.io.templates["etl"] = _template(dark=False)


plotly.io.templates["etl_dark"] = _template(dark=True)
