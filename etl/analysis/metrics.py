"""What the store has counted, as frames: pandas when called, Polars by `.polars`.

Everything here was committed together with the batches it counts, so that it
is exact: a batch that was tried twice is counted once. Times per line are kept
as a histogram with eight buckets to a power of two, which makes a percentile
right to within 5 %.

    processors(queue)           one row per processor
    processors.polars(queue)    the same as a Polars frame; so for all of these
    queue_now(queue)            one row: totals, ages, rates
    history(queue)              one row per second: totals of the queue
    processor_history(queue)    one row per second and processor
    time_shares(queue)          where time goes: one row per processor, the busiest first
    latency_history(queue)      time per line of each processor, by second, minute or hour
    sources(queue)              how each source was read: one row per source
    workers, errors, states     one row each
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import polars as pl

from etl.analysis.frame import Rows, frame
from etl.queue import Queue
from etl.records import columns
from etl.records.columns import FLAG, INTEGER, NUMBER, TEXT, TIME, Table
from etl.text import percent

RATE_SECONDS = 10
"""Rates are over this many seconds."""

PERCENTILES = {"p50": 50, "p95": 95, "p99": 99}

ENOUGH_BATCHES = 20
"""Batches from which on percentiles say something: each has one time per line."""


@frame(columns.PROCESSORS, p50=NUMBER, p95=NUMBER, p99=NUMBER, rate=NUMBER)
def processors(queue: Queue, *, by_worker: bool = False) -> Rows:
    """Return one row per processor (and worker).

    Columns: `worker` (str, if by worker); `processor` (str); `received`,
    `emitted`, `filtered`, `errors`, `retries`, `dead` (int64, source lines); `seconds`
    (float64, busy); `p50`, `p95`, `p99` (float64, seconds per line over all
    workers, null until `ENOUGH_BATCHES` are done); `rate` (float64, lines per
    busy second).
    """
    counted = pl.DataFrame(queue.read("processors"), schema=columns.PROCESSORS.schema)
    keys = ["worker", "processor"] if by_worker else ["processor"]
    sums = counted.group_by(keys, maintain_order=True).agg(pl.col(columns.COUNTERS.names).sum())
    if too_few_batches(queue):
        joined = sums.with_columns(pl.lit(None).alias(name) for name in PERCENTILES)
    else:
        joined = sums.join(_percentiles(queue), on="processor", how="left", maintain_order="left")
    busy = pl.when(pl.col("seconds") > 0)
    rate = busy.then(pl.col("received") / pl.col("seconds")).otherwise(0.0)
    return joined.with_columns(rate=rate)


def too_few_batches(queue: Queue) -> str:
    """Return why a store has no percentiles to show; nothing if it has had enough batches."""
    done = queue.batches_done()
    return "" if done >= ENOUGH_BATCHES else f"too few batches: {done}, of {ENOUGH_BATCHES}"


def _percentiles(queue: Queue) -> pl.DataFrame:
    """Return by processor the seconds per line that a share of its lines did not exceed."""
    latency = pl.DataFrame(queue.read("latency"), schema=columns.LATENCY.schema).sort("bucket")
    latency = latency.with_columns(seconds=2.0 ** (pl.col("bucket") / 8))
    up_to, total = pl.col("lines").cum_sum() * 100, pl.col("lines").sum()
    found = {
        name: pl.col("seconds").filter(up_to >= total * share).first()
        for name, share in PERCENTILES.items()
    }
    return latency.group_by("processor").agg(**found)


def rates(queue: Queue) -> dict[str, float]:
    """Return lines a second, in and out, over the last ten seconds."""
    now = time.time()
    rows = queue.read("queue_history", limit=RATE_SECONDS + 2)
    # The clock may have been set back: what follows is forgotten with the next change.
    rows = [row for row in rows if row["second"] <= now + RATE_SECONDS]
    names = ("accepted", "done")
    return {f"{name}_per_second": growth(rows, now, itemgetter(name)) for name in names}


def growth(
    history: Sequence[Mapping[str, Any]], now: float, value: Callable[[Mapping[str, Any]], int]
) -> float:
    """Return by how much a total has grown a second, over the last ten seconds.

    Args:
        history: Rows of the queue's history, oldest first; what was before them is taken for 0.
        now: Unix seconds.
        value: Returns the total of a row.
    """
    if not history or history[-1]["second"] < now - RATE_SECONDS:
        return 0.0
    before = [row for row in history if row["second"] < now - RATE_SECONDS]
    seconds = RATE_SECONDS if before else max(1.0, now - history[0]["second"])
    return (value(history[-1]) - (value(before[-1]) if before else 0)) / seconds


@frame(
    columns.TOTALS,
    oldest_age=NUMBER,
    accepted_per_second=NUMBER,
    done_per_second=NUMBER,
    paused=FLAG,
    conserved=FLAG,
)
def queue_now(queue: Queue) -> Rows:
    """Return one row of totals.

    Columns: `accepted`, `done`, `filtered`, `dead`, `leased`, `waiting` (int64,
    source lines); `oldest_age` (float64, seconds); `accepted_per_second`,
    `done_per_second` (float64); `paused`, `conserved` (bool).
    """
    stats = queue.stats()
    more = {name: getattr(stats, name) for name in ("oldest_age", "paused", "conserved")}
    return [stats.totals() | more | rates(queue)]


@frame(columns.QUEUE_HISTORY)
def history(queue: Queue, *, limit: int | None = None) -> Rows:
    """Return the queue's totals at the end of each second in which they changed.

    Columns: `second` (datetime64, UTC); `accepted`, `done`, `filtered`,
    `dead`, `leased`, `waiting` (int64). Kept for an hour.

    Args:
        queue: The store.
        limit: Only so many rows, the newest.
    """
    return queue.read("queue_history", limit=limit)


@frame(columns.PROCESSOR_HISTORY)
def processor_history(queue: Queue) -> Rows:
    """Return what each processor did in each second.

    Columns: `second` (datetime64, UTC); `processor` (str); the counts of
    `processors` (int64); `seconds` (float64, busy). Kept for an hour.
    """
    return queue.read("processor_history")


@frame(
    Table.of("", processor=TEXT, lines=INTEGER, seconds=NUMBER, share=NUMBER, rate=NUMBER),
    **dict.fromkeys(PERCENTILES, NUMBER),
)
def time_shares(queue: Queue) -> Rows:
    """Return where the time went: one row per processor, the busiest first.

    Columns: `processor` (str); `lines` (int64, received); `seconds` (float64,
    busy); `share` (float64, of all busy seconds); `rate` (float64, lines per
    busy second); `p50`, `p95`, `p99` (float64, as of `processors`).
    """
    found = processors.polars(queue).sort("seconds", descending=True, maintain_order=True)
    share = (pl.col("seconds") / pl.col("seconds").sum()).fill_nan(0.0)
    return found.with_columns(lines="received", share=share)


@frame(at=TIME, processor=TEXT, lines=INTEGER, seconds_per_line=NUMBER)
def latency_history(queue: Queue, every: str = "1s") -> Rows:
    """Return how long a line took in each processor over time.

    Columns: `at` (datetime64, UTC: the start of each interval); `processor`
    (str); `lines` (int64, received); `seconds_per_line` (float64). Intervals in
    which a processor received nothing are left out. An hour is kept.

    Args:
        queue: The store.
        every: Length of an interval: `1s`, `1min`, `1h`.
    """
    start = pl.from_epoch("second").dt.truncate(every.replace("min", "m")).dt.epoch("s")
    return (
        processor_history.polars(queue)
        .group_by("processor", at=start)
        .agg(pl.col("seconds").sum(), lines=pl.col("received").sum())
        .filter(pl.col("lines") > 0)
        .with_columns(seconds_per_line=pl.col("seconds") / pl.col("lines"))
        .sort("at", "processor")
    )


@frame(columns.WORKERS)
def workers(queue: Queue) -> Rows:
    """Return the workers that run.

    Columns: `name` (str); `slot` (int64); `host` (str); `pid` (int64);
    `started_at`, `heartbeat_at` (datetime64, UTC); of what each has leased: `batch`, `source`
    (str or null), `first_line`, `lines` (Int64 or null), `leased_at` (datetime64, UTC, or null).
    """
    return queue.read("workers")


@frame(columns.ERRORS)
def errors(queue: Queue) -> Rows:
    """Return the last 1,000 errors, oldest first, also those that a retry overcame.

    Columns: `at` (datetime64, UTC); `worker`, `batch`, `processor`, `error`,
    `message` (str); `lines` (int64); `action` (str: dead, dropped, retried).
    """
    return queue.read("errors")


@frame(columns.STATES)
def states(queue: Queue) -> Rows:
    """Return the committed states of stateful processors.

    Columns: `slot` (int64: parallel workers have one each), `processor` (str),
    `state` (object: the JSON value; in Polars its text).
    """
    return queue.read("states")


@frame(
    source=TEXT,
    records=INTEGER,
    formats=TEXT,
    matched=NUMBER,
    generic=NUMBER,
    timeless=NUMBER,
    empty=NUMBER,
    cut=INTEGER,
)
def sources(queue: Queue) -> Rows:
    """Return how the records of each source were read.

    Columns: `source` (str); `records` (int64); `formats` (str, the most common first, with
    their shares: `python 98%, generic 2%`); `matched` (float64, the share of records that a
    known format fits, or the one that was named), `generic` (that the generic reader read),
    `timeless` (without a time) and `empty` (with neither a time, nor a level, nor a message;
    all other columns may be filled); `cut` (int64, pieces of records over the limits).
    Replayed records are not counted again.
    """
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in queue.read("source_formats"):
        found[row["source"]].append(row)
    return [_source(source, rows) for source, rows in found.items()]


def _source(source: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    records = sum(row["records"] for row in rows)
    counts = Counter({row["format"]: row["records"] for row in rows})
    timeless, empty, cut = (sum(row[name] for row in rows) for name in ("timeless", "empty", "cut"))
    shares = (f"{name or 'none'} {percent(n, records)}" for name, n in counts.most_common())
    unread = counts["generic"] + counts[""]
    return {
        "source": source,
        "records": records,
        "formats": ", ".join(shares) if len(counts) > 1 else rows[0]["format"] or "none",
        "matched": (records - unread) / max(1, records),
        "generic": counts["generic"] / max(1, records),
        "timeless": timeless / max(1, records),
        "empty": empty / max(1, records),
        "cut": cut,
    }


def state_totals(queue: Queue) -> dict[str, dict[str, float]]:
    """Return the states that are counts by name, added up over all slots."""
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for row in queue.read("states"):
        state = json.loads(row["state"])
        if isinstance(state, Mapping) and all(isinstance(x, (int, float)) for x in state.values()):
            totals[row["processor"]].update(state)
    return {name: dict(counts) for name, counts in totals.items()}


def latency_histograms(queue: Queue) -> dict[str, dict[int, int]]:
    """Return lines by bucket, by processor; bucket `b` is about 2 ** (b / 8) seconds a line."""
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for row in queue.read("latency"):
        found[row["processor"]][row["bucket"]] = row["lines"]
    return found
