"""What the store has counted, as rows and as pandas frames.

Everything here was committed together with the batches it counts, so that it
is exact: a batch that was tried twice is counted once. Times per line are kept
as a histogram with eight buckets to a power of two, which makes a percentile
right to within 5 %.

    processors(queue)   one row per processor
    queue_now(queue)    one row: totals, ages, rates
    history(queue)      one row per second: totals of the queue
    processor_history   one row per second and processor
    time_shares(queue)  where time goes: one row per processor, the busiest first
    latency_history     time per line of each processor, by second, minute or hour
    compare(a, b)       two runs: which processor got slower, which failure is new
    workers, errors, states
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etl.queue import TOTALS, Queue
from etl.records.columns import TIME, frame_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "errors",
    "history",
    "latency_histograms",
    "latency_history",
    "processor_history",
    "processor_rows",
    "processors",
    "queue_now",
    "rates",
    "state_totals",
    "states",
    "time_shares",
    "workers",
]

COUNTS = ("received", "emitted", "filtered", "errors", "retries", "dead")


INTEGERS = dict.fromkeys(COUNTS, "int64")


RATE_SECONDS = 10
"""Rates are over this many seconds."""


def processor_rows(queue: Queue, *, by_worker: bool = False) -> list[dict[str, Any]]:
    """Return what `processors` does, as dicts: cheap, and needs no pandas."""
    sums: dict[tuple[str, ...], Counter[str]] = {}
    for row in queue.read("processors"):
        key = (row["worker"], row["processor"]) if by_worker else (row["processor"],)
        counts = sums.setdefault(key, Counter())
        counts.update({name: row[name] for name in (*COUNTS, "seconds")})
    histograms = latency_histograms(queue)
    return [_processor_row(key, counts, histograms[key[-1]]) for key, counts in sums.items()]


def processors(queue: Queue, *, by_worker: bool = False) -> pd.DataFrame:
    """Return one row per processor (and worker).

    Columns: `processor`; `received`, `emitted`, `filtered`, `errors`,
    `retries`, `dead` (int64, rows); `seconds` (float64, busy); `p50`, `p95`,
    `p99` (float64, seconds per line over all workers); `rate` (float64, lines
    per busy second).
    """
    first = {"worker": "str"} if by_worker else {}
    times = dict.fromkeys(("seconds", "p50", "p95", "p99", "rate"), "float64")
    dtypes = first | {"processor": "str"} | INTEGERS | times
    return frame_of(processor_rows(queue, by_worker=by_worker), dtypes)


def rates(queue: Queue) -> dict[str, float]:
    """Return lines a second, in and out, over the last ten seconds."""
    now = time.time()
    rows = queue.read("queue_history", limit=RATE_SECONDS + 2)
    names = ("accepted", "done")
    if not rows or rows[-1]["second"] < now - RATE_SECONDS:
        return {f"{name}_per_second": 0.0 for name in names}
    before = [row for row in rows if row["second"] < now - RATE_SECONDS]
    start = before[-1] if before else dict.fromkeys(names, 0)
    seconds = RATE_SECONDS if before else max(1.0, now - rows[0]["second"])
    return {f"{name}_per_second": (rows[-1][name] - start[name]) / seconds for name in names}


def queue_now(queue: Queue) -> pd.DataFrame:
    """Return one row of totals.

    Columns: `accepted`, `done`, `filtered`, `dead`, `leased`, `waiting` (int64,
    source lines); `oldest_age` (float64, seconds); `accepted_per_second`,
    `done_per_second` (float64); `paused`, `conserved` (bool).
    """
    stats = queue.stats()
    more = {name: getattr(stats, name) for name in ("oldest_age", "paused", "conserved")}
    times = dict.fromkeys(("oldest_age", "accepted_per_second", "done_per_second"), "float64")
    dtypes = dict.fromkeys(TOTALS, "int64") | times | {"paused": "bool", "conserved": "bool"}
    return frame_of([stats.totals() | more | rates(queue)], dtypes)


def history(queue: Queue, *, limit: int | None = None) -> pd.DataFrame:
    """Return the queue's totals at the end of each second in which they changed.

    Columns: `second` (datetime64, UTC); `accepted`, `done`, `filtered`,
    `dead`, `leased`, `waiting` (int64). Kept for an hour.

    Args:
        queue: Whose history.
        limit: Only so many rows, the newest.
    """
    dtypes = {"second": TIME} | dict.fromkeys(TOTALS, "int64")
    return frame_of(queue.read("queue_history", limit=limit), dtypes)


def processor_history(queue: Queue) -> pd.DataFrame:
    """Return what each processor did in each second.

    Columns: `second` (datetime64, UTC); `processor`; the counts of
    `processors` (int64); `seconds` (float64, busy). Kept for an hour.
    """
    dtypes = {"second": TIME, "processor": "str"} | INTEGERS | {"seconds": "float64"}
    return frame_of(queue.read("processor_history"), dtypes)


def time_shares(queue: Queue) -> pd.DataFrame:
    """Return where the time went: one row per processor, the busiest first.

    Columns: `processor`; `lines` (int64, received); `seconds` (float64, busy);
    `share` (float64, of all busy seconds); `rate` (float64, lines per busy
    second); `p50`, `p95`, `p99` (float64, seconds per line).
    """
    rows = sorted(processor_rows(queue), key=lambda row: -row["seconds"])
    busy = sum(row["seconds"] for row in rows) or 1.0
    rows = [row | {"lines": row["received"], "share": row["seconds"] / busy} for row in rows]
    numbers = dict.fromkeys(("seconds", "share", "rate", "p50", "p95", "p99"), "float64")
    return frame_of(rows, {"processor": "str", "lines": "int64"} | numbers)


def latency_history(queue: Queue, every: str = "1s") -> pd.DataFrame:
    """Return how long a line took in each processor over time.

    Columns: `at` (datetime64, UTC: the start of each span); `processor` (str);
    `lines` (int64, received); `seconds_per_line` (float64). Spans in which a
    processor received nothing are left out. The store remembers an hour.

    Args:
        queue: Whose history.
        every: Length of a span, as pandas writes it: `1s`, `1min`, `1h`.
    """
    spans = processor_history(queue).assign(at=lambda frame: frame["second"].dt.floor(every))
    sums = spans.groupby(["at", "processor"], as_index=False, sort=True)[["received", "seconds"]]
    found = sums.sum().query("received > 0")
    found = found.assign(seconds_per_line=found["seconds"] / found["received"])
    found = found.rename(columns={"received": "lines"}).drop(columns="seconds")
    return found.reset_index(drop=True)


def workers(queue: Queue) -> pd.DataFrame:
    """Return the workers that run.

    Columns: `name`, `host` (str); `slot`, `pid` (int64); `started_at`,
    `heartbeat_at` (datetime64, UTC); `batch` (str or null).
    """
    dtypes: dict[str, Any] = {"name": "str", "slot": "int64", "host": "str", "pid": "int64"}
    dtypes |= {"started_at": TIME, "heartbeat_at": TIME, "batch": "str"}
    return frame_of(queue.read("workers"), dtypes)


def errors(queue: Queue) -> pd.DataFrame:
    """Return the last 1,000 errors, oldest first, whatever became of their lines.

    Columns: `at` (datetime64, UTC); `worker`, `batch`, `processor`, `error`,
    `message` (str); `lines` (int64); `action` (str: dead, dropped, retried).
    """
    texts = dict.fromkeys(("worker", "batch", "processor", "error", "message"), "str")
    dtypes = {"at": TIME} | texts | {"lines": "int64", "action": "str"}
    return frame_of(queue.read("errors"), dtypes)


def states(queue: Queue) -> pd.DataFrame:
    """Return the committed states of stateful processors.

    Columns: `slot` (int64: parallel workers have one each), `processor` (str),
    `state` (object: the JSON value).
    """
    rows = [row | {"state": json.loads(row["state"])} for row in queue.read("states")]
    return frame_of(rows, {"slot": "int64", "processor": "str", "state": "object"})


def state_totals(queue: Queue) -> dict[str, dict[str, float]]:
    """Return the states that are counts by name, added up over all slots."""
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for row in queue.read("states"):
        state = json.loads(row["state"])
        if isinstance(state, Mapping) and all(isinstance(x, (int, float)) for x in state.values()):
            totals[row["processor"]].update(state)
    return {name: dict(counts) for name, counts in totals.items()}


def _processor_row(
    key: tuple[str, ...], counts: Counter[str], histogram: Mapping[int, int]
) -> dict[str, Any]:
    row: dict[str, Any] = {"worker": key[0]} if len(key) > 1 else {}
    row |= {"processor": key[-1], **{name: counts[name] for name in COUNTS}}
    row["seconds"] = float(counts["seconds"])
    row |= {f"p{share}": _percentile(histogram, share / 100) for share in (50, 95, 99)}
    row["rate"] = counts["received"] / row["seconds"] if row["seconds"] else 0.0
    return row


def latency_histograms(queue: Queue) -> dict[str, dict[int, int]]:
    """Return lines by bucket, by processor; bucket `b` is about 2 ** (b / 8) seconds a line."""
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for row in queue.read("latency"):
        found[row["processor"]][row["bucket"]] = row["lines"]
    return found


def _percentile(histogram: Mapping[int, int], share: float) -> float:
    """Return the seconds per line that this share of the lines did not exceed."""
    left = share * sum(histogram.values())
    for bucket in sorted(histogram):
        left -= histogram[bucket]
        if left <= 0:
            return float(2 ** (bucket / 8))
    return 0.0
