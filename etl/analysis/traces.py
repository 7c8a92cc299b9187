"""The paths of the last lines, with the time at each hop.

A batch keeps the traces of its last 1,000 lines; the store keeps the last
1,000 of all. Times are per line: a processor works on whole frames, so that a
line's time is the batch's time shared out evenly.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from backports import zstd

from etl.queue import Queue
from etl.records.columns import TIME, frame_of
from etl.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["hops", "path_edges", "path_shares", "slow_lines", "trace_rows", "traces"]


def trace_rows(queue: Queue, limit: int = Settings.kept_traces) -> list[dict[str, Any]]:
    """Return what `traces` does, as dicts, the oldest first."""
    rows: list[dict[str, Any]] = []
    for record in reversed(queue.read("traces", limit=limit)):
        if len(rows) >= limit:
            break
        rows = _rows(record) + rows
    return rows[-limit:]


def traces(queue: Queue, limit: int = Settings.kept_traces) -> pd.DataFrame:
    """Return the last lines that were processed, oldest first.

    Columns: `at` (datetime64, UTC: when the batch was committed), `worker`,
    `batch`, `source`, `version` (str), `line_number` (int64), `line` (str, at
    most 2,000 characters), `state` (str: done, filtered, dead), `path` (tuple
    of processor names), `hop_seconds` (tuple of float, one per hop), `seconds`
    (float64, their sum).
    """
    texts = dict.fromkeys(("worker", "batch", "source", "version"), "str")
    dtypes = {"at": TIME} | texts | {"line_number": "int64", "line": "str", "state": "str"}
    dtypes |= {"path": "object", "hop_seconds": "object", "seconds": "float64"}
    return frame_of(trace_rows(queue, limit), dtypes)


def hops(queue: Queue, limit: int = Settings.kept_traces) -> pd.DataFrame:
    """Return the same lines with one row per hop.

    Columns: `trace` (int64, position in `traces`), `line_number` (int64),
    `hop` (int64, from 0), `processor` (str), `seconds` (float64).
    """
    rows = [
        {
            "trace": number,
            "line_number": trace["line_number"],
            "hop": hop,
            "processor": processor,
            "seconds": trace["hop_seconds"][hop],
        }
        for number, trace in enumerate(trace_rows(queue, limit))
        for hop, processor in enumerate(trace["path"])
    ]
    dtypes = dict.fromkeys(("trace", "line_number", "hop"), "int64")
    return frame_of(rows, dtypes | {"processor": "str", "seconds": "float64"})


def path_shares(queue: Queue, limit: int = Settings.kept_traces) -> pd.DataFrame:
    """Return the paths of the last lines, the most frequent first.

    Columns: `path` (tuple of processor names), `state` (str), `lines` (int64),
    `share` (float64), `seconds` (float64, mean per line). A line that went two
    ways counts in both.
    """
    found: dict[tuple[Any, str], list[float]] = {}
    for row in trace_rows(queue, limit):
        found.setdefault((row["path"], row["state"]), []).append(row["seconds"])
    total = sum(map(len, found.values()))
    rows = [
        {
            "path": path,
            "state": state,
            "lines": len(seconds),
            "share": len(seconds) / total,
            "seconds": sum(seconds) / len(seconds),
        }
        for (path, state), seconds in found.items()
    ]
    rows.sort(key=lambda row: (-row["lines"], row["path"], row["state"]))
    dtypes = {"path": "object", "state": "str", "lines": "int64"}
    return frame_of(rows, dtypes | {"share": "float64", "seconds": "float64"})


def path_edges(queue: Queue, limit: int = Settings.kept_traces) -> pd.DataFrame:
    """Return how many of the last lines went from where to where, in the order they were met.

    Columns: `before`, `after` (str: a processor; a path begins at `input` and
    ends at the line's state: `done`, `filtered` or `dead`), `lines` (int64).
    """
    edges: Counter[tuple[str, str]] = Counter()
    for row in trace_rows(queue, limit):
        edges.update(pairwise(("input", *row["path"], row["state"])))
    rows = [
        {"before": before, "after": after, "lines": lines}
        for (before, after), lines in edges.items()
    ]
    return frame_of(rows, {"before": "str", "after": "str", "lines": "int64"})


def slow_lines(queue: Queue, count: int = 10, limit: int = Settings.kept_traces) -> pd.DataFrame:
    """Return the slowest of the last lines, the slowest first.

    Columns: `source` (str), `line_number` (int64), `line` (str), `state` (str),
    `seconds` (float64), `slowest` (str: the processor that took longest),
    `share` (float64: its part of the time). Lines of one batch and path took
    the same time: what is slow is told by their path, not by their text.
    """
    rows = sorted(trace_rows(queue, limit), key=lambda row: -row["seconds"])[:count]
    for row in rows:
        hops = zip(row["hop_seconds"], row["path"], strict=True)
        max_wait, row["slowest"] = max(hops, key=lambda hop: hop[0], default=(0.0, ""))
        row["share"] = max_wait / (row["seconds"] or 1.0)
    dtypes = {"source": "str", "line_number": "int64", "line": "str", "state": "str"}
    return frame_of(rows, dtypes | {"seconds": "float64", "slowest": "str", "share": "float64"})


def _rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    columns, paths = json.loads(zstd.decompress(record["block"]))
    names = [tuple(name for name, _ in path) for path in paths]
    times = [tuple(seconds for _, seconds in path) for path in paths]
    same = {name: record[name] for name in ("at", "worker", "batch", "source", "version")}
    return [
        same
        | {
            "line_number": number,
            "line": line,
            "state": state,
            "path": names[path],
            "hop_seconds": times[path],
            "seconds": sum(times[path]),
        }
        for number, line, state, path in zip(
            columns["line_number"], columns["line"], columns["state"], columns["path"], strict=True
        )
    ]
