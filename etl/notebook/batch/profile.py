"""What is in a run's output: its columns, and its lines by level over time.

Parquet files are read lazily and in pieces; only what is counted becomes a
pandas frame. Files of different formats have different columns: a row of a file
without a column counts as null there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from etl.records.columns import INTEGER, INTEGER_OR_NULL, NUMBER, TEXT, TIME, Table
from etl.text import printable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["levels_over_time", "output", "profile"]

EXACT_ROWS = 5_000_000
"""Rows up to which distinct values are counted one by one; beyond, to within 2 %."""

MAX_LENGTH = 60
"""Characters of a least or greatest value that are shown."""

STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)
"""Seconds that a bar may stand for; above them, whole days."""

PROFILE = Table.of(
    "profile",
    column=TEXT,
    dtype=TEXT,
    nulls=INTEGER,
    filled=NUMBER,
    distinct=INTEGER_OR_NULL,
    least=TEXT,
    greatest=TEXT,
)
LEVELS_OVER_TIME = Table.of("levels_over_time", at=TIME, level=TEXT, lines=INTEGER)


def output(folder: Path) -> pl.LazyFrame | None:
    """Return all Parquet files below a folder as one lazy frame, or None if there are none."""
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        return None
    return pl.concat([pl.scan_parquet(file) for file in files], how="diagonal_relaxed")


def profile(rows: pl.LazyFrame | None) -> pd.DataFrame:
    """Return one row per column, the fullest first, then by name.

    Columns: `column`, `dtype` (str); `nulls` (int64); `filled` (float64, share
    of rows that are not null); `distinct` (Int64, values other than null;
    missing for nested types); `least`, `greatest` (str, cut to 60 characters).
    """
    if rows is None:
        return PROFILE.frame([])
    schema = rows.collect_schema()
    height = rows.select(pl.len()).collect().item()
    wanted = [pl.col(name).null_count().alias(f"nulls {name}") for name in schema]
    for name, dtype in schema.items():
        if not dtype.is_nested():
            column = pl.col(name)
            count = column.n_unique() if height <= EXACT_ROWS else column.approx_n_unique()
            wanted += [count.alias(f"distinct {name}")]
            wanted += [column.min().alias(f"least {name}"), column.max().alias(f"greatest {name}")]
    found = rows.select(wanted).collect(engine="streaming").row(0, named=True)
    names = sorted(schema, key=lambda name: (found[f"nulls {name}"], name))
    return PROFILE.frame(_column(name, schema[name], height, found) for name in names)


def levels_over_time(rows: pl.LazyFrame | None, *, most: int = 60) -> pd.DataFrame:
    """Return lines by level and time, for at most so many bars.

    Columns: `at` (datetime64, UTC: the start of a bar), `level` (str), `lines`
    (int64). Empty if the output has no `timestamp` that is a time, or no `level`;
    rows without a timestamp are left out.
    """
    if rows is None or not _has_times(rows.collect_schema()):
        return LEVELS_OVER_TIME.frame([])
    time = pl.col("timestamp")
    least, greatest = rows.select(a=time.min(), b=time.max()).collect(engine="streaming").row(0)
    if least is None:
        return LEVELS_OVER_TIME.frame([])
    seconds = (greatest - least).total_seconds() / most
    step = next((step for step in STEPS if step >= seconds), 86400 * (int(seconds // 86400) + 1))
    counted = (
        rows.filter(time.is_not_null())
        .group_by(time.dt.truncate(f"{step}s"), pl.col("level").fill_null("no level"))
        .agg(lines=pl.len())
        .sort("timestamp", "level")
        .with_columns(at=time.dt.epoch("ms") / 1000)
    )
    return LEVELS_OVER_TIME.frame(counted.collect(engine="streaming"))


def _column(name: str, dtype: pl.DataType, rows: int, found: dict[str, Any]) -> dict[str, Any]:
    nulls, distinct = found[f"nulls {name}"], found.get(f"distinct {name}")
    return {
        "column": name,
        "dtype": str(dtype).split("(", maxsplit=1)[0].lower(),
        "nulls": nulls,
        "filled": 1 - nulls / rows if rows else 0.0,
        "distinct": None if distinct is None else distinct - (nulls > 0),
        "least": _shown(found.get(f"least {name}")),
        "greatest": _shown(found.get(f"greatest {name}")),
    }


def _has_times(schema: pl.Schema) -> bool:
    return "level" in schema and isinstance(schema.get("timestamp"), pl.Datetime)


def _shown(value: Any) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return printable(text.removesuffix("+00:00"), MAX_LENGTH)
