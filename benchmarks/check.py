"""Read what a program of the benchmark wrote and say what is in it, to compare answers.

A program of its own, because reading makes the process large, and a child's peak memory is counted
from the size its parent had when it started it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl


def summary(out: Path) -> dict[str, object]:
    """Return counts by level, the first and last line number, and a digest of all lines.

    The digest is a sum over rows, so the order of rows and of files does not matter; equal digests
    mean the same level and message at the same line number.

    Args:
        out: Folder with Parquet files; those named `dead*` are left out.
    """
    files = [path for path in sorted(out.rglob("*.parquet")) if not path.name.startswith("dead")]
    if not files:
        return {"counts": {}, "first": None, "last": None, "digest": None}
    number = pl.col("line_number").cast(pl.Int64)
    rows = pl.scan_parquet(files).select(number, pl.col("level", "message").cast(pl.String))
    counts = rows.group_by("level").len().collect(engine="streaming")
    whole = rows.select(
        pl.col("line_number").min().alias("first"),
        pl.col("line_number").max().alias("last"),
        (pl.struct(pl.all()).hash() % 2**31).sum().alias("digest"),
    ).collect(engine="streaming")
    return {"counts": dict(sorted(counts.iter_rows())), **whole.row(0, named=True)}


if __name__ == "__main__":
    print(json.dumps(summary(Path(sys.argv[1]))))
