"""A pandas frame as a table to read, in a notebook and in a report."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from etl.text import cell_text, html_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Note", "ReportTable"]

PASSED = {True: "✓ passed", False: "✗ failed"}


class Note(str):
    """A sentence that a notebook shows as text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f'<p style="padding:4px 18px;margin:0;opacity:.75">{escape(self)}</p>'


class ReportTable:
    """A frame as a table to read: numbers to the right with separators, text escaped.

    Without rows it is the word none.

    Args:
        frame: What to show.
        formats: Format specs by column, such as `.1%`.
    """

    def __init__(self, frame: pd.DataFrame, **formats: str) -> None:
        self._columns = list(frame)
        self._formats = formats
        values = frame.astype(object).where(frame.notna(), None)
        self._rows = [
            [PASSED[value] if isinstance(value, bool) else value for value in row]
            for row in values.itertuples(index=False, name=None)
        ]

    def __repr__(self) -> str:
        import pandas as pd

        if not self._rows:
            return "none"
        specs = [self._formats.get(name, "") for name in self._columns]
        texts = [list(map(cell_text, row, specs)) for row in self._rows]
        return str(pd.DataFrame(texts, columns=self._columns).to_string(index=False))

    def _repr_html_(self) -> str:
        if not self._rows:
            return Note("none")._repr_html_()
        return html_table(self._columns, self._rows, css="etl", formats=self._formats)
