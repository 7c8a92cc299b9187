"""What the control room shows, read from a store at once: everything else only draws it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl

from etl.analysis import metrics
from etl.analysis.figures import LEVELS, WINDOW
from etl.analysis.traces import traces
from etl.pipeline.pipeline import Pipeline
from etl.pipeline.plan import INPUT
from etl.queue import Control, DeadLetterFilter, Queue, Stats

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Snapshot", "edges_of", "level_of", "read_snapshot"]

MAX_ICONS = 500
"""Waiting lines that are shown one by one; the rest are counted."""

MAX_ROWS = 60
"""Traces and dead letters that are listed."""

_NAMES = "DEBUG|INFO|WARN(?:ING)?|ERR(?:OR)?|CRIT(?:ICAL)?|FATAL|ALERT|EMERG"
_LEVEL = re.compile(rf"\b({_NAMES})\b", re.IGNORECASE)
_SHORT = {"W": "WARNING", "D": "DEBUG", "I": "INFO"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A store at one moment. Frames and rows have the columns of `metrics` and `traces`."""

    at: float
    stats: Stats
    control: Control
    rate: float
    workers: int
    counts: dict[str, float]
    history: pd.DataFrame
    processors: pd.DataFrame
    edges: list[tuple[str, str]]
    waiting: list[tuple[str, str, str]]
    groups: list[dict[str, Any]]
    dead_letters: list[dict[str, Any]]
    traces: list[dict[str, Any]]


def read_snapshot(queue: Queue, pipeline: Pipeline | None, group: str | None) -> Snapshot:
    """Return what a store holds now.

    Args:
        queue: The store.
        pipeline: What its workers run, or None if that is not known here.
        group: Fingerprint of the dead letters to list.
    """
    stats = queue.stats()
    last = traces.polars(queue, MAX_ROWS).reverse().to_dicts()
    listed: list[dict[str, Any]] = []
    if stats.dead and group:
        wanted = DeadLetterFilter(fingerprint=group, limit=MAX_ROWS)
        listed = queue.dead_letters(wanted).reverse().to_dicts()
    return Snapshot(
        at=time.time(),
        stats=stats,
        control=queue.control(),
        rate=metrics.rates(queue)["done_per_second"],
        workers=len(queue.read("workers")),
        counts=_counts(queue),
        history=metrics.history(queue, limit=WINDOW + 2),
        processors=metrics.processors(queue),
        edges=edges_of(pipeline, last),
        waiting=_waiting(queue) if stats.waiting else [],
        groups=queue.dead_letter_groups(DeadLetterFilter()) if stats.dead else [],
        dead_letters=listed,
        traces=last,
    )


def level_of(line: str) -> str:
    """Return the level that a line names, or OTHER."""
    found = _LEVEL.search(line)
    if found is None:
        return "OTHER"
    name = found[1].upper()
    return _SHORT.get(name[0]) or ("ERROR" if name.startswith("ERR") else "CRITICAL")


def edges_of(pipeline: Pipeline | None, traces: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the pipeline's edges, or, without one, those that the last lines went along."""
    if pipeline is not None:
        return pipeline.plan().edges
    return sorted({pair for trace in traces for pair in pairwise((INPUT, *trace["path"]))})


def _counts(queue: Queue) -> dict[str, float]:
    """Return lines by level from the first processor that counts levels."""
    totals = metrics.state_totals(queue).values()
    return next((counts for counts in totals if set(counts) & set(LEVELS)), {})


def _waiting(queue: Queue) -> list[tuple[str, str, str]]:
    """Return key, level and text of the first waiting lines."""
    rows = queue.peek(MAX_ICONS).select(
        pl.concat_str("batch", "line_number", separator=":"), pl.col("line").str.head(200)
    )
    return [(key, level_of(line), line) for key, line in rows.iter_rows()]
