"""Read what a program of the benchmark wrote and say what is in it, to compare answers.

    python check.py FOLDER [COLUMN ...]

A program of its own, because reading makes the process large, and a child's peak memory is counted
from the size its parent had when it started it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl


def summary(out: Path, columns: Sequence[str]) -> dict[str, object]:
    """Return counts by level, the first and last line number, and a digest of all lines.

    The digest is a sum over rows, so the order of rows and of files does not matter; equal digests
    mean the same values of the columns at the same line number.

    Args:
        out: Folder with files of Parquet or JSON lines; those named `dead*` are left out.
        columns: What the digest is of, besides the line number.
    """
    rows = lines_in(out)
    if rows is None:
        return {"counts": {}, "first": None, "last": None, "digest": None}
    number = pl.col("line_number").cast(pl.Int64)
    rows = rows.select(number, *(pl.col(name).cast(pl.String) for name in columns))
    counts = rows.group_by("level").len().collect(engine="streaming")
    whole = rows.select(
        pl.col("line_number").min().alias("first"),
        pl.col("line_number").max().alias("last"),
        (pl.struct(pl.all()).hash() % 2**31).sum().alias("digest"),
    ).collect(engine="streaming")
    return {"counts": dict(sorted(counts.iter_rows())), **whole.row(0, named=True)}


def lines_in(out: Path) -> pl.LazyFrame | None:
    """Return the rows of all files below a folder, or None if there are no files."""
    for suffix, scan in (("parquet", pl.scan_parquet), ("jsonl", pl.scan_ndjson)):
        found = sorted(out.rglob(f"*.{suffix}"))
        files = [path for path in found if not path.name.startswith("dead")]
        if files:
            return scan(files)
    return None


if __name__ == "__main__":
    print(json.dumps(summary(Path(sys.argv[1]), sys.argv[2:] or ("level", "message"))))
