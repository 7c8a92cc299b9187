"""The benchmark's work as an etl pipeline: parse, branch, upper-case, merge, count, Parquet.

And pipelines that only parse and write, with 1 to 20 processors in between that pass rows on.
"""

from __future__ import annotations

import polars as pl

from etl import Count, Parquet, Parse, Pipeline, upper
from etl.processors import only_polars

UNASKED = ("line", "format", "source", "path")
"""Columns that the comparators do not write."""

pipeline = (
    Pipeline("benchmark")
    .add("parse", Parse())
    .add("warn", upper("message"), when=pl.col("level").str.starts_with("WARN"))
    .add("info", None, after="parse", when=pl.col("level") == "INFO")
    .add("rest", None, after="parse")
    .add("count", Count("level"), after=("warn", "info", "rest"))
    .add("parquet", Parquet(leave_out=UNASKED))
)


@only_polars
def same(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows as they are."""
    return frame


def passing(count: int) -> Pipeline:
    """Return a pipeline with so many processors that pass rows on."""
    made = Pipeline(f"passing {count}").add("parse", Parse())
    for number in range(1, count + 1):
        made.add(f"same {number}", same)
    return made.add("parquet", Parquet(leave_out=UNASKED))


passing_1, passing_5, passing_10, passing_20 = map(passing, (1, 5, 10, 20))
