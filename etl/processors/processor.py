"""The protocols of processors and sinks, and ways to write one: `Columns`, `each`, `reject`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import polars as pl

from etl.errors import is_interrupt
from etl.filesystem import DISK, FileSystem
from etl.records.batch import Batch
from etl.records.frames import without
from etl.records.result import Output
from etl.records.schemas import Schemas

__all__ = [
    "Abandoned",
    "Columns",
    "Delivery",
    "Each",
    "Processor",
    "Sink",
    "Staged",
    "Stateful",
    "TypedSink",
    "each",
    "only_polars",
    "reject",
]

Frame = pl.DataFrame | pl.LazyFrame


Processor = Callable[[pl.DataFrame], Frame] | Callable[[pl.DataFrame, Batch], Frame]
"""`frame -> frame`, or `(frame, batch) -> frame`."""


REJECT = "_reject"
"""Struct column (code, reason) that marks a row as rejected; null in the others."""


T = TypeVar("T")


def only_polars(processor: T) -> T:
    """Declare that a processor, or a class of them, leaves all work on rows to Polars.

    Polars lets other threads run meanwhile: a pipeline of such processors alone is run by threads
    of one process, rather than by processes. One that calls Python for each row would
    let them wait, and one that may hang or kill its process would take them along.
    """
    processor.only_polars = True  # type: ignore[attr-defined]
    return processor


@only_polars
@dataclass(frozen=True, eq=False)
class Columns:
    """A processor that sets columns, row by row, and does no more: see `Pipeline.add`.

    Neighbours of the same kind run as one query, and branches of them without a copy of rows.

    Args:
        expressions: What it makes of each row, by the name of the column.
    """

    expressions: Mapping[str, pl.Expr]

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the rows with the columns set.

        Raises:
            PolarsError: If an expression cannot be evaluated, or gives no value for each row.
        """
        made = frame.with_columns(**self.expressions)
        if made.height != frame.height:
            raise pl.exceptions.ShapeError(
                f"{made.height} values for {frame.height} rows; an expression gives one for each"
            )
        return made


class Abandoned(BaseException):
    """Ends a thread whose call took longer than it may: nobody waits for the result."""


@runtime_checkable
class Stateful(Protocol):
    """A processor with a state that lasts from batch to batch."""

    def state(self) -> Any:
        """Return the state, a JSON value."""

    def restore(self, state: Any) -> None:
        """Go back to a state that `state` returned, or to the first one for None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What a sink may know of the batch that it stages, to name its files.

    Attributes:
        id: The same each time the batch runs.
        token: Another each time the batch runs.
        out: The run's output folder.
        keep_line: Whether `line` is to be written by a sink that leaves it out.
        files: Where files are written.
        schemas: The columns of data sets.
    """

    id: str
    token: str
    out: Path
    keep_line: bool = False
    files: FileSystem = DISK
    schemas: Schemas = field(default_factory=Schemas)

    def without(self, frame: pl.DataFrame, leave_out: Sequence[str]) -> pl.DataFrame:
        """Return rows without the columns that a sink leaves out; `line` stays if it is kept."""
        kept = {"line"} if self.keep_line else set()
        return without(frame, {*leave_out} - kept)


class Staged(Protocol):
    """What a sink has made ready and not yet published."""

    @property
    def outputs(self) -> Sequence[Output]:
        """Its files, which are durable; empty if it has none."""

    def publish(self) -> None:
        """Publish it: the batch is committed. Called at most once."""

    def discard(self) -> None:
        """Remove it: the batch will not be committed by this worker."""


@runtime_checkable
class Sink(Protocol):
    """A processor at a leaf: stages rows before the commit, publishes them after it."""

    def stage(self, frame: pl.DataFrame, delivery: Delivery) -> Staged:
        """Make the rows ready; files in the result's `outputs` are durable on return."""


@runtime_checkable
class TypedSink(Sink, Protocol):
    """A sink whose rows must fit what is there: those that do not become dead letters."""

    def agree(self, frame: pl.DataFrame, delivery: Delivery) -> None:
        """Find out how rows have to be, or say so for all who write there.

        Raises:
            StoreError: If that cannot be found out now; the batch is tried again later.
            ProcessorStop: If what is there cannot take such rows, or cannot be reached.
        """

    def fit(self, frame: pl.DataFrame, delivery: Delivery) -> pl.DataFrame:
        """Return the rows as `stage` takes them, those that do not fit marked by `reject`.

        Args:
            frame: Rows for which `agree` was called, or some of them.
            delivery: What it was called with.
        """


@runtime_checkable
class SinkOfDataSet(TypedSink, Protocol):
    """A typed sink for which the store knows how rows have to be: a dry run asks it, too.

    Attributes:
        of_data_set: Whether it is one; `agree` then asks `Delivery.schemas` and nothing else.
    """

    of_data_set: ClassVar[bool]


def reject(frame: pl.DataFrame, where: pl.Expr, code: str, reason: str | pl.Expr) -> pl.DataFrame:
    """Return the frame with the rows where `where` is true marked to become dead letters.

    A row that was marked before keeps its first reason.

    Args:
        frame: The rows.
        where: Boolean expression; null counts as False.
        code: Short name of the reason, the same for all such rows: `bad_date`.
        reason: One sentence for people, or a String expression with one per row.
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
        """Return the rows that came out; those whose call raised are marked as rejected."""
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
        rows = frame.select(own).iter_rows(named=True) if own else ({} for _ in range(frame.height))
        for position, row in enumerate(rows):
            try:
                result = self.function(row)
                new = [result] if isinstance(result, dict) else list(result or ())
                if wrong := [item for item in new if not isinstance(item, dict)]:
                    raise TypeError(f"the function returned {wrong[0]!r}; return a dict, or dicts")
            except BaseException as error:  # whatever it is, it is that line's failure
                if is_interrupt(error) or isinstance(error, Abandoned):
                    raise
                failed.append((position, error))
                continue
            made += new
            came_from += [position] * len(new)
        if not made:
            return frame.clear(), failed
        new_rows = pl.DataFrame(made, infer_schema_length=None, strict=False)
        new_rows = new_rows.with_columns(
            pl.col(name).cast(frame.schema[name])
            for name, dtype in new_rows.schema.items()
            if dtype == pl.Null and name in frame.schema
        )
        if len(own) == frame.width:
            return new_rows, failed
        kept = without(frame, own)[came_from]
        return without(new_rows, kept.columns).hstack(kept.get_columns()), failed


def each(function: LineFunction) -> Each:
    """Return a processor that calls a function for each row.

    The function is given a dict of the row's columns and returns a dict (the row as it
    goes on), None (the row is filtered), or several dicts (fan-out). If it raises, that
    row alone fails. It takes microseconds a row, a Polars expression nanoseconds.
    """
    return Each(function)
