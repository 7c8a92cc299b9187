"""Two runs compared, each named by its store, its folder or its id."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from etl.analysis.compare import Comparison, compare_stores
from etl.errors import UsageError
from etl.queue.urls import file_of
from etl.runs.registry import read
from etl.settings import settings
from etl.store import Store
from etl.store import open as open_store

__all__ = ["compare", "store_of"]


def compare(a: Store | str | Path, b: Store | str | Path, **thresholds: Any) -> Comparison:
    """Return how run b differs from run a, such as today's from yesterday's.

    Args:
        a: The earlier run: an open store, the URL or path of one, the folder of a run, or
            a run's id.
        b: The later run.
        **thresholds: `slower` (1.5): how many times a processor's time per line must grow
            for it to count as slower, and shrink, to count as faster; `least_lines` (100):
            lines that a processor must have seen in both runs; `least_share` (0.01): what
            part of a run's busy time the difference must make.

    Raises:
        UsageError: If there is no such store.
    """
    with ExitStack() as stack:
        stores = [
            run if isinstance(run, Store) else stack.enter_context(open_store(store_of(str(run))))
            for run in (a, b)
        ]
        return compare_stores(*(store.queue for store in stores), **thresholds)


def store_of(run: str) -> str:
    """Return the store of a run, by its URL or path, the run's folder, or the run's id.

    Raises:
        UsageError: If there is no such store.
    """
    path = file_of(run)
    if path is None:
        return run
    for place in (path, path / "store.db"):
        if place.is_file():
            return str(place)
    record = read(path) or read(settings().runs / run)
    if record is None:
        raise UsageError(f"there is no store, folder or run {run!r}; etl runs lists the runs")
    return str(record["store"])
