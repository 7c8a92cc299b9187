"""The two widgets that are drawn by our own JavaScript, the queue's icons and a table; the chart.

The first two take text as text: it never becomes HTML. What they show is in their
traits, so that a page that is loaded again shows the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import plotly.graph_objects as go
import traitlets

__all__ = ["Chart", "QueueView", "TableView"]

HERE = Path(__file__).parent

Line = tuple[str, str, str]
"""Key, level and text of a waiting line."""

Row = Mapping[str, Any]


class QueueView(anywidget.AnyWidget):
    """An icon per waiting line; only what came and what left is sent.

    `items` holds all of them for a page that opens later, and follows within
    a second. The page sets its `width` in pixels and whether it is `dark`.
    """

    _esm = HERE / "queue_view.js"
    _css = HERE / "control_room.css"
    items: traitlets.List[Any] = traitlets.List().tag(sync=True)
    more = traitlets.Int(0).tag(sync=True)
    width = traitlets.Int(1100).tag(sync=True)
    dark = traitlets.Bool(default_value=False).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._shown: dict[str, Line] = {}
        self._stale, self._kept_at = False, 0.0

    def show(self, lines: Sequence[Line], more: int) -> None:
        """Show these lines and how many more there are."""
        wanted = {line[0]: line for line in lines}
        came = [line for key, line in wanted.items() if key not in self._shown]
        left = [key for key in self._shown if key not in wanted]
        self._shown, self.more = wanted, more
        if came or left:
            self.send({"came": came, "left": left})
            self._stale = True
        if self._stale and time.monotonic() - self._kept_at > 1:
            self._stale, self._kept_at = False, time.monotonic()
            self.items = [list(line) for line in wanted.values()]


class TableView(anywidget.AnyWidget):
    """Rows of text of which one can be chosen.

    `columns` are titles, one that begins with `#` is for numbers; `rows` are
    `[key, cell, …]`; `chosen` is a key or the empty string; `empty` is what
    is shown when there are no rows.

    Args:
        key: What identifies a row.
        cells: What each column shows of a row, by its title.
        empty: What is shown when there are no rows.
        choose: Called when a row is chosen or no longer is.
    """

    _esm = HERE / "table.js"
    columns: traitlets.List[Any] = traitlets.List().tag(sync=True)
    rows: traitlets.List[Any] = traitlets.List().tag(sync=True)
    chosen = traitlets.Unicode().tag(sync=True)
    empty = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        key: Callable[[Row], str],
        cells: Mapping[str, Callable[[Row], str]],
        *,
        choose: Callable[[], None],
        empty: str = "",
    ) -> None:
        super().__init__(columns=list(cells), empty=empty)
        self._makers = (key, *cells.values())
        self.observe(lambda _change: choose(), "chosen")

    def show(self, rows: Sequence[Row]) -> None:
        """Show these rows; one that is chosen and gone is chosen no more."""
        self.rows = [[make(row) for make in self._makers] for row in rows]
        if self.chosen not in {row[0] for row in self.rows}:
            self.chosen = ""


class Chart(go.FigureWidget):  # type: ignore[misc]
    """A `FigureWidget` that only sends to the page, and takes nothing back from it.

    Plotly's own takes back what a page has filled in, and with that drops what
    it was given itself (seen in 7.1: `x` and `marker` are gone after some
    updates, and with them the chart on the next page).
    """

    def _handler_js2py_traceDeltas(self, _change: Any) -> None:  # noqa: N802 - Plotly's name
        pass

    def _handler_js2py_layoutDelta(self, _change: Any) -> None:  # noqa: N802 - Plotly's name
        pass
