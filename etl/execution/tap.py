"""Look at the rows that leave a processor, with no effect on them.

`Pipeline.tap` opens a tap for what workers of this process do from then on; that of the
control room begins with the last lines that the store remembers.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Self

import polars as pl

from etl.errors import UsageError, is_interrupt
from etl.execution.bisect import message_of
from etl.execution.routing import RoutedRows
from etl.records.columns import JSON, Table

if TYPE_CHECKING:
    import pandas as pd

    from etl.pipeline.plan import Plan

__all__ = ["Tap"]


WHERE = ("source", "line_number", "line_count")
"""Columns that say where a row is from, which a tap does not show."""


class Tap:
    """The last rows that left a processor and meet a condition.

    Rows are seen as batches run, before they are committed: those of a batch that
    runs again are seen again.

    Args:
        processor: Its name.
        where: Which rows; None for all.
        limit: How many rows are kept.
    """

    def __init__(self, processor: str, *, where: pl.Expr | None = None, limit: int = 20) -> None:
        self.processor = processor
        self._where = where
        self._limit = limit
        self._seen: deque[pl.DataFrame] = deque()
        self._lock = threading.Lock()
        self._error = ""
        self.closed = False

    def see(
        self,
        name: str,
        _before: RoutedRows,
        after: RoutedRows,
        _failed: object,
        *,
        plan: Plan | None = None,
    ) -> None:
        """Keep the rows that a processor passed on; a `Watch` of a `BatchRun`.

        What the plan masks is masked in them. A condition that cannot be used is an error for the
        caller of `rows`, not for the worker.
        """
        if name != self.processor or self._error or self.closed:
            return
        rows = after.frame.select(pl.exclude("^_.*$", *WHERE))
        try:
            found = (rows if self._where is None else rows.filter(self._where)).tail(self._limit)
        except BaseException as error:
            if is_interrupt(error):
                raise
            self._error = message_of(error).split("\n", maxsplit=1)[0]
            return
        found = plan.masked(found) if plan else found
        with self._lock:
            if self._seen and self._seen[-1].is_empty():
                self._seen.pop()
            self._seen.append(found)
            while sum(frame.height for frame in self._seen) - self._seen[0].height >= self._limit:
                self._seen.popleft()

    def rows(self) -> pl.DataFrame:
        """Return the rows, oldest first: the processor's columns but for `WHERE`.

        Raises:
            UsageError: If `where` cannot be used on the processor's rows.
        """
        if self._error:
            raise UsageError(
                f"where= cannot be used on the rows of {self.processor!r}: {self._error}"
            )
        with self._lock:
            seen = [frame for frame in self._seen if frame.height] or list(self._seen)[-1:]
        if not seen:
            return pl.DataFrame(schema={"line": pl.String})
        return pl.concat(seen, how="diagonal_relaxed").tail(self._limit)

    def frame(self) -> pd.DataFrame:
        """Return the same as a pandas frame whose columns are objects."""
        rows = self.rows()
        return Table.of("tap", **dict.fromkeys(rows.columns, JSON)).frame(rows)

    def close(self) -> None:
        """See no more rows; those that were seen stay. A second call does nothing."""
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Tap behind {self.processor}>\n{self.frame()}"

    def _repr_html_(self) -> str:
        return str(self.frame().to_html(index=False, escape=True))
