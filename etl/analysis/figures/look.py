"""The look of all figures: colours, type, the Plotly templates `etl` and `etl_dark`.

Colours differ to every kind of colour vision. Text from a log or a pipeline goes
through `label`: Plotly reads some HTML in text, and must not read what is in a log.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go
import plotly.io

from etl.text import shortened

LEVELS = {
    "DEBUG": "#848d97",
    "INFO": "#2a78bd",
    "WARNING": "#e3a008",
    "ERROR": "#cf4710",
    "CRITICAL": "#8e1152",
}
"""Colour by level: they differ to every kind of colour vision, and from a white page."""

LEVELS_DARK = {
    "DEBUG": "#b6bec8",
    "INFO": "#4d9fe6",
    "WARNING": "#f0b429",
    "ERROR": "#f0703a",
    "CRITICAL": "#c2338a",
}
"""The same on a dark page."""

GLYPHS = {"DEBUG": "·", "INFO": "i", "WARNING": "!", "ERROR": "×", "CRITICAL": "!!"}
"""A sign by level, for those to whom the colour says nothing."""

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

FONT = "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
"""Without `system-ui`, which on a bare Linux is a font that is 15 % wider."""

MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"


WITHOUT_BAR = {"displayModeBar": False}


def label(text: object, most: int = 40) -> str:
    """Return text that Plotly shows as it is: escaped, on one line, cut to some characters.

    It is read neither as HTML nor, between dollars, as TeX.
    """
    return html.escape(shortened(str(text), most)).replace("$", "&#36;")


def labels(texts: Iterable[object], most: int = 40) -> list[str]:
    """Return labels of different texts that differ, also where they look the same once cut."""
    seen: dict[str, int] = {}
    found = []
    for name in (label(text, most) for text in texts):
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


class Figure(go.Figure):  # type: ignore[misc]
    """A figure without Plotly's bar of buttons, which lies over legends and titles.

    Zoom by dragging, and double-click to see all again.
    """

    def _ipython_display_(self) -> None:
        plotly.io.show(self, config=WITHOUT_BAR)

    def _repr_mimebundle_(self, *args: Any, **more: Any) -> Any:
        return super()._repr_mimebundle_(*args, **{"config": WITHOUT_BAR, **more})


def figure(
    drawn: Any, *, title: str, subtitle: str = "", rows: int = 0, dark: bool, **layout: Any
) -> go.Figure:
    """Return traces, or a figure, with the look.

    Args:
        drawn: A list of traces, or a figure of `plotly.express`.
        title: What it shows.
        subtitle: A smaller line below the title.
        rows: How many rows of a legend stand above the plot; without any, it has none.
        dark: For a dark page.
        **layout: What differs from the look.
    """
    top = 56 + (24 if subtitle else 0) + (8 + 20 * rows if rows else 0)
    look = {
        "template": "etl_dark" if dark else "etl",
        "title": {"text": title, "subtitle": {"text": subtitle}},
        "margin": {"l": 16, "r": 24, "t": top, "b": 44},
        "showlegend": rows > 0,
    }
    return Figure(drawn).update_layout(look | layout, overwrite=True)


def _template(*, dark: bool) -> go.layout.Template:
    axis = {
        "automargin": True,
        "ticklabelstandoff": 6,
        "gridcolor": SOFT,
        "linecolor": SOFT,
        "zeroline": False,
        "title": {"standoff": 10, "font": {"size": 12, "color": QUIET[dark]}},
    }
    left = {"x": 0, "xanchor": "left", "y": 1}
    title = left | {"xref": "container", "yref": "container", "yanchor": "top"}
    subtitle = {"font": {"size": 12.5, "color": QUIET[dark]}}
    fonts = {"font": {"size": 16, "weight": 600}, "subtitle": subtitle}
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 12, "color": INK[dark]},
            "title": title | fonts | {"pad": {"l": 16, "t": 16}},
            "paper_bgcolor": PAPER[dark],
            "plot_bgcolor": PAPER[dark],
            "colorway": list(COLOURS.values()),
            "xaxis": axis,
            "yaxis": axis,
            "legend": left | {"yanchor": "bottom", "orientation": "h", "title": {"text": ""}},
            "hovermode": "closest",
            "hoverlabel": {"font": {"family": FONT, "size": 12}},
            "bargap": 0.35,
        },
        data={
            "bar": [{"textposition": "outside", "cliponaxis": False}],
            "scatter": [{"cliponaxis": False}],
        },
    )


plotly.io.templates["etl"] = _template(dark=False)

plotly.io.templates["etl_dark"] = _template(dark=True)
