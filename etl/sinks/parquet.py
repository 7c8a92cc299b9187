"""Parquet files: one per batch, or per partition of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote

import polars as pl

from etl.errors import ProcessorStop, UsageError
from etl.processors.processor import Delivery, only_polars, reject
from etl.records.result import Output
from etl.sinks.publish import StagedFile, is_shown, stage_file

__all__ = ["NO_VALUE", "Parquet", "partition_folder", "partition_of", "read_output", "typed"]

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""The name of null, as the value of a partition."""


MAX_PARTITIONS = 100
"""Partitions that the rows of one batch go to; each is a file that is synced."""

MAX_NAME = 200
"""Characters of a folder's name; file systems know up to 255 bytes."""

KEYS = (pl.String, pl.Boolean, pl.Date)
"""Types of columns that rows can be partitioned by, beside integers."""


@only_polars
@dataclass(frozen=True)
class Parquet:
    """Write each batch as a Parquet file of a data set: all have the same columns, and types.

    Args:
        folder: Where to; a relative one is below the run's output folder.
        compression: A Parquet codec that Polars knows: lz4, zstd, snappy, ...
        leave_out: Columns that are not written; `line` is if the run keeps it (`--keep-line`).
        partition_by: Columns by whose values rows go to folders, `date=2026-11-21/level=ERROR`,
            rather than into files. `date` is that of `timestamp` (UTC), if rows have none.
    """

    folder: str = "."
    compression: str = "lz4"
    leave_out: Sequence[str] = ()
    partition_by: Sequence[str] = ()

    of_data_set: ClassVar[bool] = True

    def agree(self, frame: pl.DataFrame, delivery: Delivery) -> None:
        """Have the types of new columns remembered.

        Raises:
            ProcessorStop: If rows cannot be partitioned by a column of its type.
        """
        rows = self._rows(frame, delivery)
        for name in self.partition_by:
            dtype = rows.schema[name]
            if not (dtype in (*KEYS, pl.Null) or dtype.is_integer()):
                raise ProcessorStop(
                    f"rows cannot be partitioned by {name!r}, which has the type {dtype}; use a "
                    "column of text, whole numbers, booleans or dates"
                )
        delivery.schemas.agree(delivery.out / self.folder, rows)

    def fit(self, frame: pl.DataFrame, delivery: Delivery) -> pl.DataFrame:
        """Return the rows with all columns of the data set.

        Rows with another type in a column are rejected, and those of more partitions than a batch
        may have.
        """
        rows = self._rows(frame, delivery)
        rows = typed(rows, delivery.out / self.folder, delivery)
        return self._bounded(rows) if self.partition_by else rows

    def stage(self, frame: pl.DataFrame, delivery: Delivery) -> StagedFile:
        """Write the rows to a hidden file, or to one for each partition."""
        rows = self._rows(frame, delivery)
        if pl.Null in rows.dtypes:
            rows = rows.with_columns(pl.col(pl.Null).cast(pl.String))
        if not self.partition_by:
            return self._stage(rows, delivery)
        outputs: list[Output] = []
        parts = rows.partition_by(
            self.partition_by, as_dict=True, include_key=False, maintain_order=True
        )
        try:
            for values, part in parts.items():
                pairs = zip(self.partition_by, values, strict=True)
                folder = "/".join(partition_folder(name, value) for name, value in pairs)
                outputs += self._stage(part, delivery, below=folder).outputs
        except BaseException:
            StagedFile(outputs, delivery.files).discard()
            raise
        return StagedFile(outputs, delivery.files)

    def _stage(self, rows: pl.DataFrame, delivery: Delivery, *, below: str = "") -> StagedFile:
        return stage_file(
            self.folder,
            delivery,
            "parquet",
            lambda path: rows.write_parquet(path, compression=self.compression),  # type: ignore[arg-type]
            below=below,
        )

    def _rows(self, frame: pl.DataFrame, delivery: Delivery) -> pl.DataFrame:
        rows = delivery.without(frame, self.leave_out)
        for name in self.partition_by:
            if name not in rows.columns:
                times = rows.schema.get("timestamp") if name == "date" else None
                has_times = isinstance(times, pl.Datetime)
                value = pl.col("timestamp").dt.date() if has_times else pl.lit(None)
                rows = rows.with_columns(value.alias(name))
        return rows

    def _bounded(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Mark rows that go to no folder: its name would be too long, or there are too many."""
        columns = [pl.col(name) for name in self.partition_by]
        texts = [rows[name] for name in self.partition_by if rows.schema[name] == pl.String]
        for text in texts:
            unique = text.unique().drop_nulls()
            long = unique.filter(
                pl.Series([len(partition_folder(text.name, one)) > MAX_NAME for one in unique])
                if len(unique)
                else pl.Series([], dtype=pl.Boolean)
            )
            why = f"a value of {text.name!r} is too long for the name of a folder"
            where = pl.col(text.name).is_in(long.implode())
            rows = reject(rows, where, "partition_too_long", why)
        sizes = rows.group_by(columns).len()
        if sizes.height <= MAX_PARTITIONS:
            return rows
        kept = sizes.sort("len", *columns, descending=[True, *[False] * len(columns)])
        kept = kept.head(MAX_PARTITIONS).drop("len").with_columns(__kept=pl.lit(value=True))
        found = rows.join(
            kept, on=self.partition_by, how="left", nulls_equal=True, maintain_order="left"
        )
        why = (
            f"the batch has {sizes.height:,} partitions by {', '.join(self.partition_by)}, and "
            f"this row is of none of the {MAX_PARTITIONS} largest; partition by fewer values"
        )
        return reject(found, pl.col("__kept").is_null(), "too_many_partitions", why)


def typed(rows: pl.DataFrame, folder: Path, delivery: Delivery) -> pl.DataFrame:
    """Return rows with all columns of a data set; those of another type in one are rejected."""
    rows, reasons = delivery.schemas.fit(folder, rows)
    if reasons is None:
        return rows
    marked = rows.with_columns(reasons.alias("__why"))
    return reject(marked, pl.col("__why").is_not_null(), "wrong_type", pl.col("__why"))


def partition_folder(name: str, value: object) -> str:
    """Return the name of a folder, as Hive's: `level=ERROR`."""
    if value is None:
        text = NO_VALUE
    elif value == NO_VALUE:
        text = f"%5F{NO_VALUE[1:]}"
    else:
        text = quote(str(value).lower() if isinstance(value, bool) else str(value), safe="")
    return f"{quote(name, safe='')}={text}"


def read_output(folder: Path | str) -> pl.DataFrame:
    """Return all Parquet files below a folder as one frame; an empty one if it is empty.

    Files of different formats have different columns: a row has null in those that its
    file does not have. Columns of partitions have the values that are in the folders' names.

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
    partitions = {file: partition_of(file.relative_to(folder)) for file in files}
    frames = [
        pl.scan_parquet(file, hive_partitioning=False).with_columns(
            **{name: pl.lit(value, pl.String) for name, value in values.items()}
        )
        for file, values in partitions.items()
    ]
    rows = pl.concat(frames, how="diagonal_relaxed").collect() if frames else pl.DataFrame()
    return rows.with_columns(
        _typed(rows[name]) for name in dict.fromkeys(chain(*partitions.values()))
    )


def partition_of(path: Path) -> dict[str, str | None]:
    """Return the values of the columns that are in a path, as text."""
    pairs = [part.partition("=") for part in path.parts[:-1] if "=" in part]
    return {unquote(key): None if value == NO_VALUE else unquote(value) for key, _, value in pairs}


def _typed(values: pl.Series) -> pl.Series:
    """Return the values of a partition with the first type that all of them have."""
    for found in (
        values.str.to_integer(strict=False),
        values.str.to_date("%Y-%m-%d", strict=False),
    ):
        if found.null_count() == values.null_count() < len(values):
            return found
    return values
