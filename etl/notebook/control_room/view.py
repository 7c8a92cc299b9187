"""The control room's widgets that are drawn by our own JavaScript, and the chart.

They take text as text: it never becomes HTML. What they show is in their traits, so that a page
that is loaded again shows the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import plotly.graph_objects as go
import traitlets

from etl.web import PARTS, STYLE

__all__ = ["Chart", "Part", "StyledPart"]

HERE = Path(__file__).parent

State = Mapping[str, Any]

Act = Callable[[str, Any], None]
"""Told what a person does: its name, and what with."""


class Part(anywidget.AnyWidget):
    """One part of the screen: a function of `etl/web/parts.js` or `room.js`.

    `part` names it, `state` is what it shows, `answer` what is said of the last action in it.

    Args:
        part: A name in `ROOM`, at the end of `room.js`.
        act: Called with what a person does there, on any thread.
    """

    _esm = f"{PARTS.read_text('utf-8')}\n{(HERE / 'room.js').read_text('utf-8')}"
    part = traitlets.Unicode().tag(sync=True)
    state: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    answer: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)

    def __init__(self, part: str, act: Act) -> None:
        super().__init__(part=part)
        self._answers = 0
        self.on_msg(lambda _widget, message, _buffers: act(message["name"], message.get("detail")))

    def show(self, **state: Any) -> None:
        """Show a state."""
        if state != self.state:
            self.state = state

    def say(self, text: str, *, bad: bool = False, undo: Any = None) -> None:
        """Say what came of an action.

        Args:
            text: A sentence.
            bad: Whether it failed: it then stays until the next action.
            undo: Given back if the person undoes it; None if that is not possible.
        """
        self._answers += 1
        self.answer = {"id": self._answers, "text": text, "bad": bad, "undo": undo}


class StyledPart(Part):
    """The part that brings the style sheet, for all of them."""

    _css = f"{STYLE.read_text('utf-8')}\n{(HERE / 'room.css').read_text('utf-8')}"


class Chart(go.FigureWidget):  # type: ignore[misc]
    """A `FigureWidget` that only sends to the page, and takes nothing back from it.

    Plotly's own takes back what a page has filled in, and with that drops what it was given itself
    (seen in 7.1: `x` and `marker` are gone after some updates, and with them the chart on the next
    page). While it takes something, traitlets joins what is set meanwhile: an update that another
    thread sends then, a message and `None` after it, would be `None` alone, and never be drawn.
    """

    def set_state(self, sync_data: Mapping[str, Any]) -> None:
        """Take nothing that a page says of the figure."""
