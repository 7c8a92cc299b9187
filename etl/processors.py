"""What a processor is, and the ones that come with etl.

A processor is any callable from frame to frame:

    def shorten(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col("message").str.head(80))

It may change columns, drop rows (they are counted as filtered), add rows
(fan-out) and mark rows that cannot be processed with `reject`. One that takes
a second parameter is given the `Batch` as well. Columns that begin with `_`
are the pipeline's; `line`, `line_number` and `source` say where a row is from.

`each` makes a processor of a function of one line. An object that also has
`state()` and `restore(state)` is stateful: its state, a JSON value, is
committed with every batch. An object with `stage(frame, delivery)` is a sink.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import polars as pl

from etl import formats
from etl.errors import PipelineError
from etl.lines import Batch, Output

__all__ = [
    "Count",
    "Delivery",
    "Each",
    "Parse",
    "Processor",
    "Retry",
    "Sink",
    "Staged",
    "Stateful",
    "drop",
    "each",
    "normalise",
    "reject",
    "upper",
]

Processor = Callable[..., pl.DataFrame]
"""`frame -> frame`, or `(frame, batch) -> frame`."""

REJECT = "_reject"
"""Struct column (code, reason) that marks a row as rejected; null in the others."""


@runtime_checkable
class Stateful(Protocol):
    """A processor that remembers something from batch to batch."""

    def state(self) -> Any:
        """Return what is remembered, as a JSON value."""

    def restore(self, state: Any) -> None:
        """Go back to a state that `state` returned; None is the very first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What a sink may know of the batch it stages: names for its files come from here.

    `token` differs each time the batch is run, `id` does not; `out` is the
    run's output folder.
    """

    id: str
    token: str
    out: Path


class Staged(Protocol):
    """What a sink has made ready but not yet shown to anyone."""

    outputs: Sequence[Output]

    def publish(self) -> None:
        """Show it: the batch is committed. Called at most once."""

    def discard(self) -> None:
        """Undo it: the batch will not be committed by this worker."""


@runtime_checkable
class Sink(Protocol):
    """A processor at a leaf: stages rows before the commit, publishes them after it."""

    def stage(self, frame: pl.DataFrame, delivery: Delivery) -> Staged:
        """Make the rows ready. A file named in the result's `outputs` is durable on return."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often lines that raise are tried again, and how long to wait in between.

    Attributes:
        attempts: Tries in all; 1 means no second one.
        wait: Seconds before the second try; doubled before each further one.
        longest: Seconds that a wait is at most.
        jitter: Share of each wait that is drawn by chance, 0 to 1.
        on: The exceptions that are worth another try.
    """

    attempts: int = 3
    wait: float = 0.1
    longest: float = 30.0
    jitter: float = 0.5
    on: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        """Refuse what is no number of tries."""
        if self.attempts < 1:
            raise PipelineError(f"attempts={self.attempts} is no number of tries; 1 means one")

    def seconds(self, attempt: int) -> float:
        """Return how long to wait after the `attempt`-th try failed."""
        wait = min(self.longest, self.wait * 2.0 ** (attempt - 1))
        return wait * (1 - self.jitter * random.random())


def reject(frame: pl.DataFrame, where: pl.Expr, code: str, reason: str | pl.Expr) -> pl.DataFrame:
    """Mark the rows where `where` holds as not processable; they become dead letters.

    Args:
        frame: The rows.
        where: Boolean expression; null counts as False.
        code: Short name of the reason, the same for all such lines: `bad_date`.
        reason: One sentence for a person, or an expression that gives one per row.
    """
    if not frame.select(where.fill_null(value=False).any()).item():
        return frame
    text = pl.lit(reason) if isinstance(reason, str) else reason.cast(pl.String)
    mark: pl.Expr = pl.when(where).then(pl.struct(code=pl.lit(code), reason=text))
    if REJECT in frame.columns:
        mark = pl.coalesce(pl.col(REJECT), mark)
    return frame.with_columns(mark.alias(REJECT))


LineFunction = Callable[[dict[str, Any]], "dict[str, Any] | Iterable[dict[str, Any]] | None"]


@dataclass(frozen=True)
class Each:
    """A processor made of a function of one line; see `each`."""

    function: LineFunction

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Process a frame; rows whose call raised are marked as rejected."""
        good, failed = self.rows(frame)
        if not failed:
            return good
        bad = frame[[position for position, _ in failed]].with_columns(
            pl.Series(REJECT, [{"code": "error", "reason": str(error)} for _, error in failed])
        )
        return pl.concat([good, bad], how="diagonal_relaxed")

    def rows(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[tuple[int, BaseException]]]:
        """Return the rows that came out, and the position and error of each that failed."""
        own = [name for name in frame.columns if not name.startswith("_")]
        came_from: list[int] = []
        made: list[dict[str, Any]] = []
        failed: list[tuple[int, BaseException]] = []
        for position, row in enumerate(frame.select(own).iter_rows(named=True)):
            try:
                result = self.function(row)
                new = [result] if isinstance(result, dict) else list(result or ())
                for one in new:
                    if not isinstance(one, dict):
                        raise TypeError(f"the function returned {one!r}; return a dict, or dicts")
            except Exception as error:  # noqa: BLE001 - whatever it is, it is that line's failure
                failed.append((position, error))
                continue
            made += new
            came_from += [position] * len(new)
        if not made:
            return frame.clear(), failed
        rows = pl.DataFrame(made, infer_schema_length=None, strict=False)
        rows = rows.with_columns(
            pl.col(name).cast(frame.schema[name])
            for name, dtype in rows.schema.items()
            if dtype == pl.Null and name in frame.schema
        )
        if len(own) == frame.width:
            return rows, failed
        kept = frame.select(pl.exclude(own))[came_from]
        return rows.drop(kept.columns, strict=False).hstack(kept.get_columns()), failed


def each(function: LineFunction) -> Each:
    """Make a processor of a function of one line.

    The function is given a dict of the row's columns and returns a dict (the
    row as it goes on), None (the line is filtered), or several dicts (fan-out).
    If it raises, that line alone fails. Costs some microseconds a line, where
    a Polars expression costs some nanoseconds.
    """
    return Each(function)


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
