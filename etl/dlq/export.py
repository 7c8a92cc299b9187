"""Dead letters in a file: for a colleague, and from one."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from etl.errors import UsageError, did_you_mean
from etl.filesystem import DISK
from etl.records.columns import DEAD_LETTERS
from etl.records.context import Context

__all__ = ["content_id", "read_export", "write_export"]

EXPORTED = DEAD_LETTERS.drop("id", "status")
"""Columns of an exported file."""

IMPORTED = DEAD_LETTERS.pick(
    "source",
    "line_number",
    "lines",
    "line",
    "raw",
    "format",
    "processor",
    "code",
    "context",
    "damaged",
)
"""Those of them that an import needs; the others are for people."""

ROW_GROUP = 20_000
"""Dead letters in a part of a Parquet file: what is in memory when it is written."""

LATER = {"context": "{}", "damaged": False}
"""Columns that files of earlier versions lack, and what they stand for there."""


def write_export(pages: Iterable[pl.DataFrame], path: Path) -> int:
    """Write dead letters to a file, which appears whole or not at all, and return how many.

    A page is in memory at a time; each is a file beside this one until all are there.

    Args:
        pages: The dead letters, the newest page first, as a store returns them.
        path: The file; the oldest page is its first part.

    Raises:
        UsageError: If it cannot be written, or is neither .jsonl nor .parquet.
    """
    write, join = KINDS[_suffix(path)]
    count = 0
    try:
        private = DISK.is_private(path.parent)
        with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            parts: list[Path] = []
            for page in pages:
                count += page.height
                parts.append(Path(folder, f"{len(parts)}{path.suffix}"))
                write(page.select(EXPORTED.names), parts[-1])
            if not parts:
                parts.append(Path(folder, f"0{path.suffix}"))
                write(pl.DataFrame(schema=EXPORTED.schema), parts[0])
            whole = DISK.make_file(Path(folder, "whole"), private=private)
            join(parts[::-1], whole)
            whole.replace(path)
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be written: {error}") from error
    return count


def read_export(path: Path) -> pl.DataFrame:
    """Return the columns of an exported file that an import needs.

    Raises:
        UsageError: If the file does not exist, or does not hold dead letters; the message
            names the row, the column and the value.
    """
    try:
        if _suffix(path) == ".parquet":
            found = pl.read_parquet(path).iter_rows(named=True)
        else:
            found = _json_rows(path)
        rows = [_checked(number, row) for number, row in enumerate(found, 1)]
        columns = {name: [row[name] for row in rows] for name in IMPORTED.names}
        return pl.DataFrame(columns, IMPORTED.schema)
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except (TypeError, ValueError, RecursionError, pl.exceptions.PolarsError) as error:
        why = str(error).split("\n", maxsplit=1)[0]
        raise UsageError(f"{str(path)!r} holds no exported dead letters: {why}") from error


def content_id(dead_letters: pl.DataFrame) -> str:
    """Return 24 hex digits of dead letters' content: the same from either kind of file."""
    digest = hashlib.sha256()
    for row in dead_letters.select("source", "line_number", "line", "raw", "format").iter_rows():
        digest.update(repr(row).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:24]


def _write_json(page: pl.DataFrame, path: Path) -> None:
    page.with_columns(pl.col("raw").bin.encode("base64")).write_ndjson(path)


def _join_json(parts: list[Path], whole: Path) -> None:
    with whole.open("wb") as target:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, target)


def _join_parquet(parts: list[Path], whole: Path) -> None:
    pl.scan_parquet(parts, glob=False).sink_parquet(whole, row_group_size=ROW_GROUP)


def _write_parquet(page: pl.DataFrame, path: Path) -> None:
    page.write_parquet(path)


KINDS: dict[
    str, tuple[Callable[[pl.DataFrame, Path], None], Callable[[list[Path], Path], None]]
] = {
    ".jsonl": (_write_json, _join_json),
    ".parquet": (_write_parquet, _join_parquet),
}
"""How a page is written and how pages are joined, by the ending of the file."""


def _suffix(path: Path) -> str:
    if path.suffix not in KINDS:
        raise UsageError(
            f"dead letters cannot be kept in {str(path)!r}; name a .jsonl or a .parquet file"
        )
    return path.suffix


def _json_rows(path: Path) -> Iterator[Any]:
    # Polars would read JSON faster, but it turns a number into text and a lone surrogate into NUL.
    with path.open(encoding="utf-8") as file:
        for text in file:
            yield json.loads(text, object_hook=_decode_raw)


def _decode_raw(row: dict[str, Any]) -> dict[str, Any]:
    raw = row.get("raw")
    return row | {"raw": base64.b64decode(raw, validate=True)} if isinstance(raw, str) else row


def _checked(number: int, found: Any) -> Mapping[str, Any]:
    row: dict[str, Any] = LATER | found if isinstance(found, dict) else {}
    for column in IMPORTED:
        name = column.name
        if name not in row:
            raise ValueError(f"row {number} has no {name!r}{did_you_mean(name, row)}")
        value, wanted = row[name], column.kind.python
        if not (isinstance(value, wanted) or (column.null and value is None)):
            raise ValueError(f"row {number}: {name} must be {wanted.__name__}, got {value!r}")
    if row["lines"] < 1:
        raise ValueError(f"row {number}: lines must be at least 1, got {row['lines']}")
    Context.decode(row["context"])
    return row
