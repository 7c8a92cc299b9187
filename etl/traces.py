"""The paths of the last lines, with the time at each hop.

A batch keeps the traces of its last 1,000 lines; the store keeps the last
1,000 of all. Times are per line: a processor works on whole frames, so that a
line's time is the batch's time shared out evenly.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import zstandard

from etl.frames import TIME, frame_of
from etl.queue import Queue

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KEPT", "hops", "trace_rows", "traces"]

KEPT = 1000


def trace_rows(queue: Queue, limit: int = KEPT) -> list[dict[str, Any]]:
    """Return what `traces` does, as dicts, the oldest first."""
    rows: list[dict[str, Any]] = []
    for record in reversed(queue.records("traces", limit=limit)):
        if len(rows) >= limit:
            break
        rows = _rows(record) + rows
    return rows[-limit:]


def traces(queue: Queue, limit: int = KEPT) -> pd.DataFrame:
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


def hops(queue: Queue, limit: int = KEPT) -> pd.DataFrame:
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


def _rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    columns, paths = json.loads(zstandard.ZstdDecompressor().decompress(record["block"]))
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
