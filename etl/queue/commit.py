"""What a commit keeps besides taking the batches out: the rows of an `BatchResult`.

Each function writes one part of it, inside the commit's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from math import log2
from typing import Any

from backports import zstd

from etl.errors import LeaseLost
from etl.records.result import BatchResult, FailureKind, ProcessorStats, Trace
from etl.settings import Settings

__all__ = ["add_totals", "encode_trace", "keep_outcome", "record_totals"]


def keep_outcome(
    db: sqlite3.Connection,
    now: float,
    *,
    worker: str,
    batch: sqlite3.Row,
    outcome: BatchResult,
    trace: bytes | None,
) -> None:
    """Write all of an outcome.

    Args:
        db: The store.
        now: Unix seconds.
        worker: Whose outcome it is.
        batch: Id, source and format of the first batch.
        outcome: What became of it, but for the trace.
        trace: What `encode_trace` made of that.

    Raises:
        LeaseLost: If the worker's slot, and with it its state, has gone to another.
    """
    add_totals(db, done=outcome.done, filtered=outcome.filtered, dead=outcome.dead)
    _keep_letters(db, batch, outcome, now)
    _keep_tallies(db, worker, outcome.processor_stats, int(now))
    _keep_states(db, worker, outcome)
    _keep_errors(db, worker, batch, outcome, now)
    if trace is not None:
        _keep_trace(db, (now, worker, batch["id"], batch["source"], outcome.version), trace)
    db.executemany(
        "INSERT INTO outputs VALUES (?, ?)",
        [(output.staged, output.final) for output in outcome.outputs],
    )


def add_totals(db: sqlite3.Connection, **lines: int) -> None:
    """Add lines to some of the totals."""
    db.executemany(
        "UPDATE totals SET lines = lines + ? WHERE name = ?",
        [(count, name) for name, count in lines.items() if count],
    )


def record_totals(db: sqlite3.Connection, now: float) -> None:
    """Write down the totals of this second, and forget those of long ago."""
    second = int(now)
    db.execute(
        "INSERT OR REPLACE INTO queue_history "
        "SELECT ?, max(lines) FILTER (WHERE name = 'accepted'), "
        "max(lines) FILTER (WHERE name = 'done'), max(lines) FILTER (WHERE name = 'filtered'), "
        "max(lines) FILTER (WHERE name = 'dead'), max(lines) FILTER (WHERE name = 'waiting'), "
        "max(lines) FILTER (WHERE name = 'leased') FROM totals",
        (second,),
    )
    for table in ("queue_history", "processor_history"):
        db.execute(f"DELETE FROM {table} WHERE second < ?", (second - Settings.history_seconds,))


def _keep_letters(
    db: sqlite3.Connection, batch: sqlite3.Row, outcome: BatchResult, now: float
) -> None:
    db.executemany(
        "UPDATE dead SET status = 'replayed' WHERE id = ?", [(id,) for id in outcome.passed]
    )
    if not outcome.dead_letters.height:
        return
    ids = [_failure_id(db, failure, outcome) for failure in outcome.failures]
    new: list[tuple[Any, ...]] = []
    again: list[tuple[Any, ...]] = []
    for (
        dead_letter,
        failure,
        line,
        raw,
        number,
        lines,
        payload,
        message,
        attempts,
    ) in outcome.dead_letters.iter_rows():
        if dead_letter is None:
            new.append(
                (
                    ids[failure],
                    batch["id"],
                    batch["source"],
                    batch["format"],
                    number,
                    lines,
                    line,
                    raw,
                    payload,
                    message,
                    attempts,
                    now,
                    now,
                )
            )
        else:
            again.append((ids[failure], line, raw, payload, message, attempts, now, dead_letter))
    db.executemany(
        "INSERT INTO dead (failure, batch, source, format, line_number, lines, line, raw, payload, "
        "message, attempts, first_failed_at, last_failed_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        new,
    )
    db.executemany(
        "UPDATE dead SET status = 'open', failure = ?, line = ?, raw = ?, payload = ?, "
        "message = ?, "
        "attempts = attempts + ?, last_failed_at = ? WHERE id = ?",
        again,
    )


def _failure_id(db: sqlite3.Connection, failure: FailureKind, outcome: BatchResult) -> int:
    path = json.dumps(failure.path, ensure_ascii=False)
    key = (failure.fingerprint, path, outcome.version, outcome.run)
    db.execute(
        "INSERT OR IGNORE INTO failures (fingerprint, path, version, run, processor, code, error, "
        "traceback) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*key, failure.processor, failure.code, failure.error, failure.traceback),
    )
    row = db.execute(
        "SELECT id FROM failures WHERE (fingerprint, path, version, run) = (?, ?, ?, ?)", key
    ).fetchone()
    return int(row["id"])


def _keep_tallies(
    db: sqlite3.Connection, worker: str, processor_stats: Mapping[str, ProcessorStats], second: int
) -> None:
    counts = "received = received + excluded.received, emitted = emitted + excluded.emitted, "
    counts += "filtered = filtered + excluded.filtered, errors = errors + excluded.errors, "
    counts += "retries = retries + excluded.retries, dead = dead + excluded.dead, "
    counts += "seconds = seconds + excluded.seconds"
    rows = [
        (name, t.received, t.emitted, t.filtered, t.errors, t.retries, t.dead, t.seconds)
        for name, t in processor_stats.items()
    ]
    for table, key in (("processors", worker), ("processor_history", second)):
        db.executemany(
            f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            f"ON CONFLICT DO UPDATE SET {counts}",
            [(key, *row) for row in rows],
        )
    db.executemany(
        "INSERT INTO latency VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET lines = lines + excluded.lines",
        [
            (name, round(8 * log2(max(1e-9, tally.seconds / tally.received))), tally.received)
            for name, tally in processor_stats.items()
            if tally.received
        ],
    )


def _keep_states(db: sqlite3.Connection, worker: str, outcome: BatchResult) -> None:
    """Save states, unless this worker's slot has gone to another in the meantime."""
    if not outcome.states:
        return
    holds = db.execute(
        "SELECT 1 FROM workers WHERE name = ? AND slot = ?", (worker, outcome.slot)
    ).fetchone()
    if holds is None:
        raise LeaseLost(f"worker {worker!r} no longer has slot {outcome.slot}")
    db.executemany(
        "INSERT OR REPLACE INTO states VALUES (?, ?, ?)",
        [(outcome.slot, name, state) for name, state in outcome.states.items()],
    )


def _keep_errors(
    db: sqlite3.Connection, worker: str, batch: sqlite3.Row, outcome: BatchResult, now: float
) -> None:
    if not outcome.errors:
        return
    db.executemany(
        "INSERT INTO errors (at, worker, batch, processor, error, message, lines, action) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(now, worker, batch["id"], *error) for error in outcome.errors],
    )
    db.execute(
        "DELETE FROM errors WHERE seq <= (SELECT max(seq) FROM errors) - ?", (Settings.kept_errors,)
    )


def _keep_trace(
    db: sqlite3.Connection, head: tuple[float, str, str, str, str], trace: bytes
) -> None:
    """Keep the batch's trace, and of the older ones what is needed for 1,000 lines."""
    lines = int.from_bytes(trace[:4], "big")
    inserted = db.execute(
        "INSERT INTO traces (at, worker, batch, source, version, lines, block) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*head, lines, trace[4:]),
    )
    seq = inserted.lastrowid or 0
    if lines >= Settings.kept_traces:
        db.execute("DELETE FROM traces WHERE seq < ?", (seq,))
    elif seq % 64 == 0:
        db.execute(
            "DELETE FROM traces WHERE seq < (SELECT max(seq) FROM (SELECT seq, "
            "sum(lines) OVER (ORDER BY seq DESC) AS newer FROM traces) WHERE newer >= ?)",
            (Settings.kept_traces,),
        )


def encode_trace(trace: Trace) -> bytes:
    """Return the number of a trace's lines in four bytes, and then itself as compressed JSON."""
    text = json.dumps([trace.lines.to_dict(as_series=False), list(trace.paths)])
    block = zstd.compress(text.encode(), level=-1)
    return trace.lines.height.to_bytes(4, "big") + block
