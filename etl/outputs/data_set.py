"""The Parquet files of a store as one table, each line once at every moment.

What the store lists is read, under whichever of its two names a file has now, and nothing else in
the output root: another store may write there, too. Of a store that lists no file, such as one of
an earlier version, it is what is found there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import polars as pl

from etl.errors import UsageError
from etl.filesystem import DISK, FileSystem
from etl.queue import Queue
from etl.records.schemas import cast_exactly, type_of, written
from etl.sinks.parquet import partition_of
from etl.sinks.publish import is_shown

__all__ = [
    "SUFFIX",
    "DataSets",
    "conform",
    "output_files",
    "read_rows",
    "scan_rows",
]

SUFFIX = ".parquet"

log = logging.getLogger("etl")

T = TypeVar("T")

ATTEMPTS = 10
"""How often files are listed again because others have replaced them since."""


class DataSets:
    """The folders of data sets, and their columns.

    Args:
        known: What `Queue.data_sets` returns.
    """

    def __init__(self, known: Mapping[Path, Mapping[str, str]]) -> None:
        self.schemas = {
            folder: pl.Schema({name: type_of(text) for name, text in columns.items()})
            for folder, columns in known.items()
        }

    def folder_of(self, file: Path) -> Path | None:
        """Return the folder of the data set that a file belongs to, if it is one's."""
        for folder in file.parents:
            if folder in self.schemas:
                return folder
            if "=" not in folder.name:
                return None
        return None

    def schema_of(self, file: Path) -> pl.Schema | None:
        """Return the columns that a file has to have; None if it is of no data set."""
        folder = self.folder_of(file)
        if folder is None:
            return None
        partition = partition_of(file.relative_to(folder))
        schema = written(self.schemas[folder])
        return pl.Schema({name: kind for name, kind in schema.items() if name not in partition})


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A Parquet file: where it is now, and where it belongs."""

    path: Path
    final: Path


def output_files(queue: Queue, root: Path | None, files: FileSystem = DISK) -> list[OutputFile]:
    """Return the Parquet files that hold a store's rows now, by name.

    Raises:
        FileNotFoundError: If one was replaced in the meantime; look again.
        UsageError: If the output is not Parquet.
    """
    root = root and files.resolve(root)  # as the store knows what lies below it
    outputs = queue.outputs()
    known = [one for one in outputs if one.final.endswith(SUFFIX)]
    places: dict[Path, Path] = {}
    if root and not known:
        found = (path for path in files.find(root, f"*{SUFFIX}") if is_shown(path, root))
        places = {path: path for path in found}
    for one in known:
        final, staged = Path(one.final), Path(one.staged)
        place = next((path for path in (final, staged, final) if files.exists(path)), None)
        if place is not None:
            places[final] = place
        elif any(other.final == one.final for other in queue.outputs()):
            log.warning("output %r is lost, and its rows are not read; see etl check", one.final)
        else:
            raise FileNotFoundError(one.final)  # replaced in the meantime
    if outputs and not (places or known):
        kinds = ", ".join(sorted({Path(one.final).suffix for one in outputs}))
        raise UsageError(f"the output of {queue.url} holds no Parquet files, but {kinds}")
    return [OutputFile(places[final], final) for final in sorted(places)]


def scan_rows(queue: Queue, root: Path | None, files: FileSystem = DISK) -> pl.LazyFrame:
    """Return the rows of all Parquet files of a store as one lazy frame, with all their columns.

    It reads the files as they are now; to collect it fails if they are replaced in the meantime.

    Args:
        queue: The store.
        root: Its output root, if it keeps one.
        files: Where they are.
    """
    found = output_files(queue, root, files)
    data_sets = DataSets(queue.data_sets())  # after the files: it has the columns of all of them
    frames: list[pl.LazyFrame] = []
    for (folder, parts), group in _alike(found, data_sets):
        paths = [one.path for one in group]
        for same in _with_one_schema(paths, files):
            frame = pl.concat(
                pl.scan_parquet(files.scannable(one), hive_partitioning=False) for one in same
            )
            if folder is not None:
                schema = written(data_sets.schemas[folder])
                values = {name: _literal(text, schema.get(name)) for name, text in parts}
                frame = conform(frame.with_columns(**values), schema)
            frames.append(frame)
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.LazyFrame()


def _alike(
    found: Iterable[OutputFile], data_sets: DataSets
) -> Iterator[tuple[tuple[Path | None, tuple[tuple[str, str | None], ...]], Iterator[OutputFile]]]:
    """Yield files by their data set and partition."""

    def key(one: OutputFile) -> tuple[Path | None, tuple[tuple[str, str | None], ...]]:
        folder = data_sets.folder_of(one.final)
        parts = partition_of(one.final.relative_to(folder)) if folder else {}
        return folder, tuple(parts.items())

    yield from groupby(found, key)


def _literal(text: str | None, dtype: pl.DataType | None) -> pl.Expr:
    """Return the value of a partition with the type of its column."""
    value: str | bool | date | None = text
    if text is not None and dtype == pl.Boolean:
        value = text == "true"
    elif text is not None and dtype == pl.Date:
        value = date.fromisoformat(text)
    return pl.lit(value).cast(dtype or pl.String)


def _with_one_schema(paths: Iterable[Path], files: FileSystem) -> Iterator[list[Path]]:
    def key(path: Path) -> tuple[tuple[str, str], ...]:
        schema = pl.read_parquet_schema(files.scannable(path))
        return tuple((name, str(dtype)) for name, dtype in schema.items())

    yield from (list(group) for _, group in groupby(paths, key))


def conform(frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    """Return rows with the columns of a data set; what does not fit is null."""
    found = frame.collect_schema()
    return frame.select(
        _cast(name, found[name], dtype) if name in found else pl.lit(None, dtype).alias(name)
        for name, dtype in schema.items()
    )


def _cast(name: str, found: pl.DataType, dtype: pl.DataType) -> pl.Expr:
    """Return a column with another type; where there is no such cast, without values."""
    if found == dtype:
        return pl.col(name)
    try:
        pl.Series([], dtype=found).cast(dtype)
    except pl.exceptions.PolarsError:
        return pl.lit(None, dtype).alias(name)
    return pl.col(name).cast(dtype, strict=False)


def misfits(path: Path, schema: pl.Schema, files: FileSystem = DISK) -> list[str]:
    """Return the columns of a file that have values which do not fit."""
    source = files.scannable(path)
    wrong = []
    for name, dtype in pl.read_parquet_schema(source).items():
        if name not in schema:
            wrong.append(name)
        elif dtype != schema[name]:
            values = pl.read_parquet(files.scannable(path), columns=[name])[name]
            if cast_exactly(values, schema[name])[1].any():
                wrong.append(name)
    return wrong


def read_rows(queue: Queue, root: Path | None, files: FileSystem = DISK) -> pl.DataFrame:
    """Return the rows of all Parquet files of a store as one frame, each line once.

    Raises:
        UsageError: If a file cannot be read, or the output is not Parquet.
    """
    return with_rows(queue, root, pl.LazyFrame.collect, files)


def with_rows(
    queue: Queue, root: Path | None, use: Callable[[pl.LazyFrame], T], files: FileSystem = DISK
) -> T:
    """Return what a function makes of the rows, each line once.

    Args:
        queue: The store.
        root: Its output root, if it keeps one.
        use: Collects the rows; it is called again if files were replaced in the meantime.
        files: Where they are.

    Raises:
        UsageError: If a file cannot be read, or the output is not Parquet.
    """
    for _ in range(ATTEMPTS):
        try:
            return use(scan_rows(queue, root, files))
        except (FileNotFoundError, pl.exceptions.ComputeError) as error:
            if not isinstance(error, FileNotFoundError) and "os error 2" not in str(error):
                raise UsageError(f"the output of {queue.url} cannot be read: {error}") from error
            missing = error
    raise UsageError(f"the output of {queue.url} cannot be read: {missing}; see etl check")
