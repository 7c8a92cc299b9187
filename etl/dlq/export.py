"""Dead letters in a file: for a colleague, and from one."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from etl.errors import UsageError, did_you_mean

__all__ = ["digest", "exported_as", "read_exported"]

EXPORTED: dict[str, Any] = {
    "source": pl.String,
    "line_number": pl.Int64,
    "lines": pl.Int64,
    "line": pl.String,
    "raw": pl.Binary,
    "format": pl.String,
    "processor": pl.String,
    "code": pl.String,
}
"""Columns of an exported file that an import needs; the others are for people."""


def exported_as(path: Path) -> str:
    """Return how a file of dead letters is written: its suffix.

    Raises:
        UsageError: If it is neither .jsonl nor .parquet.
    """
    if path.suffix not in (".jsonl", ".parquet"):
        raise UsageError(
            f"dead letters cannot be kept in {str(path)!r}; name a .jsonl or a .parquet file"
        )
    return path.suffix


def read_exported(path: Path) -> pl.DataFrame:
    """Read the columns of an exported file that an import needs.

    Raises:
        UsageError: If the file is not there, or does not hold dead letters.
    """
    try:
        if exported_as(path) == ".parquet":
            found = pl.read_parquet(path)
        else:
            with path.open(encoding="utf-8") as file:
                rows = [_exported_row(number, text) for number, text in enumerate(file, 1)]
            found = pl.DataFrame({name: [row[name] for row in rows] for name in EXPORTED}, EXPORTED)
        dead_letters = found.select(pl.col(name).cast(kind) for name, kind in EXPORTED.items())
        if dead_letters["line"].str.contains("\n", literal=True).any():
            raise ValueError("a line has a line break inside")
        if any(dead_letters.drop("raw", "format").null_count().row(0)):
            raise ValueError("a line, its source or its number is null")
        return dead_letters
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except (TypeError, ValueError, RecursionError, pl.exceptions.PolarsError) as error:
        why = str(error).split("\n", maxsplit=1)[0]
        raise UsageError(f"{str(path)!r} holds no exported dead letters: {why}") from error


def _exported_row(number: int, text: str) -> Mapping[str, Any]:
    found = json.loads(text)
    row = found if isinstance(found, dict) else {}
    for name, kind in EXPORTED.items():
        if name not in row:
            raise ValueError(f"line {number} has no {name!r}{did_you_mean(name, row)}")
        needed = int if kind == pl.Int64 else str
        optional = name in ("raw", "format")
        if not isinstance(row[name], needed) and not (optional and row[name] is None):
            raise ValueError(f"line {number}: {name} = {row[name]!r} is no {needed.__name__}")
    raw = row["raw"]
    return {**row, "raw": raw if raw is None else base64.b64decode(raw, validate=True)}


def digest(dead_letters: pl.DataFrame) -> str:
    """Return what tells these letters from others, in whatever kind of file they came."""
    digest = hashlib.sha256()
    for row in dead_letters.select("source", "line_number", "line", "raw", "format").iter_rows():
        digest.update(repr(row).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:24]
