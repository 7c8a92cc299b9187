"""The records of a batch: its lines, joined as its source says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import polars as pl

from etl.filesystem import DISK, FileSystem
from etl.formats import join_records, starts
from etl.records.batch import Batch, Lease
from etl.records.frames import without

__all__ = ["batch_of", "parts_of", "records_of"]


FIRST = ("line", "line_number", "line_count", "source")
"""The first columns of a record."""


def records_of(batch: Batch, files: FileSystem = DISK) -> pl.DataFrame:
    r"""Return a batch's records: the columns of `Batch.frame`, and `line_count` Int64.

    `line` is all lines of the record with `\n` between them, `line_number` the first one's.
    A record over the limits is cut; see `formats.join_records`.

    Raises:
        SourceChanged: If the batch is a reference whose file has changed.
    """
    frame = batch.frame(files)
    if "line_count" in frame.columns:
        return frame
    records = join_records(frame, batch.context.record_start)
    return records[[*FIRST, *(name for name in records.columns if name not in FIRST)]]


def batch_of(lease: Lease, files: FileSystem = DISK) -> Batch:
    """Return the batch to run: the only one, or the records of all under the id of the first.

    Raises:
        SourceChanged: If a batch is a reference whose file has changed.
    """
    first = lease.batches[0]
    if len(lease.batches) == 1:
        return first
    frames: list[pl.DataFrame] = []
    for are_lines, batches in groupby(lease.batches, _has_only_lines):
        if are_lines:
            frames.append(_joined(list(batches)))
        else:
            frames += [without(records_of(batch, files), ("source",)) for batch in batches]
    return replace(first, lines=lease.lines, payload=pl.concat(frames, how="diagonal"), skip=0)


def _has_only_lines(batch: Batch) -> bool:
    """Return whether a batch is text of which each line is a record, and all of it."""
    text = batch.payload
    return (
        isinstance(text, bytes)
        and batch.context.record_start is None
        and text.endswith(b"\n")
        and text.count(b"\n") == batch.lines
    )


def _joined(batches: Sequence[Batch]) -> pl.DataFrame:
    """Return what `records_of` returns of batches that have only lines, without `source`.

    Their text is decoded together: a frame for each would take a millisecond, whatever its size.
    """
    counts = pl.Series([batch.lines for batch in batches])
    text = b"".join(batch.payload for batch in batches)  # type: ignore[misc]
    joined = replace(batches[0], lines=int(counts.sum()), payload=text, first_line=0)
    firsts = pl.Series([batch.first_line for batch in batches]) - counts.cum_sum() + counts
    numbers = pl.col("line_number") + firsts.repeat_by(counts).explode()
    records = joined.frame().with_columns(numbers, line_count=pl.lit(1, pl.Int64))
    return records.select(*FIRST[:3], pl.exclude(*FIRST))


def parts_of(lease: Lease, count: int = 16, files: FileSystem = DISK) -> list[list[Batch]]:
    """Return for each batch of a lease at most `count` parts, of whole records.

    Raises:
        SourceChanged: If a batch is a reference whose file has changed.
    """
    return [batch.parts(count, _starts(batch, files)) for batch in lease.batches]


def _starts(batch: Batch, files: FileSystem) -> list[int]:
    frame = batch.frame(files)
    if "line_count" in frame.columns:
        counts = frame["line_count"]
        return (counts.cum_sum() - counts).to_list()
    return starts(frame["line"], batch.context.record_start).arg_true().to_list()
