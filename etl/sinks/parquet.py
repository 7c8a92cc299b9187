"""Parquet files: one per batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from etl.processors.processor import Delivery
from etl.sinks.publish import StagedFile, stage_file

__all__ = ["Parquet"]


@dataclass(frozen=True)
class Parquet:
    """Write each batch as one Parquet file.

    Args:
        folder: Where to; a relative one is below the run's output folder.
        compression: A Parquet codec that Polars knows: lz4, zstd, snappy, ...
        leave_out: Columns that are not written.
    """

    folder: str = "."
    compression: str = "lz4"
    leave_out: Sequence[str] = ()

    def stage(self, frame: pl.DataFrame, delivery: Delivery) -> StagedFile:
        """Write the rows to a hidden file."""
        rows = frame.drop(self.leave_out, strict=False).with_columns(
            pl.col(pl.Null).cast(pl.String)
        )
        return stage_file(
            self.folder,
            delivery,
            "parquet",
            lambda path: rows.write_parquet(path, compression=self.compression),  # type: ignore[arg-type]
        )
