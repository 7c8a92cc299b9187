"""What a commit keeps besides deleting the batches: the rows of a `BatchResult`.

Each function writes one part of it, inside the commit's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import log2
from operator import itemgetter
from typing import Any

from backports import zstd

from etl.errors import LeaseLost
from etl.queue.database import Transaction
from etl.queue.sql import COUNTS
from etl.records.batch import Batch
from etl.records.checksum import checksum_of_values
from etl.records.columns import CHECKED
from etl.records.result import BatchResult, FailureKind, Output, Trace
from etl.settings import Settings

__all__ = [
    "add_totals",
    "encode_trace",
    "keep_result",
    "moved",
]


WITH_CHECKSUM: dict[int, int] = {
    zstd.CompressionParameter.compression_level: -1,
    zstd.CompressionParameter.checksum_flag: 1,
}
"""Whoever decompresses it notices what has changed."""

_CHECKED = itemgetter(*CHECKED.names)


def keep_result(
    db: Transaction,
    now: float,
    *,
    worker: str,
    here: Mapping[str, Any],
    batch: Batch,
    result: BatchResult,
    trace: bytes | None,
    outputs: Sequence[Output],
) -> None:
    """Write all of a result but for its counts of lines.

    Args:
        db: The store.
        now: Unix seconds.
        worker: Who commits.
        here: On which `host`, in which process (`pid`).
        batch: The first batch.
        result: What to keep, but for the trace and the outputs.
        trace: What `encode_trace` made of that.
        outputs: Its outputs, by the names that are kept.

    Raises:
        LeaseLost: If the worker's slot, and with it its state, has gone to another.
    """
    _keep_dead_letters(db, batch, result, now)
    _keep_stats(db, worker, result, int(now))
    _keep_formats(db, batch.source, result)
    _keep_states(db, worker, here, result)
    _keep_errors(db, worker, batch.id, result, now)
    if trace is not None:
        head = {"at": now, "worker": worker, "batch": batch.id, "source": batch.source}
        _keep_trace(db, head | {"version": result.version}, trace, result.trace)
    of_batch = {"source": batch.source, "lines": result.done}
    db.many("insert_output", (_fields(one) | of_batch for one in outputs))


def moved(rows: Sequence[Mapping[str, int]], **states: int) -> dict[str, int]:
    """Return what it adds to the counts that batches come to a state, or leave it.

    Args:
        rows: Their `lines` and `bytes`.
        states: 1 or -1 for `waiting` and `leased`.
    """
    lines, size = sum(row["lines"] for row in rows), sum(row["bytes"] for row in rows)
    added: dict[str, int] = {}
    for state, sign in states.items():
        counts = {state: lines, f"{state}_bytes": size, f"{state}_batches": len(rows)}
        added |= {name: sign * count for name, count in counts.items()}
    return added


def add_totals(db: Transaction, *counts: Mapping[str, int], at: float | None) -> None:
    """Add to the counts.

    Args:
        db: The store.
        counts: What to add to columns of `sql.COUNTS`.
        at: Unix seconds in whose second the totals are recorded; None to leave that to others.
    """
    sums = dict.fromkeys(COUNTS.names, 0)
    for one in counts:
        for name, value in one.items():
            sums[name] += value
    if any(sums.values()):
        db.run("add_totals", **sums)
        if at is not None:
            db.run("record_totals", second=int(at))


def encode_trace(trace: Trace) -> bytes:
    """Return a trace as compressed JSON."""
    text = json.dumps([trace.lines.to_dict(as_series=False), list(trace.paths)])
    return zstd.compress(text.encode(), options=WITH_CHECKSUM)


def _fields(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass with slots; `asdict` would copy their values, too."""
    return {name: getattr(record, name) for name in record.__slots__}


def _keep_dead_letters(db: Transaction, batch: Batch, result: BatchResult, now: float) -> None:
    db.many("close_replayed", ({"id": id, "closed_at": now} for id in result.passed))
    if not result.dead_letters.height:
        return
    order = sorted(set(result.failures), key=lambda one: (one.fingerprint, one.path))
    known_ids = {
        one: _failure_id(db, one, batch.source, result) for one in order
    }  # in an order: no deadlock
    ids = [known_ids[one] for one in result.failures]
    known: dict[str, Any] = {"batch": batch.id, "source": batch.source, "format": batch.format}
    known |= {"context": batch.context.encode(), "first_failed_at": now, "last_failed_at": now}
    new: list[dict[str, Any]] = []
    replayed: list[dict[str, Any]] = []
    for found in result.dead_letters.iter_rows(named=True):
        row = {**found, **known, "failure": ids[found["failure"]]}
        row["checksum"] = checksum_of_values(_CHECKED(row))
        (new if row["dead_letter_id"] is None else replayed).append(row)
    db.many("insert_dead_letter", new)
    db.many("reopen_dead_letter", replayed)


def _failure_id(db: Transaction, failure: FailureKind, source: str, result: BatchResult) -> int:
    row = _fields(failure) | {"version": result.version, "run": result.run, "source": source}
    row["path"] = json.dumps(failure.path, ensure_ascii=False)
    found = None
    while found is None:  # it may have been there, and deleted as one without dead letters
        db.run("insert_failure", **row)
        found = db.row("failure_id", **row)
    return int(found["id"])


def _keep_stats(db: Transaction, worker: str, result: BatchResult, second: int) -> None:
    rows = [
        _fields(stats) | {"processor": name, "worker": worker, "second": second}
        for name, stats in result.processor_stats.items()
    ]
    if not rows:
        return
    text = json.dumps(rows)
    db.run("add_processors", rows=text)
    db.run("add_processor_history", rows=text)
    latency = [
        {
            "processor": row["processor"],
            "bucket": round(8 * log2(max(1e-9, row["seconds"] / row["received"]))),
            "lines": row["received"],
        }
        for row in rows
        if row["received"]
    ]
    db.run("add_latency", rows=json.dumps(latency))


def _keep_formats(db: Transaction, source: str, result: BatchResult) -> None:
    db.many(
        "add_format",
        (
            _fields(counts) | {"source": source, "format": name}
            for name, counts in result.formats.items()
        ),
    )


def _keep_states(
    db: Transaction, worker: str, here: Mapping[str, Any], result: BatchResult
) -> None:
    """Save states, unless this worker's slot has gone to another in the meantime."""
    if not result.states:
        return
    held = db.row("slot_of_worker", name=worker, **here)
    if held is None or held["slot"] != result.slot:
        raise LeaseLost(f"worker {worker!r} no longer has slot {result.slot}")
    db.many(
        "set_state",
        (
            {"slot": result.slot, "processor": name, "state": state}
            for name, state in result.states.items()
        ),
    )


def _keep_errors(db: Transaction, worker: str, batch: str, result: BatchResult, now: float) -> None:
    if not result.errors:
        return
    names = ("processor", "error", "message", "lines", "action")
    known = {"at": now, "worker": worker, "batch": batch}
    db.many("insert_error", (known | dict(zip(names, one, strict=True)) for one in result.errors))
    db.run("forget_errors", kept=Settings.kept_errors)


def _keep_trace(db: Transaction, head: dict[str, Any], block: bytes, trace: Trace | None) -> None:
    """Keep a batch's trace; one with as many lines as are kept makes the older ones needless."""
    lines = trace.lines.height if trace else 0
    inserted = db.run("insert_trace", **head, lines=lines, block=block)
    if lines >= Settings.kept_traces:
        db.run("forget_traces_before", seq=inserted.fetchone()["seq"])
