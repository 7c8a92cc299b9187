"""Pipelines into targets; a process kills itself at the place that `DIE_AT` names."""

import os
import signal
from collections.abc import Callable
from typing import Any

import polars as pl

from etl import DatabaseTable, DuckLake, HttpLines, Pipeline
from etl.execution.batch_run import Runner
from etl.queue.writes import DatabaseQueue
from etl.sinks.database import DatabaseSession


def die_after(owner: Any, method: str) -> None:
    """Let a method be the last thing that this process does."""
    whole: Callable[..., Any] = getattr(owner, method)

    def last(*arguments: Any, **options: Any) -> None:
        whole(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, method, last)


PLACES = {
    "stage": (DatabaseTable, "stage"),
    "commit": (DatabaseQueue, "commit"),
    "publish": (Runner, "publish"),
    "load": (DatabaseSession, "_load"),
    "loaded": (DatabaseSession, "load"),
    "forget": (DatabaseQueue, "replace_outputs"),
}
"""Where a process may die: after each step of a row's way into a database."""

if place := os.environ.get("DIE_AT"):
    die_after(*PLACES[place])


def number(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(number=pl.col("line").str.extract(r"line (\d+)", 1).cast(pl.Int64))


pipeline = (
    Pipeline("deadly")
    .add("number", number)
    .add("out", DatabaseTable(os.environ.get("TARGET", "sqlite:///t.db"), "lines", timeout=1))
)

into_lake = (
    Pipeline("into_lake")
    .add("number", number)
    .add("out", DuckLake(os.environ.get("LAKE", "lake.db"), "lines"))
)

over_http = Pipeline("over_http").add(
    "out", HttpLines(os.environ.get("SERVER", "http://127.0.0.1:1"), timeout=0.5)
)
