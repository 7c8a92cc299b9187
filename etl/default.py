"""The pipeline that is used when none is named.

It drops blank lines, parses the others by their format, brings them to the normal
columns, branches by level, counts, and writes Parquet.
"""

from __future__ import annotations

import polars as pl

from etl.pipeline.pipeline import Pipeline
from etl.processors.builtin import Count, Parse, drop, normalise
from etl.sinks.parquet import Parquet

__all__ = ["pipeline"]

pipeline = (
    Pipeline("default")
    .add("blank", drop(pl.col("line").str.strip_chars() == ""))
    .add("parse", Parse())
    .add("normalise", normalise)
    .add("error", None, after="normalise", when=pl.col("level").is_in(["ERROR", "CRITICAL"]))
    .add("warning", None, after="normalise", when=pl.col("level") == "WARNING")
    .add("info", None, after="normalise")
    .add("count", Count("level"), after=("error", "warning", "info"))
    .add("parquet", Parquet(leave_out=("line",)))
)
