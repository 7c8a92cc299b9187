"""Pipelines into targets; a process kills itself at the place that `DIE_AT` names."""

import os
import signal
from collections.abc import Callable
from typing import Any

import polars as pl

from etl import (
    Bucket,
    DatabaseTable,
    Delta,
    DuckLake,
    Elasticsearch,
    HttpLines,
    Loki,
    Pipeline,
    Topic,
)
from etl.execution.batch_run import Runner
from etl.queue.writes import DatabaseQueue
from etl.sinks.bucket import BucketSession
from etl.sinks.database import DatabaseSession
from etl.sinks.delta import DeltaSession
from etl.sinks.http import HttpSession
from etl.sinks.lake import LakeSession
from etl.sinks.target import Target
from etl.sinks.topic import TopicSession


def die_after(owner: Any, method: str) -> None:
    """Let a method be the last thing that this process does."""
    whole: Callable[..., Any] = getattr(owner, method)

    def last(*arguments: Any, **options: Any) -> None:
        whole(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, method, last)


URL = os.environ.get("TARGET", "sqlite:///t.db")

TARGETS: dict[str, tuple[Callable[[], Target], type, str]] = {
    "database": (lambda: DatabaseTable(URL, "lines", timeout=1), DatabaseSession, "_load"),
    "lake": (lambda: DuckLake(URL, "lines"), LakeSession, "_insert"),
    "delta": (lambda: Delta(URL), DeltaSession, "_write"),
    "bucket": (lambda: Bucket(URL), BucketSession, "loaded"),
    "topic": (lambda: Topic(URL), TopicSession, "_send"),
    "lines": (lambda: HttpLines(URL, timeout=0.5), HttpSession, "_send"),
    "index": (lambda: Elasticsearch(URL, "lines"), HttpSession, "_send"),
    "loki": (lambda: Loki(URL), HttpSession, "_send"),
}
"""By kind: how a target is made, its session, and a step while that loads files."""

make, session, step = TARGETS[os.environ.get("KIND", "database")]

PLACES = {
    "stage": (Target, "stage"),
    "commit": (DatabaseQueue, "commit"),
    "publish": (Runner, "publish"),
    "load": (session, step),
    "loaded": (session, "load"),
    "forget": (DatabaseQueue, "replace_outputs"),
}
"""Where a process may die: after each step of a row's way into a target."""

if place := os.environ.get("DIE_AT"):
    die_after(*PLACES[place])


def number(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(number=pl.col("line").str.extract(r"line (\d+)", 1).cast(pl.Int64))


pipeline = Pipeline("deadly").add("number", number).add("out", make())
