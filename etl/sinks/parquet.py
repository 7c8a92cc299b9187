"""Parquet files: one per batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from etl.errors import UsageError
from etl.processors.processor import Delivery, only_polars
from etl.sinks.publish import StagedFile, stage_file

__all__ = ["Parquet", "read_output"]


@only_polars
@dataclass(frozen=True)
class Parquet:
    """Write each batch as one Parquet file.

    Args:
        folder: Where to; a relative one is below the run's output folder.
        compression: A Parquet codec that Polars knows: lz4, zstd, snappy, ...
        leave_out: Columns that are not written; `line` is if the run keeps it (`--keep-line`).
    """

    folder: str = "."
    compression: str = "lz4"
    leave_out: Sequence[str] = ()

    def stage(self, frame: pl.DataFrame, delivery: Delivery) -> StagedFile:
        """Write the rows to a hidden file."""
        kept = {"line"} if delivery.keep_line else set()
        rows = frame.drop({*self.leave_out} - kept, strict=False)
        rows = rows.with_columns(pl.col(pl.Null).cast(pl.String))
        return stage_file(
            self.folder,
            delivery,
            "parquet",
            lambda path: rows.write_parquet(path, compression=self.compression),  # type: ignore[arg-type]
        )


def read_output(folder: Path | str) -> pl.DataFrame:
    """Return all Parquet files below a folder as one frame; an empty one if it is empty.

    Files of different formats have different columns: a row has null in those that its
    file does not have.

    Raises:
        UsageError: If there are files, but none of them is Parquet.
    """
    files = sorted(Path(folder).rglob("*.parquet"))
    others = {path.suffix for path in Path(folder).rglob("[!.]*.*")} if not files else set()
    if others:
        raise UsageError(
            f"{str(folder)!r} holds no Parquet files, but {', '.join(sorted(others))}; "
            "read_output reads what Parquet sinks write"
        )
    frames = [pl.scan_parquet(file) for file in files]
    return pl.concat(frames, how="diagonal_relaxed").collect() if frames else pl.DataFrame()
