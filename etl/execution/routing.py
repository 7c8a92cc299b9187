"""Rows on their way through a pipeline, and the paths they came by.

While rows have one path between them it costs nothing; where branches merge,
an integer column, `_path`, says which of the paths is a row's. `_row` is the
line's place in its batch: it brings merged branches back in order, and tells
which line a row is from, however it has been copied.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from etl.errors import PipelineError

__all__ = ["RoutedRows", "checked", "for_sink", "merge"]

MAX_PATHS = 100
"""Paths beyond which those that no row has come by are forgotten."""


class RoutedRows(NamedTuple):
    """Rows on their way, and the paths they may have come by.

    With one path there is no `_path` column; with more it indexes into them.
    """

    frame: pl.DataFrame
    paths: tuple[tuple[str, ...], ...]

    def rows(self, wanted: pl.DataFrame) -> RoutedRows:
        """Return a flow of some of the rows."""
        return RoutedRows(wanted, self.paths)


def merge(routed_rows: list[RoutedRows]) -> RoutedRows:
    """Join the rows of several branches in the lines' original order."""
    if len(routed_rows) == 1:
        return routed_rows[0]
    paths: list[tuple[str, ...]] = []
    frames = []
    for routed in routed_rows:
        start = len(paths)
        paths += routed.paths
        own = pl.col("_path") if "_path" in routed.frame.columns else pl.lit(0, pl.UInt32)
        frames.append(routed.frame.with_columns((own + start).cast(pl.UInt32).alias("_path")))
    frame = pl.concat(frames, how="diagonal_relaxed").sort("_row", maintain_order=True)
    return _compact(RoutedRows(frame, tuple(paths)))


def _compact(routed: RoutedRows) -> RoutedRows:
    """Forget paths that no row has come by, once there are many."""
    if len(routed.paths) <= MAX_PATHS:
        return routed
    used = routed.frame["_path"].unique().sort()
    new = pl.col("_path").replace_strict(used, range(len(used)), return_dtype=pl.UInt32)
    return RoutedRows(routed.frame.with_columns(new), tuple(routed.paths[old] for old in used))


def checked(out: Any, frame: pl.DataFrame) -> pl.DataFrame:
    """Return what a processor gave back, with the pipeline's own columns in it."""
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
    return out.hstack(frame.select(lost)) if lost else out


def for_sink(routed: RoutedRows) -> pl.DataFrame:
    """Return the rows as a sink wants them: the user's columns, and `path` as text."""
    frame = routed.frame
    if "path" in frame.columns:
        name = "path_"
        while name in frame.columns:
            name += "_"
        frame = frame.rename({"path": name})
    texts = [" → ".join(path) for path in routed.paths]
    path = (
        pl.lit(texts[0]).alias("path")
        if len(texts) == 1
        else pl.Series("path", texts).gather(frame["_path"])
    )
    public = [name for name in frame.columns if not name.startswith("_")]
    return frame.select(public).with_columns(path)
