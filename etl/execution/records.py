"""The records of a batch: its lines, joined as its source says."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from etl.filesystem import DISK, FileSystem
from etl.formats import join_records, starts
from etl.records.batch import Batch, Lease

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
    return records.select(*FIRST, pl.exclude(*FIRST))


def batch_of(lease: Lease, files: FileSystem = DISK) -> Batch:
    """Return the batch to run: the only one, or the records of all under the id of the first.

    Raises:
        SourceChanged: If a batch is a reference whose file has changed.
    """
    first = lease.batches[0]
    if len(lease.batches) == 1:
        return first
    frames = [records_of(batch, files).drop("source") for batch in lease.batches]
    return replace(first, lines=lease.lines, payload=pl.concat(frames, how="diagonal"), skip=0)


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
