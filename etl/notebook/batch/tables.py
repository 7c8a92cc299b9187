"""A pandas frame as a table to read, in a notebook and in a report."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from etl.text import printable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table"]

MAX_LENGTH = 160
"""Characters of a value that a table shows."""


SHORT = 28
"""Characters of a value up to which a table keeps it on one line."""


FAILED = "✗ failed"


class Table:
    """A frame as a table to read: numbers to the right with separators, text escaped.

    Args:
        frame: What to show.
        formats: Format specs by column, such as `.1%`; others show as they are.
    """

    def __init__(self, frame: pd.DataFrame, **formats: str) -> None:
        kinds = {name: frame[name].dtype.kind for name in frame}
        own = {name: "," for name, kind in kinds.items() if kind in "iu"}
        self._formats = (
            own | {name: ",.3g" for name, kind in kinds.items() if kind == "f"} | formats
        )
        self._frame = frame
        self._right = {name for name, kind in kinds.items() if kind in "iuf"}

    def __repr__(self) -> str:
        shown = self._frame.assign(
            **{name: [self._text(name, one) for one in self._frame[name]] for name in self._frame}
        )
        return str(shown.to_string(index=False))

    def _repr_html_(self) -> str:
        names = [str(name) for name in self._frame]
        head = "".join(self._cell("th", name, name) for name in names)
        body = "".join(
            "<tr>"
            + "".join(
                self._cell("td", name, self._text(name, one))
                for name, one in zip(names, row, strict=True)
            )
            + "</tr>\n"
            for row in self._frame.itertuples(index=False)
        )
        return f'<table class="etl">\n<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>'

    def _cell(self, tag: str, name: str, text: str) -> str:
        style = f"text-align:{'right' if name in self._right else 'left'}"
        style += ";white-space:nowrap" if len(text) <= SHORT else ""
        style += ";opacity:.4" if text == "0" else ""
        style += ";color:#b3261e;font-weight:600" if text == FAILED else ""
        return f'<{tag} style="{style}">{html.escape(text)}</{tag}>'

    def _text(self, name: str, value: Any) -> str:
        import pandas as pd

        if isinstance(value, bool):
            return "✓ passed" if value else FAILED
        if pd.isna(value):
            return ""
        text = format(value, self._formats.get(name, ""))
        return printable(text, MAX_LENGTH)
