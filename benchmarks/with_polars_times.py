"""The work of the default pipeline as a Polars query: times, levels and sources, as columns.

The bar for `etl run FILE` without options. It knows the format of the lines, and expects that each
line is a record; its input has no others.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
from pattern import PATTERN
from with_polars import counted, scan
from work import DEAD, main

PATH = "blank → parse → normalise → {} → count → parquet"

BRANCHES = {"ERROR": "error", "CRITICAL": "error", "WARNING": "warning"}
"""Branch of the default pipeline by level; the others are `info`."""


def run(source: Path, out: Path) -> tuple[dict[str, int], int]:
    """Do the work on one file."""
    groups = pl.col("line").str.extract_groups(PATTERN).struct.unnest()
    lines = scan(source).filter(pl.col("line").str.strip_chars() != "").select(*DEAD, groups)
    stamp = pl.format("{} {}", "date", "time")
    branch = pl.col("level").replace_strict(BRANCHES, default="info")
    rows = lines.filter(pl.col("level").is_not_null()).select(
        "line_number",
        line_count=pl.lit(1, pl.Int64),
        source=pl.lit(str(source)),
        format=pl.lit("python"),
        timestamp=stamp.str.to_datetime("%Y-%m-%d %H:%M:%S,%3f", time_unit="us", time_zone="UTC"),
        level="level",
        logger="logger",
        pid=pl.lit(None, pl.Int64),
        message="message",
        path=pl.format(PATH, branch),
    )
    rows.sink_parquet(out / "lines.parquet", compression="lz4", engine="streaming")
    return counted(out / "lines.parquet"), 0


if __name__ == "__main__":
    main(run)
