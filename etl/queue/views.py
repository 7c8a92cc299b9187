"""Every read of a store, as a function of a connection to its tables; none changes anything."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from etl.queue import Checkpoint, Control, PausedBy, Stats, TableName
from etl.records.result import Output

__all__ = [
    "READY",
    "anything_ready",
    "can_lease",
    "control_of",
    "control_values",
    "leased_rows",
    "position_of",
    "records_of",
    "states_of",
    "stats_of",
    "unpublished_of",
    "waiting_row",
    "workers_of",
]

READY = "state = 'waiting' AND not_before <= :now"

BATCHES = """
    SELECT b.seq, b.id, b.source, b.format, b.first_line, b.skip, b.lines, b.put_at,
           p.encoding, p.data
    FROM batches b JOIN payloads p ON p.id = b.payload
"""

WORKERS = """
    SELECT *, (SELECT id FROM batches WHERE worker = workers.name AND state = 'leased'
               ORDER BY seq LIMIT 1) AS batch
    FROM workers
"""

RECORDS: Mapping[str, tuple[str, str]] = {
    "processors": ("SELECT * FROM processors", "rowid"),
    "latency": ("SELECT * FROM latency", "processor, bucket"),
    "processor_history": ("SELECT * FROM processor_history", "second"),
    "queue_history": ("SELECT * FROM queue_history", "second"),
    "errors": ("SELECT * FROM errors", "seq"),
    "traces": ("SELECT * FROM traces", "seq"),
    "states": ("SELECT * FROM states", "slot, processor"),
    "workers": (WORKERS, "slot"),
    "checkpoints": (
        "SELECT source, offset, line_number, head AS signature FROM positions",
        "source",
    ),
}
"""Table and order of each kind of record."""


def position_of(db: sqlite3.Connection, source: str) -> Checkpoint | None:
    """Return how far a source has been read."""
    row = db.execute(
        "SELECT source, offset, line_number, head AS signature FROM positions WHERE source = ?",
        (source,),
    ).fetchone()
    return Checkpoint(**dict(row)) if row else None


def control_values(db: sqlite3.Connection) -> dict[str, str]:
    """Return what an operator has asked for, as it is stored."""
    return dict(db.execute("SELECT key, value FROM control").fetchall())


def control_of(db: sqlite3.Connection) -> Control:
    """Return what an operator has asked for."""
    values = control_values(db)
    paused, reason = values.get("paused") == "1", values.get("reason", "")
    by: PausedBy | None = "worker" if values.get("paused_by") == "worker" else "operator"
    return Control(
        paused=paused,
        paused_by=by if paused else None,
        reason=reason,
        drains=int(values.get("drains", 0)),
        stops=int(values.get("stops", 0)),
    )


def can_lease(db: sqlite3.Connection) -> bool:
    """Say whether the queue is not paused, or has a step left."""
    values = control_values(db)
    return values.get("paused") != "1" or int(values.get("steps", "0")) > 0


def anything_ready(db: sqlite3.Connection, now: float) -> bool:
    """Say whether a batch waits, or a lease has run out."""
    sql = f"SELECT 1 FROM batches WHERE ({READY}) OR (state = 'leased' AND until < :now) LIMIT 1"
    return db.execute(sql, {"now": now}).fetchone() is not None


def leased_rows(db: sqlite3.Connection, token: str) -> list[sqlite3.Row]:
    """Return the batches of a lease with their payloads."""
    return db.execute(f"{BATCHES} WHERE b.token = ? ORDER BY b.seq", (token,)).fetchall()


def waiting_row(db: sqlite3.Connection, after: int) -> sqlite3.Row | None:
    """Return the first batch that waits behind a `seq`, with its payload."""
    row: sqlite3.Row | None = db.execute(
        f"{BATCHES} WHERE b.state = 'waiting' AND b.seq > ? ORDER BY b.seq LIMIT 1", (after,)
    ).fetchone()
    return row


def workers_of(db: sqlite3.Connection, host: str) -> dict[str, int]:
    """Return the process ids of a host's workers, by name."""
    return dict(db.execute("SELECT name, pid FROM workers WHERE host = ?", (host,)).fetchall())


def states_of(db: sqlite3.Connection, slot: int) -> dict[str, str]:
    """Return the states of a slot's processors."""
    sql = "SELECT processor, state FROM states WHERE slot = ?"
    return dict(db.execute(sql, (slot,)).fetchall())


def unpublished_of(db: sqlite3.Connection) -> list[Output]:
    """Return the files that may not have their final names."""
    return [Output(*row) for row in db.execute("SELECT staged, final FROM outputs")]


def stats_of(db: sqlite3.Connection, now: float) -> Stats:
    """Return the totals, all of one moment."""
    try:
        db.execute("BEGIN")
        rows = db.execute("SELECT name, lines, bytes FROM totals").fetchall()
        counts = dict(db.execute("SELECT state, count(*) FROM batches GROUP BY state").fetchall())
        oldest = db.execute("SELECT min(put_at) FROM batches WHERE state = 'waiting'").fetchone()[0]
        paused = control_of(db).paused
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    sizes = {row["name"]: row["bytes"] for row in rows}
    return Stats(
        **{row["name"]: row["lines"] for row in rows},
        waiting_bytes=sizes["waiting"],
        waiting_batches=counts.get("waiting", 0),
        leased_batches=counts.get("leased", 0),
        oldest_age=max(0.0, now - oldest) if oldest else 0.0,
        paused=paused,
    )


def records_of(
    db: sqlite3.Connection, kind: TableName, limit: int | None = None
) -> list[dict[str, Any]]:
    """Return the rows of one kind, the newest `limit` in old-to-new order."""
    select, order = RECORDS[kind]
    if limit is None:
        return [dict(row) for row in db.execute(f"{select} ORDER BY {order}")]
    newest = ", ".join(f"{column.strip()} DESC" for column in order.split(","))
    rows = db.execute(f"{select} ORDER BY {newest} LIMIT ?", (limit,)).fetchall()
    return [dict(row) for row in rows[::-1]]
