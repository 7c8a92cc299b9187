"""The benchmark's work as an etl pipeline: parse, branch, upper-case, merge, count, Parquet."""

from __future__ import annotations

import polars as pl

from etl import Count, Parquet, Parse, Pipeline, upper

pipeline = (
    Pipeline("benchmark")
    .add("parse", Parse())
    .add("warn", upper("message"), when=pl.col("level").str.starts_with("WARN"))
    .add("info", None, after="parse", when=pl.col("level") == "INFO")
    .add("rest", None, after="parse")
    .add("count", Count("level"), after=("warn", "info", "rest"))
    .add("parquet", Parquet(leave_out=("line", "format", "source", "path")))
)
