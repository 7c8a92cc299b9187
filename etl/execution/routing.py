"""Rows on their way through a pipeline, and the paths by which they came.

While all rows have one path it costs nothing; where branches merge, an integer
column, `_path`, says which of the paths is a row's. `_row` is the line's place in
its batch: it puts merged branches back in order, and says which line a row is
from, however often it has been copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from etl.errors import PipelineError
from etl.records.frames import without

__all__ = ["RoutedRows", "checked", "for_sink", "merge"]

MAX_PATHS = 100
"""Number of paths above which those that no row has are removed."""


class RoutedRows(NamedTuple):
    """Rows on their way, and the paths that they may have.

    Attributes:
        frame: The rows; `_row` UInt32 is the line's place in its batch. With more than
            one path, `_path` UInt32 is an index into `paths`.
        paths: Names of the processors passed.
    """

    frame: pl.DataFrame
    paths: tuple[tuple[str, ...], ...]

    def rows(self, wanted: pl.DataFrame) -> RoutedRows:
        """Return some of the rows, with the same paths."""
        return RoutedRows(wanted, self.paths)

    def via(self, processor: str) -> RoutedRows:
        """Return the same rows, one processor further on their paths."""
        return RoutedRows(self.frame, tuple((*path, processor) for path in self.paths))

    def per_path(
        self, column: str, values: Sequence[Any], dtype: type[pl.DataType] = pl.UInt32
    ) -> pl.Series:
        """Return a column that has for each row the value of its path."""
        series = pl.Series(column, values, dtype)
        if "_path" in self.frame.columns:
            return series[self.frame["_path"]]
        return series.new_from_index(0, self.frame.height)


def merge(routed_rows: Sequence[RoutedRows]) -> RoutedRows:
    """Return the rows of several branches in the lines' original order."""
    if len(routed_rows) == 1:
        return routed_rows[0]
    paths: list[tuple[str, ...]] = []
    frames = []
    for routed in routed_rows:
        ids = range(len(paths), len(paths) + len(routed.paths))
        frames.append(routed.frame.with_columns(routed.per_path("_path", ids)))
        paths += routed.paths
    frame = pl.concat(frames, how="diagonal_relaxed").sort("_row", maintain_order=True)
    if len(paths) > MAX_PATHS:
        used = frame["_path"].unique().sort()
        new = pl.col("_path").replace_strict(used, range(len(used)), return_dtype=pl.UInt32)
        frame, paths = frame.with_columns(new), [paths[old] for old in used]
    return RoutedRows(frame, tuple(paths))


def checked(out: Any, frame: pl.DataFrame) -> pl.DataFrame:
    """Return what a processor returned as a frame that has the pipeline's own columns.

    Raises:
        PipelineError: If it is no frame, or its rows cannot be told apart.
    """
    if isinstance(out, pl.LazyFrame):
        out = out.collect()
    if not isinstance(out, pl.DataFrame):
        raise PipelineError(
            f"the processor returned {type(out).__name__}, not a Polars DataFrame; return the frame"
        )
    lost = [name for name in ("_row", "_path") if name in frame.columns and name not in out.columns]
    if lost and out.height != frame.height:
        raise PipelineError(
            f"the processor returned {out.height} rows for {frame.height} without the column "
            f"{lost[0]!r}, so that rows cannot be told apart; keep the columns that begin with '_'"
        )
    rows: pl.DataFrame = out.hstack(frame.select(lost)) if lost else out
    own = [name for name in ("_row", "_path") if name in rows.columns]
    if all(rows.schema[name] == pl.UInt32 for name in own):
        return rows
    return rows.with_columns(pl.col(own).cast(pl.UInt32))  # those of a frame made of dicts differ


def for_sink(routed: RoutedRows) -> pl.DataFrame:
    """Return the rows as a sink is given them: without the pipeline's own columns, with `path`.

    `path` String is the names of the processors; a column of that name is renamed `path_`.
    """
    frame = routed.frame
    if "path" in frame.columns:
        name = "path_"
        while name in frame.columns:
            name += "_"
        frame = frame.rename({"path": name})
    texts = [" → ".join(path) for path in routed.paths]
    own = [name for name in frame.columns if name.startswith("_")]
    return without(frame, own).with_columns(routed.per_path("path", texts, pl.String))
