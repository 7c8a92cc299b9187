"""The processors that come with etl."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import polars as pl

from etl import formats
from etl.processors.processor import reject
from etl.records.batch import Batch

__all__ = ["Count", "Parse", "drop", "normalise", "upper"]


@dataclass(frozen=True)
class Parse:
    """Cut lines into columns by the batch's format, or by the one named here.

    Adds the format's raw columns, all String, and `format`. Lines that do not
    fit are rejected with the code `no_format`; without a named format, a line
    is rejected only if it fits none.
    """

    format: str | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown format now rather than at the first batch."""
        if self.format not in (None, "auto"):
            formats.get_format(str(self.format))

    def __call__(self, frame: pl.DataFrame, batch: Batch) -> pl.DataFrame:
        """Parse the `line` column."""
        spec = self.format or batch.format
        parsed = formats.parse(frame, spec)
        wanted = "no known format" if spec in (None, "auto") else f"not the format {spec!r}"
        parsed = reject(parsed, ~pl.col("_fits"), "no_format", f"the line fits {wanted}")
        return parsed.drop("_fits")


def normalise(frame: pl.DataFrame) -> pl.DataFrame:
    """Turn parsed columns into the normal ones: timestamp, level, logger, pid, message."""
    return formats.normalise(frame)


@dataclass(frozen=True)
class upper:  # noqa: N801 - a verb, like a function
    """Upper-case a String column."""

    column: str

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Upper-case it in every row."""
        return frame.with_columns(pl.col(self.column).str.to_uppercase())


@dataclass(frozen=True)
class drop:  # noqa: N801 - a verb, like a function
    """Filter out the rows where an expression holds; null counts as False."""

    where: pl.Expr

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the other rows."""
        return frame.filter(~self.where.fill_null(value=False))


@dataclass
class Count:
    """Count rows by the value of a column, for ever: the counts are committed state."""

    by: str
    counts: Counter[str] = field(default_factory=Counter)

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Count the rows and pass them on."""
        found = frame.group_by(pl.col(self.by).cast(pl.String)).len()
        self.counts.update({str(value): rows for value, rows in found.iter_rows()})
        return frame

    def state(self) -> dict[str, int]:
        """Return the counts by value; rows without a value are under 'None'."""
        return dict(self.counts)

    def restore(self, state: dict[str, int] | None) -> None:
        """Go back to earlier counts."""
        self.counts = Counter(state or {})
