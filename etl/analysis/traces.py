"""The paths of the last lines, with the time at each hop: pandas when called, Polars by `.polars`.

Lines that are dead, replayed, or alone in their batch are all traced; of the others, a
worker traces the last of a batch, at most 200 a second. The store keeps the last 1,000. Times
are per line: a processor works on whole frames, so that a line's time is the batch's time
shared out evenly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import polars as pl
from backports import zstd

from etl.analysis.frame import Rows, frame
from etl.queue import Queue
from etl.records.columns import INTEGER, NAME_LIST, NUMBER, TEXT, TRACES
from etl.records.result import INPUT
from etl.settings import Settings

__all__ = ["hops", "path_edges", "path_shares", "slow_lines", "traces"]


@frame(TRACES)
def traces(queue: Queue, limit: int = Settings.kept_traces) -> Rows:
    """Return the last lines that were processed, oldest first.

    Columns: `at` (datetime64, UTC: when the batch was committed), `worker`,
    `batch`, `source`, `version` (str), `line_number` (int64), `line` (str, at
    most 2,000 characters), `state` (str: done, filtered, dead), `path` (tuple
    of processor names), `hop_seconds` (tuple of float, one per hop), `seconds`
    (float64, their sum).
    """
    rows: list[dict[str, Any]] = []
    for record in reversed(queue.read("traces", limit=limit)):
        if len(rows) >= limit:
            break
        with suppress(zstd.ZstdError, ValueError):  # damaged: `etl check` says so
            rows += reversed(_rows(record))
    return rows[:limit][::-1]


@frame(trace=INTEGER, line_number=INTEGER, hop=INTEGER, processor=TEXT, seconds=NUMBER)
def hops(queue: Queue, limit: int = Settings.kept_traces) -> Rows:
    """Return the same lines with one row per hop.

    Columns: `trace` (int64, position in `traces`), `line_number` (int64),
    `hop` (int64, from 0), `processor` (str), `seconds` (float64).
    """
    found = traces.polars(queue, limit).with_row_index("trace")
    hop = pl.int_ranges(pl.col("path").list.len())
    each = found.select("trace", "line_number", processor="path", seconds="hop_seconds", hop=hop)
    return each.explode("processor", "seconds", "hop", empty_as_null=False)


@frame(path=NAME_LIST, state=TEXT, lines=INTEGER, share=NUMBER, seconds=NUMBER)
def path_shares(queue: Queue, limit: int = Settings.kept_traces) -> Rows:
    """Return the paths of the last lines, the most frequent first.

    Columns: `path` (tuple of processor names), `state` (str), `lines` (int64),
    `share` (float64), `seconds` (float64, mean per line). A line that took
    two paths counts in both.
    """
    counted = (
        traces.polars(queue, limit)
        .group_by("path", "state")
        .agg(pl.col("seconds").mean(), lines=pl.len())
    )
    shares = counted.with_columns(share=pl.col("lines") / pl.col("lines").sum())
    return shares.sort("lines", "path", "state", descending=[True, False, False])


@frame(before=TEXT, after=TEXT, lines=INTEGER)
def path_edges(queue: Queue, limit: int = Settings.kept_traces) -> Rows:
    """Return how many of the last lines went from one processor to another, oldest first.

    Columns: `before`, `after` (str: a processor; a path begins at `input` and
    ends at the line's state: `done`, `filtered` or `dead`), `lines` (int64).
    """
    pairs = traces.polars(queue, limit).select(
        before=pl.concat_list(pl.lit(INPUT), "path"), after=pl.concat_list("path", "state")
    )
    edges = pairs.explode("before", "after", empty_as_null=False)
    return edges.group_by("before", "after", maintain_order=True).agg(lines=pl.len())


@frame(TRACES.pick("source", "line_number", "line", "state", "seconds"), slowest=TEXT, share=NUMBER)
def slow_lines(queue: Queue, count: int = 10, limit: int = Settings.kept_traces) -> Rows:
    """Return the slowest of the last lines, the slowest first.

    Columns: `source` (str), `line_number` (int64), `line` (str), `state` (str),
    `seconds` (float64), `slowest` (str: the processor that took longest),
    `share` (float64: its part of the time). Lines of one batch and path have
    the same time: it is their path that is slow, not their text.
    """
    found = traces.polars(queue, limit).sort("seconds", descending=True, maintain_order=True)
    times = pl.col("hop_seconds").list
    return found.head(count).with_columns(
        slowest=pl.col("path").list.get(times.arg_max(), null_on_oob=True).fill_null(""),
        share=(times.max() / pl.col("seconds")).fill_nan(0.0).fill_null(0.0),
    )


def _rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the traces of one batch."""
    columns, paths = json.loads(zstd.decompress(record["block"]))
    batch = {name: record[name] for name in ("at", "worker", "batch", "source", "version")}
    ways = [
        {
            "path": [name for name, _ in path],
            "hop_seconds": [seconds for _, seconds in path],
            "seconds": sum(seconds for _, seconds in path),
        }
        for path in paths
    ]
    lines = pl.DataFrame(columns).iter_rows(named=True)
    return [batch | line | ways[line["path"]] for line in lines]
