"""How far a run is, and what it waits for at the moment."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etl.queue import Queue, Stats
from etl.settings import Settings
from etl.text import counted, printable

__all__ = ["Progress", "waits_for"]

RECENT = 30.0
"""Seconds for which an error that is tried again is worth a word."""

NAMED = 3
"""Workers that are named."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        read: Bytes of its sources that are put.
        size: Bytes of its sources in all; None if that is not known.
        stats: The store's totals.
        seconds: Since its start.
        queue: The store, open.
        reading: Name of the source that is being read; empty once all are.
        place: Which of the sources that is, from 1.
        sources: How many there are.
    """

    read: int
    size: int | None
    stats: Stats
    seconds: float
    queue: Queue
    reading: str = ""
    place: int = 0
    sources: int = 0


def waits_for(progress: Progress) -> str:
    """Return what a run waits for, as a phrase on one line; the store is asked for it."""
    queue, stats = progress.queue, progress.stats
    if stats.paused:
        reason = queue.control().reason
        return "paused" + (f": {printable(reason)}" if reason else "")
    workers = queue.read("workers")
    said = _reading(progress) or _processing(stats, workers)
    errors = [one for one in queue.read("errors", limit=1) if one["action"] == "retried"]
    if errors and time.time() - errors[0]["at"] < RECENT:
        why = f"{errors[0]['processor']}: {errors[0]['error']}: {errors[0]['message']}"
        said += f"; trying again after {printable(why, 120)}"
    return said


def _reading(progress: Progress) -> str:
    """Return what is read, or why nothing can be; nothing once all has been."""
    if not progress.reading:
        return ""
    stats, stream = progress.stats, progress.size is None
    if stream and stats.waiting_bytes >= Settings.max_waiting_bytes:
        return f"waiting for room in the queue: {counted(stats.waiting, 'line')} in it"
    if stream and stats.idle:
        return f"waiting for lines on {printable(progress.reading)}; Ctrl-D or its end ends the run"
    which = f", {progress.place:,} of {progress.sources:,}" if progress.sources > 1 else ""
    return f"reading {printable(progress.reading)}{which}"


def _processing(stats: Stats, workers: Sequence[Mapping[str, Any]]) -> str:
    """Return what is processed, and by whom."""
    busy = [worker for worker in workers if worker["batch"] is not None]
    if not workers:
        return "waiting for workers to start" if not stats.idle else "ending"
    if stats.waiting and busy:
        return f"{counted(stats.waiting, 'line')} left for {counted(len(workers), 'worker')}"
    if stats.waiting:
        return f"{counted(stats.waiting, 'line')} left, to be tried again"
    if stats.leased:
        names = ", ".join(printable(f"{one['name']} on {one['host']}") for one in busy[:NAMED])
        last = f"waiting for the last {counted(stats.leased, 'line')}"
        return f"{last}, with {names}" if names else last
    return f"waiting for {counted(len(workers), 'worker')} to end"
