"""Parquet files: one per batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from etl.errors import UsageError
from etl.processors.processor import Delivery, only_polars, reject
from etl.sinks.publish import StagedFile, is_shown, stage_file

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

    def agree(self, frame: pl.DataFrame, delivery: Delivery) -> None:
        """Have the types of new columns remembered."""
        delivery.schemas.agree(delivery.out / self.folder, self._rows(frame, delivery))

    def fit(self, frame: pl.DataFrame, delivery: Delivery) -> pl.DataFrame:
        """Return the rows with all columns of the data set; what has another type is rejected."""
        rows = self._rows(frame, delivery)
        rows, reasons = delivery.schemas.fit(delivery.out / self.folder, rows)
        if reasons is None:
            return rows
        marked = rows.with_columns(reasons.alias("__why"))
        return reject(marked, pl.col("__why").is_not_null(), "wrong_type", pl.col("__why"))

    def stage(self, frame: pl.DataFrame, delivery: Delivery) -> StagedFile:
        """Write the rows to a hidden file."""
        rows = self._rows(frame, delivery).with_columns(pl.col(pl.Null).cast(pl.String))
        return stage_file(
            self.folder,
            delivery,
            "parquet",
            lambda path: rows.write_parquet(path, compression=self.compression),  # type: ignore[arg-type]
        )

    def _rows(self, frame: pl.DataFrame, delivery: Delivery) -> pl.DataFrame:
        kept = {"line"} if delivery.keep_line else set()
        return frame.drop({*self.leave_out} - kept, strict=False)


def read_output(folder: Path | str) -> pl.DataFrame:
    """Return all Parquet files below a folder as one frame; an empty one if it is empty.

    Files of different formats have different columns: a row has null in those that its
    file does not have.

    Raises:
        UsageError: If there are files, but none of them is Parquet.
    """
    found = [path for path in Path(folder).rglob("[!.]*.*") if is_shown(path, Path(folder))]
    files = sorted(path for path in found if path.suffix == ".parquet")
    others = {path.suffix for path in found} if not files else set()
    if others:
        raise UsageError(
            f"{str(folder)!r} holds no Parquet files, but {', '.join(sorted(others))}; "
            "read_output reads what Parquet sinks write"
        )
    frames = [pl.scan_parquet(file) for file in files]
    return pl.concat(frames, how="diagonal_relaxed").collect() if frames else pl.DataFrame()
