"""The processors that come with etl."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import polars as pl

from etl import formats
from etl.processors.processor import Columns, only_polars, reject
from etl.records.batch import Batch
from etl.records.frames import without
from etl.records.result import NO_FORMAT

__all__ = ["Count", "Parse", "drop", "normalise", "upper"]


@only_polars
@dataclass(frozen=True)
class Parse:
    """Split records into columns by the batch's format, or by the one named here.

    Adds the format's columns, most of them String, and `format` String; of the log of a container
    also what its path says, such as `kubernetes.pod`, or Docker, such as `docker.image`. A record
    of no known format is read by the generic reader, or rejected with the code `no_format` if the
    batch was put with `unmatched="dead"`. With a named format, a record that does not fit it is
    rejected with the same code.

    Args:
        format: Name of a format, ours or of your `etl-formats.toml`; None or "auto" for that
            of the batch, or to have it detected.

    Raises:
        FormatError: If there is no such format.
    """

    format: str | None = None

    def __post_init__(self) -> None:
        """Find the format by its name now; the file of one's own formats may change later."""
        object.__setattr__(self, "format", formats.resolve_format(self.format))

    def __call__(self, frame: pl.DataFrame, batch: Batch) -> pl.DataFrame:
        """Return the rows with the columns of their format."""
        spec = self.format or batch.format
        parsed = formats.parse(frame, spec, header=batch.context.header)
        said = {**formats.container_of(batch.source), **dict(batch.context.columns)}
        if said:  # whatever the container's own lines say
            own = [parsed[name] for name in said if name in parsed.columns]
            known = {name: pl.lit(text) for name, text in said.items()}
            parsed = formats.beside(parsed.with_columns(**known), own)
        if spec not in (None, "auto"):
            if not parsed["_fits"].all():
                name = formats.get_format(str(spec)).name
                reason = f"the line does not match the format {name!r}"
                parsed = reject(parsed, ~pl.col("_fits"), NO_FORMAT, reason)
        elif batch.context.unmatched == "dead":
            generic = pl.col("format") == "generic"
            parsed = reject(parsed, generic, NO_FORMAT, "the line matches no known format")
        return without(parsed, ("_fits",))


@only_polars
def normalise(frame: pl.DataFrame, batch: Batch) -> pl.DataFrame:
    """Return parsed rows with the normal columns: timestamp, level, logger, pid, message.

    Times without a zone, or without a year, are read as the batch's context says.
    """
    known = batch.context
    return formats.normalise(
        frame,
        timezone=known.timezone,
        year=known.year,
        modified=known.modified,
        first_day=known.first_day,
    )


def upper(column: str) -> Columns:
    """Return a processor that turns a String column into upper case."""
    return Columns({column: pl.col(column).str.to_uppercase()})


@only_polars
@dataclass(frozen=True)
class drop:  # noqa: N801 - a verb, like a function
    """Drop the rows where a Boolean expression is true; null counts as False."""

    where: pl.Expr

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the other rows."""
        return frame.filter(~self.where.fill_null(value=False))


@only_polars
@dataclass
class Count:
    """Count rows by the value of a column; the counts are a state and last.

    Args:
        by: The column, of any type that can be cast to String.
        counts: Counts to begin with.
    """

    by: str
    counts: Counter[str] = field(default_factory=Counter)

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Count the rows and return them."""
        found = frame[self.by].cast(pl.String).value_counts()
        self.counts.update({str(value): rows for value, rows in found.iter_rows()})
        return frame

    def state(self) -> dict[str, int]:
        """Return the counts by value; that of null is under 'None'."""
        return dict(self.counts)

    def restore(self, state: dict[str, int] | None) -> None:
        """Go back to earlier counts."""
        self.counts = Counter(state or {})
