"""What the store has counted, as rows and as pandas frames.

Everything here was committed together with the batches it counts, so that it
is exact: a batch that was tried twice is counted once. Times per line are kept
as a histogram with eight buckets to a power of two, which makes a percentile
right to within 5 %.

    processors(queue)   one row per processor
    queue_now(queue)    one row: totals, ages, rates
    history(queue)      one row per second: totals of the queue
    processor_history   one row per second and processor
    workers, errors, states
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from etl.queue import Queue

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "errors",
    "history",
    "processor_history",
    "processor_rows",
    "processors",
    "queue_now",
    "rates",
    "state_totals",
    "states",
    "workers",
]

COUNTS = ("received", "emitted", "filtered", "errors", "retries", "dead")
RATE_SECONDS = 10
"""Rates are over this many whole seconds."""


def processor_rows(queue: Queue, *, by_worker: bool = False) -> list[dict[str, Any]]:
    """Return what `processors` does, as dicts: cheap, and needs no pandas."""
    sums: dict[tuple[str, ...], Counter[str]] = {}
    for row in queue.records("processors"):
        key = (row["worker"], row["processor"]) if by_worker else (row["processor"],)
        counts = sums.setdefault(key, Counter())
        counts.update({name: row[name] for name in (*COUNTS, "seconds")})
    histograms = _histograms(queue)
    return [_processor_row(key, counts, histograms[key[-1]]) for key, counts in sums.items()]


def processors(queue: Queue, *, by_worker: bool = False) -> pd.DataFrame:
    """Return one row per processor (and worker).

    Columns: `processor`; `received`, `emitted`, `filtered`, `errors`,
    `retries`, `dead` (int64, rows); `seconds` (float64, busy); `p50`, `p95`,
    `p99` (float64, seconds per line over all workers); `rate` (float64, lines
    per busy second).
    """
    columns = ["processor", *COUNTS, "seconds", "p50", "p95", "p99", "rate"]
    types = dict.fromkeys(COUNTS, "int64") | dict.fromkeys(columns[7:], "float64")
    first = ["worker"] if by_worker else []
    return _frame(processor_rows(queue, by_worker=by_worker), [*first, *columns], types)


def rates(queue: Queue) -> dict[str, float]:
    """Return lines a second, in and out, over the last whole seconds."""
    rows = queue.records("queue_history", limit=RATE_SECONDS + 1)
    if len(rows) < 2:
        return {"accepted_per_second": 0.0, "done_per_second": 0.0}
    first, last = rows[0], rows[-1]
    seconds = last["second"] - first["second"]
    return {
        f"{name}_per_second": (last[name] - first[name]) / seconds for name in ("accepted", "done")
    }


def queue_now(queue: Queue) -> pd.DataFrame:
    """Return one row of totals.

    Columns: `accepted`, `done`, `filtered`, `dead`, `leased`, `waiting` (int64,
    source lines); `oldest_age` (float64, seconds); `accepted_per_second`,
    `done_per_second` (float64); `paused`, `conserved` (bool).
    """
    stats = queue.stats()
    names = ["accepted", "done", "filtered", "dead", "leased", "waiting", "oldest_age"]
    row = {name: getattr(stats, name) for name in names}
    row |= rates(queue) | {"paused": stats.paused, "conserved": stats.conserved}
    return _frame([row], list(row), {})


def history(queue: Queue) -> pd.DataFrame:
    """Return the queue's totals at the end of each second in which they changed.

    Columns: `second` (datetime64, UTC); `accepted`, `done`, `filtered`,
    `dead`, `waiting`, `leased` (int64). Kept for an hour.
    """
    columns = ["second", "accepted", "done", "filtered", "dead", "waiting", "leased"]
    return _with_times(
        _frame(queue.records("queue_history"), columns, dict.fromkeys(columns, "int64")), "second"
    )


def processor_history(queue: Queue) -> pd.DataFrame:
    """Return what each processor did in each second.

    Columns: `second` (datetime64, UTC); `processor`; the counts of
    `processors` (int64); `seconds` (float64, busy). Kept for an hour.
    """
    columns = ["second", "processor", *COUNTS, "seconds"]
    types = dict.fromkeys(("second", *COUNTS), "int64") | {"seconds": "float64"}
    return _with_times(_frame(queue.records("processor_history"), columns, types), "second")


def workers(queue: Queue) -> pd.DataFrame:
    """Return the workers that run.

    Columns: `name`, `host` (str); `slot`, `pid` (int64); `started_at`,
    `heartbeat_at` (datetime64, UTC); `batch` (str or null).
    """
    columns = ["name", "slot", "host", "pid", "started_at", "heartbeat_at", "batch"]
    frame = _frame(queue.records("workers"), columns, {"slot": "int64", "pid": "int64"})
    return _with_times(frame, "started_at", "heartbeat_at")


def errors(queue: Queue) -> pd.DataFrame:
    """Return the last 1,000 errors, oldest first, whatever became of their lines.

    Columns: `at` (datetime64, UTC); `worker`, `batch`, `processor`, `error`,
    `message`, `action` (str: dead, dropped, retried); `lines` (int64).
    """
    columns = ["at", "worker", "batch", "processor", "error", "message", "lines", "action"]
    return _with_times(_frame(queue.records("errors"), columns, {"lines": "int64"}), "at")


def states(queue: Queue) -> pd.DataFrame:
    """Return the committed states of stateful processors.

    Columns: `slot` (int64: parallel workers have one each), `processor` (str),
    `state` (the JSON value).
    """
    rows = [row | {"state": json.loads(row["state"])} for row in queue.records("states")]
    return _frame(rows, ["slot", "processor", "state"], {"slot": "int64"})


def state_totals(queue: Queue) -> dict[str, dict[str, float]]:
    """Return the states that are counts by name, added up over all slots."""
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for row in queue.records("states"):
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


def _histograms(queue: Queue) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for row in queue.records("latency"):
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


def _frame(
    rows: Iterable[Mapping[str, Any]], columns: list[str], types: Mapping[str, str]
) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows), columns=columns).astype(dict(types))


def _with_times(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    import pandas as pd

    for name in names:
        frame[name] = pd.to_datetime(frame[name].astype("float64"), unit="s", utc=True)
    return frame
