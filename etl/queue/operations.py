"""Every change of a store, as a function: the same tables and arguments give the same result.

Each takes a connection, the time in Unix seconds and plain arguments, changes
the tables of `schema.sql` and returns or raises what the caller is told. None
looks at a clock, a process or chance.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from etl.errors import LeaseLost, QueueFull, SourceLocked
from etl.queue import Checkpoint
from etl.queue.commit import add_totals, keep_outcome, record_totals
from etl.queue.dead_letters import move_dead_letters
from etl.queue.views import READY, can_lease, control_values, position_of
from etl.records.batch import Batch, Lease
from etl.records.result import BatchResult, Output

__all__ = ["OPERATIONS", "EncodedBatch", "LeaseRef", "Limits", "Part", "check_room"]

WORKER_GONE = 60.0
"""Seconds without a heartbeat after which a worker's slot may be taken."""

Limits = tuple[int | None, int | None]
"""Waiting lines and bytes of text at which `put` is refused."""

Part = tuple[str, int, int, int]
"""Id, first line, skipped lines and lines of a piece of a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedBatch:
    """A batch as a store keeps it: what is known of it, and its payload as encoded bytes."""

    id: str
    source: str
    format: str | None
    first_line: int
    skip: int
    lines: int
    size: int
    encoding: str
    data: bytes

    @classmethod
    def of(cls, batch: Batch) -> EncodedBatch:
        """Encode a batch."""
        encoding, data = batch.encode()
        return cls(
            id=batch.id,
            source=batch.source,
            format=batch.format,
            first_line=batch.first_line,
            skip=batch.skip,
            lines=batch.lines,
            size=batch.size,
            encoding=encoding,
            data=data,
        )


@dataclass(frozen=True, slots=True)
class LeaseRef:
    """A lease without its lines: its token, worker, first batch and number of batches."""

    token: str
    worker: str
    batch: str
    batches: int

    @classmethod
    def of(cls, lease: Lease) -> LeaseRef:
        """Leave the lines of a lease out."""
        return cls(lease.token, lease.worker, lease.batches[0].id, len(lease.batches))


# Batches


def put(
    db: sqlite3.Connection,
    now: float,
    *,
    batches: Sequence[EncodedBatch],
    checkpoint: Checkpoint | None,
    expected: Checkpoint | Literal["any"] | None,
    limits: Limits,
) -> list[str]:
    """Add batches that are not there yet, and move the position of their source.

    Returns the blobs of those that are, which nothing needs.

    Raises:
        QueueFull: If they go over the limits.
        SourceLocked: If the position is not the expected one.
    """
    new = check_room(db, batches, limits)
    if checkpoint is not None:
        if expected not in ("any", position_of(db, checkpoint.source)):
            raise SourceLocked(
                f"another run is reading {checkpoint.source!r} into this store; wait for it to end"
            )
        db.execute(
            "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
            (checkpoint.source, checkpoint.offset, checkpoint.line_number, checkpoint.signature),
        )
    _insert(db, now, new)
    add_totals(db, accepted=sum(batch.lines for batch in new))
    record_totals(db, now)
    if len(new) == len(batches):
        return []
    ids = {batch.id for batch in new}
    return [one.data.decode() for one in batches if one.id not in ids and one.encoding == "blob"]


def check_room(
    db: sqlite3.Connection, batches: Sequence[EncodedBatch], limits: Limits
) -> Sequence[EncodedBatch]:
    """Return the batches that are not there yet; into an empty queue they fit always.

    Raises:
        QueueFull: If they do not fit.
    """
    there = "SELECT 1 FROM batches WHERE id = ?"
    new = [batch for batch in batches if db.execute(there, (batch.id,)).fetchone() is None]
    if all(most is None for most in limits):
        return new
    lines, size = db.execute("SELECT lines, bytes FROM totals WHERE name = 'waiting'").fetchone()
    wanted = lines + sum(batch.lines for batch in new), size + sum(batch.size for batch in new)
    over = any(most is not None and n > most for n, most in zip(wanted, limits, strict=True))
    if lines and over:
        raise QueueFull(
            f"the queue has {lines} lines waiting, its limit; wait for workers, or open it "
            "with a higher limit"
        )
    return new


def lease(
    db: sqlite3.Connection, now: float, *, worker: str, token: str, lines: int, seconds: float
) -> tuple[float, int, int] | None:
    """Lend the oldest waiting batches; return until when, delivery and number of batches."""
    if not can_lease(db):
        return None
    db.execute(
        "UPDATE batches SET state = 'waiting', token = NULL, worker = NULL "
        "WHERE state = 'leased' AND until < ?",
        (now,),
    )
    rows = _choose(db, now, lines)
    if not rows:
        return None
    if control_values(db).get("paused") == "1":
        _count_control(db, steps=-1)
    until = now + seconds
    db.executemany(
        "UPDATE batches SET state = 'leased', worker = ?, token = ?, until = ?, "
        "deliveries = deliveries + 1 WHERE seq = ?",
        [(worker, token, until, row["seq"]) for row in rows],
    )
    return until, rows[0]["deliveries"] + 1, len(rows)


def renew(db: sqlite3.Connection, now: float, *, held: LeaseRef, seconds: float) -> None:
    """Let a lease run for some seconds from now."""
    changed = db.execute(
        "UPDATE batches SET until = ? WHERE token = ?", (now + seconds, held.token)
    )
    _guard(changed, held)


def commit(
    db: sqlite3.Connection, now: float, *, held: LeaseRef, outcome: BatchResult, trace: bytes | None
) -> list[str]:
    """Take the batches out, keep the outcome, and return blobs that nothing needs any more.

    Args:
        db: The store.
        now: Unix seconds.
        held: Whose lease it is.
        outcome: All but its trace.
        trace: The trace, encoded.
    """
    rows = db.execute(
        "SELECT id, source, format, payload FROM batches WHERE token = ? ORDER BY seq",
        (held.token,),
    ).fetchall()
    _guard(db.execute("DELETE FROM batches WHERE token = ?", (held.token,)), held)
    blobs = _drop_payloads(db, dict.fromkeys(row["payload"] for row in rows))
    keep_outcome(db, now, worker=held.worker, batch=rows[0], outcome=outcome, trace=trace)
    record_totals(db, now)
    return blobs


def release(db: sqlite3.Connection, now: float, *, held: LeaseRef, delay: float) -> None:
    """Let leased batches wait again; the delivery does not count."""
    changed = db.execute(
        "UPDATE batches SET state = 'waiting', token = NULL, worker = NULL, "
        "deliveries = deliveries - 1, not_before = ? WHERE token = ?",
        (now + delay if delay else 0.0, held.token),
    )
    _guard(changed, held)


def split(
    db: sqlite3.Connection, _now: float, *, held: LeaseRef, parts: Sequence[Sequence[Part]]
) -> None:
    """Put each leased batch back as these pieces of it."""
    old = db.execute("SELECT seq FROM batches WHERE token = ? ORDER BY seq", (held.token,))
    rows = old.fetchall()
    if len(rows) != held.batches:
        raise _lost(held)
    for row, pieces in zip(rows, parts, strict=True):
        db.executemany(
            "INSERT INTO batches (id, payload, source, format, first_line, skip, lines, bytes, "
            "put_at, deliveries) SELECT ?1, payload, source, format, ?2, ?3, ?4, "
            "bytes * ?4 / lines, put_at, 1 FROM batches WHERE seq = ?5",
            [(*piece, row["seq"]) for piece in pieces],
        )
        db.execute("DELETE FROM batches WHERE seq = ?", (row["seq"],))


# Workers


def register(db: sqlite3.Connection, now: float, *, worker: str, host: str, pid: int) -> int:
    """Make a worker known, forget those that are silent, and return the lowest free slot."""
    db.execute(
        "DELETE FROM workers WHERE name = ? OR heartbeat_at < ?", (worker, now - WORKER_GONE)
    )
    taken = {row["slot"] for row in db.execute("SELECT slot FROM workers")}
    slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
    db.execute("INSERT INTO workers VALUES (?, ?, ?, ?, ?, ?)", (worker, slot, host, pid, now, now))
    return slot


def heartbeat(db: sqlite3.Connection, now: float, *, worker: str) -> None:
    """Note that a worker lives."""
    db.execute("UPDATE workers SET heartbeat_at = ? WHERE name = ?", (now, worker))


def unregister(db: sqlite3.Connection, _now: float, *, worker: str) -> None:
    """Forget a worker that ends."""
    db.execute("DELETE FROM workers WHERE name = ?", (worker,))


def forget(db: sqlite3.Connection, _now: float, *, workers: Sequence[str]) -> list[str]:
    """Forget workers that are gone, take back what they held, and return its tokens."""
    tokens: list[str] = []
    held = "SELECT DISTINCT token FROM batches WHERE worker = ? AND state = 'leased'"
    for worker in workers:
        tokens += [row["token"] for row in db.execute(held, (worker,))]
        db.execute("DELETE FROM workers WHERE name = ?", (worker,))
    db.executemany(
        "UPDATE batches SET state = 'waiting', token = NULL, worker = NULL WHERE token = ?",
        [(token,) for token in tokens],
    )
    return tokens


def mark_published(db: sqlite3.Connection, _now: float, *, outputs: Sequence[Output]) -> None:
    """Note that files have their final names."""
    db.executemany("DELETE FROM outputs WHERE staged = ?", [(output.staged,) for output in outputs])


# Steering


def pause(db: sqlite3.Connection, _now: float, *, reason: str, by: str) -> None:
    """Lend nothing until `resume`."""
    _write_control(db, paused="1", paused_by=by, reason=reason, steps="0")


def resume(db: sqlite3.Connection, _now: float) -> None:
    """Lend again."""
    _write_control(db, paused="0", paused_by="", reason="", steps="0")


def step(db: sqlite3.Connection, _now: float, *, batches: int) -> None:
    """Let some leases through a pause."""
    _count_control(db, steps=batches)


def drain(db: sqlite3.Connection, _now: float) -> None:
    """Count that workers were asked to end once nothing waits."""
    _count_control(db, drains=1)


def stop(db: sqlite3.Connection, _now: float) -> None:
    """Count that workers were asked to end after their batch."""
    _count_control(db, stops=1)


# Dead letters


def replay(
    db: sqlite3.Connection, now: float, *, ids: Sequence[int], batches: Sequence[EncodedBatch]
) -> None:
    """Move open dead letters back to waiting, as these batches."""
    lines = move_dead_letters(db, ids, "replaying")
    add_totals(db, dead=-lines)
    _insert(db, now, batches)
    record_totals(db, now)


def discard(db: sqlite3.Connection, _now: float, *, ids: Sequence[int]) -> None:
    """Close open dead letters for good."""
    move_dead_letters(db, ids, "discarded")


OPERATIONS: dict[str, Callable[..., Any]] = {
    operation.__name__: operation
    for operation in (
        *(put, lease, renew, commit, release, split),
        *(register, heartbeat, unregister, forget, mark_published),
        *(pause, resume, step, drain, stop),
        *(replay, discard),
    )
}
"""All of them by name, as a journal calls them."""


def _insert(db: sqlite3.Connection, now: float, batches: Sequence[EncodedBatch]) -> None:
    for batch in batches:
        payload = db.execute(
            "INSERT INTO payloads (encoding, data) VALUES (?, ?)", (batch.encoding, batch.data)
        ).lastrowid
        db.execute(
            "INSERT INTO batches (id, payload, source, format, first_line, skip, lines, bytes, "
            "put_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                batch.id,
                payload,
                batch.source,
                batch.format,
                batch.first_line,
                batch.skip,
                batch.lines,
                batch.size,
                now,
            ),
        )


def _choose(db: sqlite3.Connection, now: float, lines: int) -> list[Any]:
    """Return the oldest waiting batch and the small ones after it that go with it.

    A batch that was lent before goes alone: if it kills workers, it takes
    no other with it. So does a reference, whose file may have changed.
    """
    columns = "seq, id, source, format, lines, deliveries, "
    columns += "(SELECT encoding FROM payloads WHERE id = payload) AS encoding"
    first = db.execute(
        f"SELECT {columns} FROM batches WHERE {READY} ORDER BY seq LIMIT 1", {"now": now}
    ).fetchone()
    if first is None:
        return []
    rows, left = [first], lines - first["lines"]
    if first["deliveries"] or left <= 0 or first["encoding"] == "reference":
        return rows
    followers = db.execute(
        f"SELECT {columns} FROM batches WHERE {READY} AND seq > :seq ORDER BY seq LIMIT :left",
        {"now": now, "seq": first["seq"], "left": left},
    )
    for row in followers:
        left -= row["lines"]
        alike = (row["source"], row["format"]) == (first["source"], first["format"])
        alike &= row["encoding"] != "reference"
        if left < 0 or row["deliveries"] or not alike:
            break
        rows.append(row)
    return rows


def _drop_payloads(db: sqlite3.Connection, payloads: Iterable[int]) -> list[str]:
    """Delete the payloads of which no part is left; return those that are blobs elsewhere."""
    blobs: list[str] = []
    for payload in payloads:
        used = db.execute("SELECT 1 FROM batches WHERE payload = ? LIMIT 1", (payload,))
        if used.fetchone() is None:
            found = db.execute(
                "SELECT data FROM payloads WHERE id = ? AND encoding = 'blob'", (payload,)
            )
            blobs += [row["data"].decode() for row in found]
            db.execute("DELETE FROM payloads WHERE id = ?", (payload,))
    return blobs


def _guard(changed: sqlite3.Cursor, held: LeaseRef) -> None:
    if changed.rowcount != held.batches:
        raise _lost(held)


def _lost(held: LeaseRef) -> LeaseLost:
    return LeaseLost(
        f"worker {held.worker!r} lost its lease on batch {held.batch}; nothing was changed"
    )


def _write_control(db: sqlite3.Connection, **values: str) -> None:
    db.executemany("INSERT OR REPLACE INTO control VALUES (?, ?)", list(values.items()))


def _count_control(db: sqlite3.Connection, **counts: int) -> None:
    values = control_values(db)
    _write_control(db, **{key: str(int(values.get(key, 0)) + n) for key, n in counts.items()})
