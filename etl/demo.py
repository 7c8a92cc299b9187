"""The pipelines of the two demos.

`levels` reads lines such as `warn: disk space low`, turns warnings into upper case and
prints every line in brackets. `dashboard` counts lines by level; a CRITICAL line becomes
a dead letter.
"""

from __future__ import annotations

import polars as pl

from etl.pipeline.pipeline import Pipeline
from etl.processors.builtin import Count, upper
from etl.processors.processor import reject
from etl.sinks.stdout import Stdout

__all__ = ["dashboard", "levels"]


def start(frame: pl.DataFrame) -> pl.DataFrame:
    """Add `level`, with which a line begins, in lower case, and `text`; reject other lines."""
    level = pl.col("line").str.extract(r"^\s*(\w+):", 1).str.to_lowercase()
    frame = frame.with_columns(level=level, text=pl.col("line").str.strip_chars())
    return reject(frame, pl.col("level").is_null(), "no_level", "the line has no 'level:' in front")


levels = (
    Pipeline("levels")
    .add("start", start)
    .add("warn", upper("text"), after="start", when=pl.col("level").is_in(["warn", "warning"]))
    .add("error", None, after="start", when=pl.col("level") == "error")
    .add("end", Stdout(pl.format("[{}]", "text")), after=("start", "warn", "error"))
)


def find_level(frame: pl.DataFrame) -> pl.DataFrame:
    """Add `level`, the first name of a level in a line; reject a line without one."""
    names = r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b"
    frame = frame.with_columns(level=pl.col("line").str.extract(names, 1))
    return reject(frame, pl.col("level").is_null(), "no_level", "the line names no level")


def refuse_poison(frame: pl.DataFrame) -> pl.DataFrame:
    """Reject CRITICAL lines."""
    return reject(frame, pl.col("level") == "CRITICAL", "poison", "CRITICAL lines are rejected")


dashboard = (
    Pipeline("dashboard")
    .add("level", find_level)
    .add("check", refuse_poison)
    .add("count", Count("level"))
)
