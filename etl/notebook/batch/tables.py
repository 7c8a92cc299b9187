"""A pandas frame as a table to read, in a notebook and in a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.text import cell_text, html_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ReportTable"]

PASSED = {True: "✓ passed", False: "✗ failed"}


class ReportTable:
    """A frame as a table to read: numbers to the right with separators, text escaped.

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

        specs = [self._formats.get(name, "") for name in self._columns]
        texts = [list(map(cell_text, row, specs)) for row in self._rows]
        return str(pd.DataFrame(texts, columns=self._columns).to_string(index=False))

    def _repr_html_(self) -> str:
        return html_table(self._columns, self._rows, css="etl", formats=self._formats)
